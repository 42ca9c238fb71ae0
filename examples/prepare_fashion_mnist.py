"""Convert the gzipped IDX files of Fashion-MNIST into a plain .npz file that the task ``npz`` reads.

    python examples/prepare_fashion_mnist.py /usr/share/datasets/fashion-mnist OUT.npz --subset 10000

The four files are published by the authors of the data set (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747; MIT licence);
Debian's package ``dataset-fashion-mnist`` installs them in the folder above. The result contains ``train_images``,
``train_labels``, ``test_images`` and ``test_labels``, images as uint8 of shape (samples, 28, 28).
"""

from __future__ import annotations

import argparse
import gzip
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prepare_cifar10 import balanced

FILES = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of bytes of a gzipped IDX file.

    The format: two zero bytes, 8 for unsigned bytes, the number of dimensions; then the dimensions as big-endian 32-bit
    numbers; then the elements.
    """
    data = gzip.decompress(path.read_bytes())
    zero, kind, dimensions = struct.unpack_from(">HBB", data)
    shape = struct.unpack_from(f">{dimensions}I", data, 4) if dimensions else ()
    if zero or kind != 8 or not shape or len(data) != 4 + 4 * dimensions + math.prod(shape):
        raise SystemExit(f"{path} is not an IDX file of unsigned bytes, or is truncated")
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def main() -> None:
    """Read the files, select the training images, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the folder of the four .gz files")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument(
        "--subset", type=int, help="the number of training images, balanced over the classes (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of the subset")
    options = parser.parse_args()
    arrays: dict[str, NDArray[np.uint8]] = {}
    for split, name in FILES.items():
        images = read_idx(options.folder / f"{name}-images-idx3-ubyte.gz")
        labels = read_idx(options.folder / f"{name}-labels-idx1-ubyte.gz")
        if split == "train" and options.subset is not None:
            indices = balanced(labels.astype(np.int64), options.subset, options.seed)
            images, labels = images[indices], labels[indices]
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.out, **arrays)  # type: ignore[arg-type]
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{options.out}: {shapes}")


if __name__ == "__main__":
    main()
