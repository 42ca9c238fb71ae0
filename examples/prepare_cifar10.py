"""Decode the compressed CIFAR-10 archive into a plain .npz file that the task ``npz`` reads.

    python examples/prepare_cifar10.py DIR/cifar10.npz OUT.npz --size 16 --subset 10000

The archive contains the images as differences, compressed with xz; see `decode`. The result contains ``train_images``,
``train_labels``, ``test_images`` and ``test_labels``, images as uint8 of shape (samples, size, size, 3). With half the
size, each pixel is the mean of 2 x 2 pixels. Do not commit the file to a repository: CIFAR-10 has no licence. Its
author asks for a citation (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def decode(stream: bytes) -> Pixels:
    """Return the images of a compressed stream, shape ``(samples, 32, 32, 3)``.

    The stream is xz-compressed bytes of shape (samples, 3, 32, 32). The first and the third colour are relative to the
    second; of each plane, the stream contains the differences along the columns of the differences along the rows. All
    sums are modulo 256.
    """
    planes = np.frombuffer(lzma.decompress(stream), dtype=np.uint8).reshape(-1, 3, 32, 32)
    planes = planes.cumsum(axis=2, dtype=np.uint8).cumsum(axis=3, dtype=np.uint8)
    planes[:, 0] += planes[:, 1]
    planes[:, 2] += planes[:, 1]
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def shrink(images: Pixels, size: int) -> Pixels:
    """Return images of ``size`` x ``size`` pixels, each pixel the rounded mean of a square; ``size`` divides 32."""
    step = images.shape[1] // size
    if step == 1:
        return images
    squares = images.reshape(len(images), size, step, size, step, 3)
    means: NDArray[np.float32] = squares.mean(axis=(2, 4), dtype=np.float32)
    return np.rint(means).astype(np.uint8)


def balanced(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return the sorted indices of ``count`` samples, with equal numbers of each class (up to a difference of one)."""
    order = np.random.default_rng(seed).permutation(len(labels))
    position = np.empty(len(labels), dtype=np.int64)
    for kind in np.unique(labels):
        members = order[labels[order] == kind]
        position[members] = np.arange(len(members))
    return np.sort(order[np.argsort(position[order], kind="stable")][:count])


def main() -> None:
    """Read and check the archive, shrink the images, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path, help="the compressed archive")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument("--size", type=int, choices=(32, 16, 8), default=32, help="pixels along an edge")
    parser.add_argument(
        "--subset", type=int, help="the number of training images, balanced over the classes (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of the subset")
    options = parser.parse_args()
    arrays: dict[str, NDArray[np.generic]] = {}
    with np.load(options.archive, allow_pickle=False) as archive:
        for split in ("train", "test"):
            images = decode(archive[f"{split}_images_xz"].tobytes())
            labels = archive[f"{split}_labels"]
            digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
            if digest != str(archive[f"{split}_sha256"]):
                raise SystemExit(f"the {split} images of {options.archive} are damaged: their SHA-256 is {digest}")
            if split == "train" and options.subset is not None:
                indices = balanced(labels.astype(np.int64), options.subset, options.seed)
                images, labels = images[indices], labels[indices]
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = shrink(images, options.size), labels
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.out, **arrays)  # type: ignore[arg-type]
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{options.out}: {shapes}")


if __name__ == "__main__":
    main()
