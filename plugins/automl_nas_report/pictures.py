"""Pictures that plugins wrote into a run directory, such as the derived cells."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

MOST_PICTURES = 24
"""The largest number of pictures in a report."""

MOST_BYTES = 500_000
"""The largest size of a picture file that is shown."""


@dataclass(frozen=True)
class Picture:
    """A picture of the run directory.

    Attributes:
        name: its path in the run directory.
        address: a data URI with the SVG. As the source of an image, a browser runs no script of it and loads nothing.
    """

    name: str
    address: str


def found_pictures(directory: Path) -> tuple[list[Picture], int]:
    """Return the SVG files in the folders of a run directory, by path, and how many are left out.

    Files that are too large or cannot be read, and those after the first `MOST_PICTURES`, are left out.
    """
    files = sorted(directory.glob("*/*.svg"))
    pictures: list[Picture] = []
    for file in files:
        if len(pictures) == MOST_PICTURES:
            break
        try:
            if not file.is_file() or file.stat().st_size > MOST_BYTES:
                continue
            content = file.read_bytes()
        except OSError:  # the report is written without this picture
            continue
        address = "data:image/svg+xml;base64," + base64.b64encode(content).decode("ascii")
        pictures.append(Picture(file.relative_to(directory).as_posix(), address))
    return pictures, len(files) - len(pictures)
