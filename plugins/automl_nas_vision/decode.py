"""One image file -> pixels of a size: rotation, colour, transparency, 16 bits, resizing."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from automl_nas.errors import DataError
from automl_nas.evaluation import Indices
from automl_nas_vision.steps import Pixels

Resize = Literal["squash", "crop", "pad"]
MOST_PIXELS = 178_956_970
"""The largest number of pixels of an image (2 ** 29 / 3, where Pillow refuses an image as a decompression bomb)."""


class BrokenImageError(Exception):
    """A file is not a readable image; the message says why."""


@dataclass(frozen=True)
class Format:
    """How images are brought to one form.

    Attributes:
        size: ``(height, width)``.
        channels: 1 (grey) or 3 (RGB).
        resize: ``squash``, ``crop`` or ``pad``; see `automl_nas.evaluation.Task.preprocessing`.
        fill: the grey level of the padding, 0 to 255.
        background: the grey level behind transparent pixels, 0 to 255.
    """

    size: tuple[int, int]
    channels: int
    resize: Resize
    fill: int
    background: int

    def read(self, path: str) -> Pixels:
        """Return the pixels of a file, uint8, shape ``(channels, height, width)``.

        Raises:
            BrokenImageError: the file is not a readable image.
        """
        return self.pixels(open_image(path))

    def pixels(self, image: Image.Image) -> Pixels:
        """Return the pixels of an image, uint8, shape ``(channels, height, width)``.

        Raises:
            BrokenImageError: its values have an unknown range, or a side would become 0.
        """
        try:
            image = self._resized(self._coloured(image))
        except (ValueError, OSError) as error:
            raise BrokenImageError(f"{image.width} x {image.height} pixels cannot be converted: {error}") from error
        pixels = np.asarray(image, dtype=np.uint8)
        return np.ascontiguousarray(pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1))

    def _coloured(self, image: Image.Image) -> Image.Image:
        mode = "L" if self.channels == 1 else "RGB"
        if image.mode == "F" or image.mode.startswith("I"):
            image = _eight_bits(image)
        if image.has_transparency_data:
            # Alpha compositing, not convert: convert would show the colours that are hidden behind transparent pixels.
            layer = image.convert("RGBA")
            grey = self.background
            image = Image.alpha_composite(Image.new("RGBA", image.size, (grey, grey, grey, 255)), layer).convert("RGB")
        return image if image.mode == mode else image.convert(mode)

    def _resized(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if image.size == (width, height):
            return image
        if self.resize == "squash":
            return image.resize((width, height), Image.Resampling.BILINEAR)
        if self.resize == "crop":
            return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        colour = self.fill if self.channels == 1 else (self.fill,) * 3
        return ImageOps.pad(image, (width, height), Image.Resampling.BILINEAR, color=colour)


@dataclass(frozen=True)
class FileImages:
    """Reads images from files when they are needed.

    Attributes:
        paths: of the files.
        form: the form of the images.
    """

    paths: tuple[str, ...]
    form: Format

    def __call__(self, indices: Indices) -> Pixels:
        """Read images, uint8 ``(len(indices), channels, height, width)``.

        Raises:
            DataError: a file became unreadable since the task was constructed.
        """
        result = np.empty((len(indices), self.form.channels, *self.form.size), dtype=np.uint8)
        with quiet():
            for place, index in enumerate(indices.tolist()):
                try:
                    result[place] = self.form.read(self.paths[index])
                except BrokenImageError as error:
                    raise DataError(
                        f"{shown(self.paths[index])} could be read when the task was constructed, and cannot now: "
                        f"{error}"
                    ) from error
        return result


def open_image(path: str) -> Image.Image:
    """Return the decoded first frame of a file, turned as its EXIF orientation says.

    Raises:
        BrokenImageError: the file is missing, is not an ordinary file, or cannot be decoded.
    """
    try:
        # A pipe would block for ever, and a device might never end.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a path of bytes that are not UTF-8 is a str, too
            raise BrokenImageError("it is not an ordinary file")
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BrokenImageError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS:,}")
            image.load()
            return ImageOps.exif_transpose(image)
    except BrokenImageError:
        raise
    except MemoryError as error:
        raise BrokenImageError("it does not fit into memory") from error
    except Exception as error:  # Pillow raises errors of many classes for damaged content
        raise BrokenImageError(_reason(error, path)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings of oddities that do not change pixels, such as damaged EXIF data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        yield


def shown(path: str) -> str:
    """Return a path for messages; bytes that are not UTF-8 and control characters are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits with 8 bits: the level v becomes the nearest integer to v / 257."""
    values = np.asarray(image)
    if image.mode == "F" or (values.size and (values.min() < 0 or values.max() > 65535)):
        raise BrokenImageError(
            f"its pixels go from {values.min():g} to {values.max():g}; convert it to 8 or 16 bits, since the range of "
            "such values is not known"
        )
    return Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a format that Pillow reads" if os.stat(path).st_size else "it is empty"  # noqa: PTH116
    return f"{type(error).__name__}: {error}".replace(path, shown(path))
