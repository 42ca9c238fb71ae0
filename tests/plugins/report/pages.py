"""Reading pages: their text, and the rules that all of them keep."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """A page: its text, its tags, its SVG elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.text = html, ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data + " "

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())

    def count(self, tag: str, class_: str = "") -> int:
        return sum(name == tag and (not class_ or attrs.get("class") == class_) for name, attrs in self.tags)

    def check(self) -> None:
        """Check that the page runs nothing and loads nothing."""
        for tag, attrs in self.tags:
            assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form", "image", "use"}
            for name, value in attrs.items():
                assert not name.startswith("on"), (tag, name)
                if tag == "img" and name == "src":  # a part of the page itself; a browser runs no script of it
                    assert (value or "").startswith("data:image/svg+xml;base64,"), value
                    continue
                assert name not in {"src", "href", "xlink:href", "action"}, (tag, name)
                if name == "style":
                    assert "url(" not in (value or "")
        assert "@import" not in self.html and "@font-face" not in self.html
        addresses = set(re.findall(r"https?://[^\s\"'<)]+", self.html))
        assert addresses <= {"http://www.w3.org/2000/svg"}
