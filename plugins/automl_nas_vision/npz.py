"""Images and labels from a NumPy ``.npz`` file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import NpzFile, Sizes, SplitSettings
from automl_nas_vision.augment import Augment
from automl_nas_vision.images import Images, ImageTask, MemoryImages, class_settings

_SEARCH = ("search_images", "search_labels")
_NAMES = "class_names"


class Npz(ImageTask):
    """Classify the images in an npz file. Arrays of Python objects are rejected, so nothing in the file is executed.

    Images are uint8, shape ``(samples, height, width, channels)`` or ``(samples, height, width)``; labels are integers
    ``0 .. classes - 1``, shape ``(samples,)`` or ``(samples, 1)``. The search split is held out of the training images,
    stratified by class; the file's test images are the test split.

    Args:
        path: path of the file; ``~`` is the home folder; a relative path starts at the current directory and is
            recorded as an absolute path.
        train_images: name of the array of training images.
        train_labels: name of the array of their labels.
        search_images: name of an array of images for the search split. If the file does not have an array of the
            default name, the split is held out of the training images.
        search_labels: name of the array of their labels.
        test_images: name of the array of test images.
        test_labels: name of the array of their labels.
        class_names: the names of the classes 0, 1, ...; None: the strings in the array ``class_names`` of the file, if
            it has one.
        batch_size: images in a training batch.
        search_fraction: share of the training images that is held out for the search, if the file has no images for it.
        test_fraction: share of the training images to hold out as the test split, first, if the file has no test
            arrays; None: the file must have them.
        split_seed: seed of the splits. It does not depend on the run's seed, so runs with different seeds use the same
            splits and can be compared.
        augment: ``crop_flip`` pads by 4, crops at random and mirrors half the images; see
            `automl_nas_vision.augment.Augment`.
        normalize: whether each channel is normalised to mean 0 and standard deviation 1 (of the training split).
        label_smoothing: label smoothing of the training loss, at least 0 and below 1.
        workers: number of processes that make training batches; 0: the training process makes them. The batches are the
            same.
        score_batch_size: images in a batch when a network is scored.

    Raises:
        ConfigurationError: a setting is outside its range, or the augmentation does not fit the images.
        DataError: the file is missing or unreadable, an array is missing or has a wrong type or shape, or a class has
            too few samples to be in every split.
    """

    def __init__(
        self,
        *,
        path: Path,
        train_images: str = "train_images",
        train_labels: str = "train_labels",
        search_images: str = "search_images",
        search_labels: str = "search_labels",
        test_images: str = "test_images",
        test_labels: str = "test_labels",
        class_names: tuple[str, ...] | None = None,
        batch_size: int = 128,
        search_fraction: float = 0.2,
        test_fraction: float | None = None,
        split_seed: int = 0,
        augment: Augment = "crop_flip",
        normalize: bool = True,
        label_smoothing: float = 0.1,
        workers: int = 0,
        score_batch_size: int = 512,
    ) -> None:
        file = _File(path)
        self._file = file
        pixels, labels = file.pair(train_images, train_labels)
        num_classes = _count_classes(labels, f"{file.path}: '{train_labels}'")
        if class_names is None:
            class_names = file.class_names(num_classes)
        elif len(class_names) != num_classes:
            raise ConfigurationError(
                f"there are {len(class_names)} names for {num_classes} classes", path="task.class_names"
            )
        if test_fraction is None:
            file.require_test(test_images, test_labels)
        elif test_images in file.names:
            raise ConfigurationError(
                f"test_fraction is given, but {file.path} has test images ('{test_images}'); leave one of them out "
                "(to ignore the file's, name an array that it does not have as test_images)",
                path="task.test_fraction",
            )
        parts = [(pixels, labels)]
        own: dict[str, int | None] = {"search": None, "test": None}
        for split, images_name, labels_name, has in (
            (
                "search",
                search_images,
                search_labels,
                {search_images, search_labels} != set(_SEARCH) or file.has(_SEARCH),
            ),
            ("test", test_images, test_labels, test_fraction is None),
        ):
            if has:
                more = file.pair(images_name, labels_name)
                _check_part(file.path, split, images_name, more[0], pixels, labels_name, more[1], num_classes)
                parts.append(more)
                own[split] = len(more[1])
        pixels = np.concatenate([part[0] for part in parts]) if len(parts) > 1 else pixels
        super().__init__(
            Images(
                read=MemoryImages(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))),
                labels=torch.from_numpy(np.concatenate([part[1] for part in parts])),
                sizes=Sizes(len(labels), own["search"], own["test"]),
                num_classes=num_classes,
                class_names=class_names,
            ),
            class_settings(class_names, num_classes, label_smoothing),
            SplitSettings(
                batch_size,
                score_batch_size,
                search_fraction,
                0.0 if test_fraction is None else test_fraction,
                split_seed,
                "shuffle",
                workers,
            ),
            augment=augment,
            normalize=normalize,
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file, read once in a process unless its size or modification time changes."""
        return self._file.fingerprint()


