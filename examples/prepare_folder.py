"""Write photographs from an .npz file (see docs/how_to/tasks.md) as class folders of PNG and JPEG files."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main(source: Path, folder: Path, per_class: int = 200) -> None:
    """Write up to ``per_class`` training images of each class; every other one is a JPEG file."""
    with np.load(source) as arrays:
        images, labels = arrays["train_images"], arrays["train_labels"].ravel()
    for number in np.unique(labels).tolist():
        target = folder / f"class_{number}"
        target.mkdir(parents=True, exist_ok=True)
        for k, pixels in enumerate(images[labels == number][:per_class]):
            Image.fromarray(pixels).save(target / f"{k:04}.{'jpg' if k % 2 else 'png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "photographs"))
