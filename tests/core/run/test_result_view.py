"""How a result is shown in a Python shell and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import automl_nas
from automl_nas.run import Result
from automl_nas.testing import ToyCost, ToyEvaluator, ToySpace


def _search(out: Path, **more: object) -> Result:
    return automl_nas.search(
        out=out,
        space=ToySpace,
        stages=[{"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "budget": {"trials": 3}}],
        **{"problem": {"objectives": {"accuracy": "maximize"}, "costs": {"cost": ToyCost}}, **more},  # type: ignore[arg-type]
    )


def test_a_result_in_a_shell_is_one_short_line(tmp_path: Path) -> None:
    result = _search(tmp_path / "run")
    text = repr(result)
    accuracy = result.best.metrics["accuracy"]
    assert text.startswith(f"Result({str(tmp_path / 'run')!r}: 3 trials, accuracy {accuracy:.4g}")
    assert "cost" in text
    assert len(text.splitlines()) == 1
    assert len(text) < 200 + len(str(tmp_path))


class _Tags(HTMLParser):
    """Collects tags, and checks that each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_notebook_shows_a_table_in_which_names_are_only_text(tmp_path: Path) -> None:
    result = _search(tmp_path / "<script>alert(1)</script>")
    tags = _Tags(result._repr_html_())
    assert tags.open == []
    assert tags.seen <= {"table", "tr", "th", "td", "code", "small", "details", "summary", "br"}
    for name in result.architecture:
        assert name in result._repr_html_()


def test_what_was_not_achieved_is_shown(tmp_path: Path) -> None:
    problem = {"objectives": {"accuracy": "maximize"}, "constraints": {"accuracy": ">= 2"}}
    result = _search(tmp_path / "run", problem=problem)
    assert not result.found
    assert repr(result).endswith("3 trials, not achieved: a feasible network)")
    assert "a feasible network" in result._repr_html_()
