"""Code and pages use the glossary's words: none of the turns of phrase and names that it replaces is left."""

from __future__ import annotations

from pathlib import Path

from docs.prose import ROOT, files, findings, vague_names


def test_sentences_and_names_are_plain() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{line}: {phrase}"
        for path in files()
        for line, phrase in [*findings(path), *(vague_names(path) if path.suffix == ".py" else ())]
    ]
    assert not places, "docs/glossary.md says what to write instead"


def test_phrases_are_found_in_docstrings_comments_strings_and_across_lines(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        '"""The budget: so many\n    trials."""\n'
        "x = 1  # the worker\n"
        "# is told of it\n"
        'raise ValueError(f"{x} is none of {x}")\n'
        "known = is_none\n"
    )
    assert [phrase.split() for _, phrase in findings(file)] == [
        ["so", "many", "trials"],
        ["is", "none"],
        ["is", "told"],
    ]
    assert list(vague_names(file)) == [(6, "known")]


def test_code_in_pages_is_not_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Run `is none` and:\n\n```\nis none\n```\n\nThere is none.\n")
    assert list(findings(page)) == [(7, "is none")]
