"""The templates of pages, and writing a page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from automl_nas.errors import ConfigurationError
from automl_nas.run import cost, duration, exact, human, measured, write_text

_GENERATOR = b'<meta name="generator" content="automl_nas report">'
"""What the base template contains, by which a page is recognised."""


@cache
def _templates() -> jinja2.Environment:
    """Return the templates. All values are escaped, apart from drawings, which escape their own."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cost": _or_unknown(cost),
        "duration": duration,
        "exact": exact,
        "human": _or_unknown(human),
        "measured": measured,
    }
    return environment


def _or_unknown(function: Any) -> Any:
    return lambda value: "unknown" if value is None or value != value else function(value)


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return _templates().get_template(template).render(values)


def write_page(path: Path, page: str) -> None:
    """Write a page atomically. An older page is replaced, any other file is not.

    Raises:
        ConfigurationError: the folder does not exist, the path is a folder, or a file that is not one of these pages.
        RunFailedError: the file cannot be written.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; --out names the HTML file")
    if not path.parent.is_dir():
        raise ConfigurationError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    if path.exists() and path.stat().st_size and not _is_page(path):
        raise ConfigurationError(f"{path} exists and is not a report; choose another --out, or move the file away")
    # A name that was not UTF-8 has surrogates, which no file in UTF-8 can hold.
    write_text(
        path, page.encode("utf-8", "replace").decode(), full="free some space, or write to another disk with --out"
    )


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return _GENERATOR in file.read(500)
