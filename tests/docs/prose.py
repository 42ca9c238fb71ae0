"""Turns of phrase that the glossary replaces, and where they are: ``python tests/docs/prose.py [PATH ...]``."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATTERNS = (
    r"\bso many (trials|steps|epochs|times|failed|seconds|samples|images|iterations|processes|networks)\b",
    r"\bis (?-i:none)\b",
    r"\bare (?-i:none)\b",
    r"(?<!there\s)\bis no (?!longer\b|more\b|less\b|matter\b)\w+",
    r"\ba text\b",
    r"\btexts\b",
    r"\b(is|are|was|were|be|being|been) told\b",
    r"\btold (of|apart|what|by|about|that|how)\b",
    r"\bsays? so\b",
    r"\bupside down\b",
    r"\bleaves? nothing\b",
    r"\bbelongs? into\b",
    r"\bhowever (it|they|that) (ended|ends|end|went)\b",
    r"\bwhatever became of\b",
    r"\bgo(es)? with (it|them|the process|the session)\b",
    r"\bstands? (above|below|beside|behind|in|there|here|first|after|before|on|at|where|alone)\b",
    r"\bspeaks? of\b",
    r"\bfor good\b",
    r"\bdearest\b",
    r"\bsooner\b",
    r"\bin the place of\b",
    r"\bby and large\b",
)
"""Regular expressions, without regard to case."""

VAGUE_NAMES = frozenset({"found", "known", "made", "given", "told", "here", "wanted", "kept"})
"""Participles that say nothing of what a variable holds: use the noun (candidates, costs, module)."""

EXCLUDED = ("glossary.md", "CHANGELOG.md")

# A phrase may run over the end of a line.
_EXPRESSION = re.compile(
    "|".join("(?:" + pattern.replace(" ", r"\s+") + ")" for pattern in PATTERNS), flags=re.IGNORECASE
)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", flags=re.DOTALL)


def findings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and phrase in docstrings, comments and strings of Python, or in the text of Markdown."""
    text = path.read_text(encoding="utf-8")
    passages = _of_python(text) if path.suffix == ".py" else [(1, text)]
    for line, passage in passages:
        # Code is blanked, not removed: line numbers stay right. Lines are joined, since phrases run over their ends.
        prose = _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), passage)
        joined = re.sub(r"\n[ \t#]*", lambda match: "\n" + " " * (len(match[0]) - 1), prose)
        for match in _EXPRESSION.finditer(joined):
            yield line + passage[: match.start()].count("\n"), match[0]


def vague_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and name of the variables and parameters of a Python file that are called by a participle."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE_NAMES:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg) and node.arg in VAGUE_NAMES:
            yield node.lineno, node.arg


def _of_python(text: str) -> list[tuple[int, str]]:
    """Return first line and text of docstrings, string literals with a space in them, and blocks of comments."""
    passages: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            passages.append((node.lineno, node.value))
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                passages.append((first, "\n".join(block)))
                block = []
            if not block:
                first = token.start[0]
            block.append(token.string)
            last = token.start[0]
    if block:
        passages.append((first, "\n".join(block)))
    return passages


def files(*roots: str) -> list[Path]:
    """Return the Python and Markdown files below some paths of the repository, but the glossary and the changelog."""
    found: set[Path] = set()
    for root in roots or ("automl_nas", "plugins", "docs", "examples", "benchmarks", "README.md"):
        place = ROOT / root
        found |= {place} if place.is_file() else {*place.rglob("*.py"), *place.rglob("*.md")}
    return sorted(
        path for path in found if path.name not in ("glossary.md", "CHANGELOG.md") and "_build" not in path.parts
    )


if __name__ == "__main__":
    count = 0
    for file in files(*sys.argv[1:]):
        for line, phrase in findings(file):
            print(f"{file.relative_to(ROOT)}:{line}: {phrase}")
            count += 1
        for line, name in vague_names(file) if file.suffix == ".py" else ():
            print(f"{file.relative_to(ROOT)}:{line}: the name '{name}'")
            count += 1
    print(f"{count} to rewrite")
