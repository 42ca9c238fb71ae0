"""The task `torchvision`: classification data sets of torchvision by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.evaluation import ClassWeights, Indices, LossSettings, Sampler, Sizes, SplitSettings
from automl_nas.torchvision_import import import_torchvision
from automl_nas_vision.augment import Augment
from automl_nas_vision.decode import BrokenImageError, Format, Resize, quiet
from automl_nas_vision.images import Images, ImageTask, MemoryImages, Reader
from automl_nas_vision.steps import Pixels

# This module is imported when a configuration names the task, and by loader workers when they start.
datasets = import_torchvision("torchvision.datasets")

IN_MEMORY = 1 << 29
"""Images are kept in memory if their pixels take at most this number of bytes."""
SAMPLED = 2048
"""The number of training images from which mean and deviation are computed if images are not in memory."""
DIGESTED = 64
"""The number of images that the fingerprint contains if images are not in memory."""

Arguments = dict[str, Any]


def _flag(**more: Any) -> dict[str, Arguments]:
    return {"train": {"train": True, **more}, "test": {"train": False, **more}}


def _parts(train: str = "train", search: str | None = None, test: str = "test") -> dict[str, Arguments]:
    parts = {"train": train, "search": search, "test": test}
    return {split: {"split": name} for split, name in parts.items() if name is not None}


_WHOLE: dict[str, Arguments] = {"train": {}}
DATASETS: Mapping[str, Mapping[str, Arguments]] = {
    "CIFAR10": _flag(),
    "CIFAR100": _flag(),
    "Caltech101": _WHOLE,
    "Caltech256": _WHOLE,
    "Country211": _parts(search="valid"),
    "DTD": _parts(search="val"),
    "EMNIST": _flag(split="balanced"),
    "EuroSAT": _WHOLE,
    "FGVCAircraft": _parts(search="val"),
    "FashionMNIST": _flag(),
    "Flowers102": _parts(search="val"),
    "Food101": _parts(),
    "GTSRB": _parts(),
    "Imagenette": _parts(test="val"),
    "KMNIST": _flag(),
    "MNIST": _flag(),
    "OxfordIIITPet": _parts(train="trainval"),
    "PCAM": _parts(search="val"),
    "RenderedSST2": _parts(search="val"),
    "STL10": _parts(),
    "SUN397": _WHOLE,
    "SVHN": _parts(),
    "USPS": _flag(),
}
"""The data sets, and the arguments of their classes for each split that they have."""


class TorchvisionTask(ImageTask):
    """Classify the images of a data set of torchvision.

    The test split, and where the data set has one the search split, is that of the data set; others are held out of its
    training images, stratified by class.

    Args:
        dataset: CIFAR10, CIFAR100, Caltech101, Caltech256, Country211, DTD, EMNIST (balanced), EuroSAT, FGVCAircraft,
            FashionMNIST, Flowers102, Food101, GTSRB, Imagenette, KMNIST, MNIST, OxfordIIITPet, PCAM, RenderedSST2,
            STL10, SUN397, SVHN or USPS.
        root: the folder where torchvision expects or writes the data; ``~`` is the home folder.
        download: whether the data are downloaded if they are not in the folder.
        size: the side of the inputs in pixels, or ``[height, width]``; null: that of the images, if it is one.
        resize: ``crop``, ``squash`` or ``pad``; see the task ``image_folder``.
        colour: ``rgb`` or ``grey``; null: as the first image.
        metrics: names; see `TensorTask`. null: accuracy.
        batch_size: images in a training batch.
        score_batch_size: images in a batch when a network is scored.
        search_fraction: share of the images outside the test split that is held out for the search, if the data set has
            no images for it.
        test_fraction: share of the images that is held out for the final report, if the data set has no test images.
        split_seed: seed of the splits.
        augment: ``crop_flip`` pads by 4, crops at random and mirrors half the images; see
            `automl_nas_vision.augment.Augment`.
        normalize: whether each channel is normalised to mean 0 and standard deviation 1 (of the training split; of up
            to 2048 of its images if they are not in memory).
        label_smoothing: label smoothing of the training loss, at least 0 and below 1.
        class_weights: ``balanced``, or one weight for each class.
        sampler: ``shuffle`` or ``balanced``.
        workers: number of processes that make training batches; 0: the training process makes them.

    Raises:
        ConfigurationError: the data set is unknown, or a setting is outside its range.
        DataError: the data are absent or damaged, cannot be downloaded, or have different sizes although ``size`` is
            not set.
    """

    def __init__(
        self,
        *,
        dataset: str,
        root: Path,
        download: bool = False,
        size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
        colour: Literal["rgb", "grey"] | None = None,
        metrics: list[str] | None = None,
        batch_size: int = 128,
        score_batch_size: int = 512,
        search_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        augment: Augment = "crop_flip",
        normalize: bool = True,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        sampler: Sampler = "shuffle",
        workers: int = 0,
    ) -> None:
        name = _canonical(dataset)
        root = Path(root).expanduser()
        parts = {split: _open(name, str(root), split, download) for split in DATASETS[name]}
        first = _image(parts["train"], 0, f"{name}, image 0 of train")
        form = _format(size, resize, colour, first)
        labels = {split: _labels(part, f"{name}, {split}") for split, part in parts.items()}
        read: Reader = _LazyImages(name, str(root), form, size is None)
        sizes = {split: len(labels[split]) if split in labels else None for split in ("search", "test")}
        total = sum(map(len, labels.values()))
        memory = total * form.channels * form.size[0] * form.size[1] <= IN_MEMORY
        if memory:
            read = MemoryImages(torch.from_numpy(read(np.arange(total, dtype=np.int64))))
        names = _class_names(parts["train"])
        count = len(names) if names else int(labels["train"].max()) + 1
        super().__init__(
            Images(
                read=read,
                labels=torch.from_numpy(np.concatenate(list(labels.values()))),
                sizes=Sizes(len(labels["train"]), sizes["search"], sizes["test"]),
                num_classes=count,
                class_names=names,
                resize="none" if size is None else resize,
            ),
            LossSettings("cross_entropy", metrics, count, label_smoothing, class_weights, None, names),
            SplitSettings(batch_size, score_batch_size, search_fraction, test_fraction, split_seed, sampler, workers),
            augment=augment,
            normalize=normalize,
            most=None if memory else SAMPLED,
        )
        places = np.arange(total) if memory else np.unique(np.linspace(0, total - 1, DIGESTED).astype(np.int64))
        digest = hashlib.sha256(name.encode())
        for start in range(0, len(places), 1024):
            digest.update(read(places[start : start + 1024].astype(np.int64)).tobytes())
        for split, own in labels.items():
            digest.update(split.encode() + own.tobytes())
        self._digest = digest.hexdigest()

    def fingerprint(self) -> str:
        """Return the SHA-256 of all labels and images; of 64 evenly spaced images if they do not stay in memory."""
        return self._digest


@dataclass(frozen=True)
class _LazyImages:
    """Reads images of a data set when they are needed. A loader worker opens the data set itself.

    Attributes:
        name: of the data set.
        root: its folder.
        form: the form of the images.
        exact: whether images must have the size already.
    """

    name: str
    root: str
    form: Format
    exact: bool

    def __call__(self, indices: Indices) -> Pixels:
        """Read images; see `Reader`.

        Raises:
            DataError: an image cannot be read, or has another size although no size was set.
        """
        result = np.empty((len(indices), self.form.channels, *self.form.size), dtype=np.uint8)
        parts = [(split, _open(self.name, self.root, split, False)) for split in DATASETS[self.name]]
        with quiet():
            for place, index in enumerate(indices.tolist()):
                number = 0
                while index >= len(parts[number][1]):
                    index -= len(parts[number][1])
                    number += 1
                where = f"{self.name}, image {index} of {parts[number][0]}"
                image = _image(parts[number][1], index, where)
                if self.exact and image.size != self.form.size[::-1]:
                    raise DataError(
                        f"{where} has {image.width} x {image.height} pixels, and others {self.form.size[1]} x "
                        f"{self.form.size[0]}; set task.size"
                    )
                try:
                    result[place] = self.form.pixels(image)
                except BrokenImageError as error:
                    raise DataError(f"{where}: {error}") from error
        return result


def _canonical(dataset: str) -> str:
    """Return the name of a data set as torchvision writes it; case and hyphens do not matter."""
    for name in DATASETS:
        if name.lower() == dataset.lower().replace("-", "").replace("_", ""):
            return name
    raise ConfigurationError(
        f"unknown data set '{dataset}'{did_you_mean(dataset, DATASETS)} (there are: {', '.join(DATASETS)}); "
        "for ImageNet and your own images use the task image_folder",
        path="task.dataset",
    )


@lru_cache(maxsize=8)
def _open(name: str, root: str, split: str, download: bool) -> Any:
    """Return a part of a data set.

    The class of CIFAR unpickles its files, after it compared them with the MD5 sums of the published ones; those of the
    other data sets do not unpickle (torch.load of MNIST's old format has weights_only).
    """
    try:
        return getattr(datasets, name)(root, download=download, **DATASETS[name][split])
    except Exception as error:  # torchvision raises RuntimeError, OSError, KeyError, scipy's and pickle's errors
        if download:
            raise DataError(
                f"{name} cannot be downloaded to {root}: {type(error).__name__}: {error}; without a network copy the "
                "files there"
            ) from error
        raise DataError(
            f"{name} ({split}) cannot be read from {root}: {type(error).__name__}: {error}; set task.root to the "
            "folder that has the files of torchvision, or task.download: true"
        ) from error


def _image(part: Any, index: int, where: str) -> Image.Image:
    try:
        image, _ = part[index]
    except Exception as error:
        raise DataError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    assert isinstance(image, Image.Image)
    return image


def _labels(part: Any, where: str) -> NDArray[np.int64]:
    """Return the classes of all images, without reading these where torchvision has them apart."""
    for name in ("targets", "labels", "_labels", "y"):
        values = getattr(part, name, None)
        if values is not None and len(values) == len(part):
            break
    else:
        samples = getattr(part, "_samples", None)
        values = [part[k][1] for k in range(len(part))] if samples is None else [sample[1] for sample in samples]
    labels = np.asarray(values).astype(np.int64).reshape(-1)
    if not len(labels) or labels.min() < 0:
        raise DataError(f"{where} has images without a class")
    return labels


def _class_names(part: Any) -> tuple[str, ...] | None:
    names = getattr(part, "classes", None) or getattr(part, "categories", None)
    return None if not names else tuple(each if isinstance(each, str) else ", ".join(each) for each in names)


def _format(
    size: int | tuple[int, int] | None, resize: Resize, colour: Literal["rgb", "grey"] | None, first: Image.Image
) -> Format:
    if size is None:
        sides = first.height, first.width
    else:
        sides = (size, size) if isinstance(size, int) else (size[0], size[1])
    if not (1 <= sides[0] <= 16384 and 1 <= sides[1] <= 16384):
        raise ConfigurationError(f"size must be between 1 and 16384 pixels, not {size}", path="task.size")
    if resize not in ("crop", "squash", "pad"):
        raise ConfigurationError(f"resize must be crop, squash or pad, not {resize!r}", path="task.resize")
    grey = first.mode == "L" if colour is None else colour == "grey"
    return Format(sides, 1 if grey else 3, resize, 0, 255)
