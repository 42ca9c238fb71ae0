"""Write photographs from an .npz file as a folder with every oddity of real folders, and a few new files beside it.

    python examples/prepare_odd_folder.py DIR/cifar10_small.npz photographs

Files have different sizes and formats (PNG, JPEG, GIF, TIFF, WebP), and are coloured, grey, of a palette, transparent,
CMYK, of 16 bits, or turned by EXIF. Some files are broken, one class is empty, one has two images, and others have few.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Writer = Callable[[Image.Image], tuple[str, Image.Image, dict[str, Any]]]
"""Returns the suffix, the image, and the settings with which Pillow saves it."""


def _turned(image: Image.Image) -> tuple[str, Image.Image, dict[str, Any]]:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a rotation by 90 degrees clockwise
    return ".jpg", image.transpose(Image.Transpose.ROTATE_90), {"quality": 95, "exif": exif}


def _transparent(image: Image.Image) -> tuple[str, Image.Image, dict[str, Any]]:
    alpha = image.convert("RGBA")
    alpha.putalpha(image.convert("L"))
    return ".png", alpha, {}


def _sixteen_bits(image: Image.Image) -> tuple[str, Image.Image, dict[str, Any]]:
    return ".png", Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), {}


def _animated(image: Image.Image) -> tuple[str, Image.Image, dict[str, Any]]:
    second = image.transpose(Image.Transpose.ROTATE_180).quantize(8)
    return ".gif", image.quantize(64), {"save_all": True, "append_images": [second]}


KINDS: list[Writer] = [
    lambda image: (".png", image, {}),
    lambda image: (".JPG", image, {"quality": 95}),
    lambda image: (".jpeg", image.resize((57, 41)), {"quality": 95}),
    lambda image: (".png", image.convert("L"), {}),
    lambda image: (".png", image.quantize(64), {}),
    lambda image: (".png", image.quantize(64), {"transparency": 3}),
    _transparent,
    lambda image: (".png", image.convert("LA"), {}),
    lambda image: (".jpg", image.convert("CMYK"), {"quality": 95}),
    _sixteen_bits,
    _turned,
    _animated,
    lambda image: (".tif", image.convert("LAB"), {}),
    lambda image: (".webp", image.resize((20, 90)), {"lossless": True}),
    lambda image: (".jpg", image.resize((480, 320), Image.Resampling.BICUBIC), {"quality": 90}),
    lambda image: (".png", image.convert("1"), {}),
]
"""The images of a class are written in these ways in turn."""


def write(image: Image.Image, stem: Path, kind: int) -> Path:
    """Write an image in one of the ways of `KINDS`; return the file."""
    suffix, written, settings = KINDS[kind % len(KINDS)](image)
    written.save(stem.with_suffix(suffix), **settings)
    return stem.with_suffix(suffix)


def main(source: Path, folder: Path, per_class: int = 200) -> None:
    """Write the training images to ``folder``, and some test images to a folder ``new`` beside it.

    Of ten classes, seven have ``per_class`` images, two a fifth of it, and one has two.
    """
    with np.load(source) as arrays:
        images, labels, names = (arrays[name] for name in ("train_images", "train_labels", "class_names"))
        new_images, new_labels = arrays["test_images"], arrays["test_labels"].ravel()
    counts = [per_class] * (len(names) - 3) + [max(8, per_class // 5)] * 2 + [2]
    new = folder.parent / "new"
    new.mkdir(parents=True, exist_ok=True)
    for number, (name, count) in enumerate(zip(names.tolist(), counts, strict=True)):
        (folder / name).mkdir(parents=True)
        for k, pixels in enumerate(images[labels.ravel() == number][:count]):
            write(Image.fromarray(pixels), folder / name / f"{k:04}", k)
        for k, pixels in enumerate(new_images[new_labels == number][:3]):
            write(Image.fromarray(pixels), new / f"{name}{k}", 3 * number + k)
    (folder / "unsorted").mkdir()  # a class without an image
    first, second = (folder / str(name) for name in names[:2])
    (first / "truncated.jpg").write_bytes((first / "0001.JPG").read_bytes()[:500])
    (first / "empty.png").write_bytes(b"")
    (second / "page.jpg").write_text("<html>404: not found</html>")
    (second / "notes.txt").write_text("not an image")
    (new / "truncated.jpg").write_bytes((first / "truncated.jpg").read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "photographs"), *map(int, sys.argv[3:4]))
