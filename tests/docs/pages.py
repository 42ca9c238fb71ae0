"""The pages of the documentation, and what stands on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PARTS = ("tutorials", "how_to", "concepts", "reference")
"""The folders of the documentation; decisions are the record of why."""
PAGES = (
    ROOT / "README.md",
    *sorted(DOCS.glob("*.md")),
    *(page for part in (*PARTS, "decisions") for page in sorted((DOCS / part).glob("*.md"))),
    ROOT / "examples" / "third_party_plugin" / "README.md",
)
QUICKSTART = ROOT / "examples" / "configs" / "quickstart.yaml"
TOY = (
    "space.widths=[16, 32]",
    "space.repeats=[1, 1]",
    "space.last_channels=16",
    "space.stem_channels=8",
    "problem.constraints.flops=<= 0.9 * largest",
    "stages.supernet.strategy.train.epochs=1",
    "stages.supernet.strategy.train.warmup_epochs=0",
    "stages.search.strategy.population=4",
    "stages.search.strategy.generations=2",
    "stages.search.evaluator.recalibration_images=64",
    "final.train.epochs=1",
)
"""What makes any of the configurations a matter of seconds."""

_BLOCK = re.compile(r"((?:^<!-- in tests: .*? -->\n)*)^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_CHANGE = re.compile(r"^<!-- in tests: (.*?) => (.*?) -->$", flags=re.MULTILINE)


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Return the code blocks of a language: as readers see them, and as tests run them.

    A comment ``<!-- in tests: OLD => NEW -->`` above a block changes what the test runs, to make long work short.
    """
    return [(shown, run) for kind, shown, run in all_blocks(page) if kind == language]


def all_blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return the code blocks in the order of the page: language, as readers see it, as tests run it."""
    result = []
    for changes, language, shown in _BLOCK.findall(page.read_text(encoding="utf-8")):
        run = shown
        for old, new in _CHANGE.findall(changes):
            assert old in run, f"{name(page)}: nothing to change: {old}"
            run = run.replace(old, new)
        result.append((language, shown, run))
    return result


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them, and its explicit ones."""
    text = prose(page)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))
