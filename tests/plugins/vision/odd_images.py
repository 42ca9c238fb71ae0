"""A folder of images with every oddity that real folders have."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DATA = Path(__file__).parents[4] / "shared" / "data" / "cifar10_small.npz"
NAMES = ("airplane", "cat", "ship")


def photographs() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return 32 x 32 colour images of three classes: of CIFAR-10, or generated ones if its file is absent."""
    if DATA.is_file():
        with np.load(DATA) as arrays:
            pixels, labels = arrays["train_images"], arrays["train_labels"].astype(np.int64).ravel()
        chosen = np.concatenate([np.flatnonzero(labels == k)[:24] for k in (0, 3, 8)])
        return pixels[chosen], np.repeat(np.arange(3), 24)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 24)
    # Smooth like photographs: compression stores the colours of neighbouring pixels together.
    coarse = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in NAMES]
    base = np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)) for image in coarse])[:, None]
    noise = rng.integers(-8, 9, (3, 24, 32, 32, 3))
    return np.clip(base + noise, 0, 255).astype(np.uint8).reshape(-1, 32, 32, 3), labels


def write(folder: Path, per_class: int = 24) -> list[Path]:
    """Write three class folders; the images of each class go through all formats and modes in turn."""
    files = []
    for name, content in _contents(per_class):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        files.append(file)
    return files


@cache
def _contents(per_class: int) -> list[tuple[str, bytes]]:
    """Return the relative paths and bytes of the files; compressing them anew for each of forty tests is slow."""
    pixels, labels = photographs()
    contents = []
    for name, number in zip(NAMES, range(3), strict=True):
        with tempfile.TemporaryDirectory() as scratch:
            for k, image in enumerate(pixels[labels == number][:per_class]):
                file = _write(Path(scratch) / f"{k:02}", Image.fromarray(image), k)
                contents.append((f"{name}/{file.name}", file.read_bytes()))
    return contents


def _write(stem: Path, image: Image.Image, kind: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    sixteen = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    alpha = image.convert("RGBA")
    alpha.putalpha(image.convert("L"))
    suffix, written, settings = [
        (".png", image, {}),
        (".JPG", image, {"quality": 95}),
        (".jpeg", image.resize((57, 41)), {"quality": 95}),
        (".png", image.convert("L"), {}),
        (".png", image.quantize(64), {}),
        (".png", alpha, {}),
        (".jpg", image.convert("CMYK"), {"quality": 95}),
        (".png", sixteen, {}),
        (".jpg", turned, {"quality": 95, "exif": exif}),
        (".gif", image.quantize(64), {"save_all": True, "append_images": [turned.quantize(8)]}),
        (".tif", image.convert("LAB"), {"icc_profile": None}),  # the profile would have the time of its creation
        (".webp", image.resize((20, 90)), {"lossless": True}),
    ][kind % 12]
    path = stem.with_suffix(suffix)
    written.save(path, **settings)
    return path