class _File:
    """An npz file that is read with errors which name the file, the array and the way out."""

    def __init__(self, path: Path) -> None:
        self._file = NpzFile(path)
        self.path, self.names = self._file.path, self._file.names
        self.fingerprint = self._file.fingerprint

    def has(self, names: Sequence[str]) -> bool:
        return any(name in self.names for name in names)

    def class_names(self, num_classes: int) -> tuple[str, ...] | None:
        """Return the names of the classes in the file; None: it has none."""
        if _NAMES not in self.names:
            return None
        array = self._file.read(_NAMES)
        if array.dtype.kind != "U" or array.shape != (num_classes,):
            raise DataError(
                f"{self.path}: '{_NAMES}' is {array.dtype} of shape {array.shape}, but the labels have {num_classes} "
                f"classes, so it must hold {num_classes} strings; save it anew, or set task.class_names"
            )
        return tuple(array.tolist())

    def require_test(self, images: str, labels: str) -> None:
        if images not in self.names and labels not in self.names:
            raise DataError(
                f"{self.path} has no test arrays '{images}' and '{labels}' (it has: {', '.join(self.names)}); name "
                "them with test_images and test_labels, or set test_fraction to hold a test split out of the rest"
            )

    def pair(self, images: str, labels: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images as (samples, height, width, channels), and their labels."""
        pixels, classes = self._images(images), self._labels(labels)
        if len(pixels) != len(classes):
            raise DataError(
                f"{self.path}: '{images}' has {len(pixels)} images, but '{labels}' has {len(classes)} labels"
            )
        return pixels, classes

    def _images(self, name: str) -> NDArray[np.uint8]:
        array = self._file.read(name)
        description = f"{self.path}: '{name}' is {array.dtype} of shape {array.shape}"
        if array.dtype != np.uint8:
            raise DataError(f"{description}, but images must be uint8 from 0 to 255; convert them before saving")
        if array.ndim and not len(array):
            raise DataError(f"{description}, so it holds no images")
        if array.ndim not in (3, 4) or 0 in array.shape:
            raise DataError(f"{description}, but images must be (samples, height, width[, channels])")
        if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3, 4):
            raise DataError(f"{description}, which looks like channels first; save it with .transpose(0, 2, 3, 1)")
        return (array if array.ndim == 4 else array[..., None]).astype(np.uint8, copy=False)

    def _labels(self, name: str) -> NDArray[np.int64]:
        array = self._file.read(name)
        description = f"{self.path}: '{name}' is {array.dtype} of shape {array.shape}"
        if array.dtype.kind not in "iu":
            way = "; number them with numpy.unique(labels, return_inverse=True)" if array.dtype.kind in "US" else ""
            raise DataError(f"{description}, but labels must be integers{way}")
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise DataError(f"{description}, but labels must be (samples,): one class number for each image")
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise DataError(f"{description}, and its largest label is {array.max()}; labels are 0 .. classes - 1")
        return array.astype(np.int64)


def _count_classes(labels: NDArray[np.int64], where: str) -> int:
    """Return the number of classes of training labels, which must be 0 .. k - 1 without a gap."""
    present = np.unique(labels)
    if not np.array_equal(present, np.arange(len(present))):
        shown = ", ".join(map(str, present[:8])) + (", ..." if len(present) > 8 else "")
        raise DataError(
            f"{where} must contain the classes 0 .. k - 1, each at least once, not {shown} ({len(present)} different); "
            "renumber them with numpy.unique(labels, return_inverse=True)"
        )
    if len(present) < 2:
        raise DataError(f"{where} contains one class only; classification needs at least two")
    return len(present)


def _check_part(
    path: Path,
    split: str,
    images_name: str,
    images: NDArray[np.uint8],
    train_images: NDArray[np.uint8],
    labels_name: str,
    labels: NDArray[np.int64],
    num_classes: int,
) -> None:
    if not len(labels):
        raise DataError(f"{path}: '{labels_name}' is empty; the split '{split}' needs samples")
    if images.shape[1:] != train_images.shape[1:]:
        raise DataError(
            f"{path}: one of '{images_name}' has shape {images.shape[1:]}, but one of the training images "
            f"{train_images.shape[1:]} (height, width, channels)"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{path}: '{labels_name}' goes from {labels.min()} to {labels.max()}, but the training labels only from 0 "
            f"to {num_classes - 1}"
        )
