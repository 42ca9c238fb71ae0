"""A folder of images with every oddity that real folders have."""

from __future__ import annotations

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
    pixels, labels = photographs()
    files = []
    for name, number in zip(NAMES, range(3), strict=True):
        (folder / name).mkdir(parents=True)
        for k, image in enumerate(pixels[labels == number][:per_class]):
            files.append(_write(folder / name / f"{k:02}", Image.fromarray(image), k))
    return files


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
