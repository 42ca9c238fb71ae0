"""The task `image_folder`: image files in class folders, or listed in a CSV file."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import ClassWeights, LossSettings, Sampler, Sizes, SplitSettings
from automl_nas_vision.augment import Augment
from automl_nas_vision.csv_listing import Columns, list_csv
from automl_nas_vision.decode import Format, Resize, shown
from automl_nas_vision.file_reader import FileReader
from automl_nas_vision.images import Images, ImageTask, MemoryImages, Reader
from automl_nas_vision.scan import Listing, list_folder
from automl_nas_vision.usable import usable
from automl_nas_vision.verify import check_files, reader

IN_MEMORY = 1 << 29
"""Images are kept in memory by default if their pixels take at most this number of bytes."""
STATISTICS = 2048
"""The number of training images from which mean and deviation are computed if images are not in memory."""
IMBALANCE = 20
"""A warning is printed if the largest class has at least this many times the images of the smallest one."""

_log = logging.getLogger(__name__)


class ImageFolder(ImageTask):
    """Classify the images of a folder, or predict their labels.

    ``path`` is one of these:

    - a folder with a folder for each class;
    - a folder ``train``, and perhaps ``val`` and ``test``, each with a folder for each class (ImageNet's layout);
    - a CSV file with a column of paths and a column of classes, or several columns of labels 0 and 1, or a column of
      labels with a separator; and perhaps a column ``split``.

    Splits without a folder of their own are held out, stratified by class. Images may have different sizes and be grey,
    coloured (RGB, CMYK, palette), transparent, of 16 bits, or turned by EXIF; of animations the first frame is used.
    Every file is read once at construction, and broken ones are named. Small data sets then stay in memory.

    Args:
        path: the folder or CSV file; ``~`` is the home folder, a relative path starts at the current directory.
        size: the side of the inputs in pixels, or ``[height, width]``.
        resize: ``crop`` (the shorter side to the size, then the centre), ``squash`` (to the size, whatever the aspect
            ratio) or ``pad`` (the longer side to the size, the rest is filled); bilinear with antialiasing, as Pillow's
            ``ImageOps.fit``, ``Image.resize`` and ``ImageOps.pad``.
        colour: ``rgb`` or ``grey``.
        fill: the grey level of the padding, 0 to 255.
        background: the grey level behind transparent pixels, 0 to 255.
        search: the folder of the search split; ``auto``: ``val``, ``valid``, ``validation`` or ``search`` if it exists;
            null: it is held out of train.
        test: the folder of the test split; ``auto``: ``test`` if it exists; null: it is held out of train.
        classes: the classes (or labels) to use, in this order; null: all, sorted by name.
        images: for a CSV file: the folder at which relative paths of images start; null: the folder of the file.
        image_column: for a CSV file: the column of paths; null: ``path``, ``image``, ``file``,
            ``filename`` or the first.
        label_columns: for a CSV file: the column of classes, or several of labels; null: all other columns.
        label_separator: for a CSV file: the string between the labels of an image in one column.
        split_column: for a CSV file: the column of splits; null: ``split`` if it exists.
        skip_broken: whether broken files are left out with a warning; otherwise they are an error.
        min_class_images: classes with fewer readable images outside folders of their own for search and test are left
            out with a warning; 0: none is, and a class that is too small for a split is an error.
        in_memory: whether decoded images are kept in memory; null: if they take at most 512 MiB.
        metrics: names; see `TensorTask`. null: the default of the loss.
        batch_size: images in a training batch.
        score_batch_size: images in a batch when a network is scored.
        search_fraction: share of the images outside the test split that is held out for the search.
        test_fraction: share of the images that is held out for the final report.
        split_seed: seed of the splits.
        augment: ``crop_flip`` pads by 4, crops at random and mirrors half the images; see
            `automl_nas_vision.augment.Augment`.
        normalize: whether each channel is normalised to mean 0 and standard deviation 1 (of the training split; of up
            to 2048 of its images if they are not in memory).
        label_smoothing: of the training loss of classes.
        class_weights: ``balanced``, or one weight for each class.
        sampler: ``shuffle`` or ``balanced``.
        workers: number of processes that make training batches; 0: the training process makes them.

    Raises:
        ConfigurationError: a setting is outside its range or does not fit the others.
        DataError: files are broken, a class has no or too few images, or the CSV file is malformed.
    """

    def __init__(
        self,
        *,
        path: Path,
        size: int | tuple[int, int],
        resize: Resize = "crop",
        colour: Literal["rgb", "grey"] = "rgb",
        fill: int = 0,
        background: int = 255,
        search: str | None = "auto",
        test: str | None = "auto",
        classes: tuple[str, ...] | None = None,
        images: Path | None = None,
        image_column: str | None = None,
        label_columns: tuple[str, ...] | None = None,
        label_separator: str | None = None,
        split_column: str | None = None,
        skip_broken: bool = False,
        min_class_images: int = 0,
        in_memory: bool | None = None,
        metrics: list[str] | None = None,
        batch_size: int = 64,
        score_batch_size: int = 256,
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
        form = self._form = _format(size, resize, colour, fill, background)
        splitting = SplitSettings(
            batch_size, score_batch_size, search_fraction, test_fraction, split_seed, sampler, workers
        )
        columns = Columns(image_column, label_columns, split_column, label_separator)
        listing = _listing(Path(path).expanduser(), images, columns, search, test, classes)
        listing = _sorted_by_split(listing)
        needed = len(listing.files) * form.channels * form.size[0] * form.size[1]
        keep = needed <= IN_MEMORY if in_memory is None else in_memory
        checked = check_files(listing.root, listing.files, form, keep=keep)
        listing, places = usable(
            listing, checked.broken, splitting, skip_broken=skip_broken, min_class_images=min_class_images
        )
        self._digest = _fingerprint(listing, checked.digest)
        self._files = tuple(os.path.join(listing.root, name) for name in listing.files)  # noqa: PTH118
        read: Reader = reader(listing.root, listing.files, form)
        if checked.pixels is not None:
            used = checked.pixels if len(places) == len(checked.pixels) else checked.pixels[places]
            read = MemoryImages(torch.from_numpy(used))
        classified = listing.labels.ndim == 1
        if classified:
            _warn_of_imbalance(listing, class_weights is None and sampler == "shuffle")
        counts = {split: listing.splits.count(split) for split in ("train", "search", "test")}
        super().__init__(
            Images(
                read=read,
                labels=torch.from_numpy(listing.labels),
                sizes=Sizes(counts["train"], counts["search"] or None, counts["test"] or None),
                num_classes=len(listing.names),
                class_names=listing.names,
                resize=resize,
                fill=fill,
                background=background,
            ),
            LossSettings(
                "cross_entropy" if classified else "binary_cross_entropy",
                metrics,
                len(listing.names),
                label_smoothing,
                class_weights,
                None,
                listing.names,
            ),
            splitting,
            augment=augment,
            normalize=normalize,
            most=None if checked.pixels is not None else STATISTICS,
        )

    def files(self, split: str) -> list[str]:
        """Return the files of the images of a split.

        Raises:
            DataError: the split does not exist.
        """
        return [self._files[index] for index in self._indices(split).tolist()]

    def reader(self) -> FileReader:
        """Return a function from an image file to an input of a network."""
        return FileReader(self._form, self._fetch.mean, self._fetch.deviation)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the names, splits, labels and contents of all files when the task was constructed."""
        return self._digest


def _format(size: int | Sequence[int], resize: Resize, colour: str, fill: int, background: int) -> Format:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2:
        raise ConfigurationError(f"size must be one number or [height, width], not {size}", path="task.size")
    height, width = sides
    if not (1 <= height <= 16384 and 1 <= width <= 16384):
        raise ConfigurationError(f"size must be between 1 and 16384 pixels, not {size}", path="task.size")
    for name, value in (("fill", fill), ("background", background)):
        if not 0 <= value <= 255:
            raise ConfigurationError(f"{name} must be between 0 and 255, not {value}", path=f"task.{name}")
    for name, choice, options in (("resize", resize, ("crop", "squash", "pad")), ("colour", colour, ("rgb", "grey"))):
        if choice not in options:
            raise ConfigurationError(f"{name} must be {' or '.join(options)}, not {choice!r}", path=f"task.{name}")
    return Format((height, width), 3 if colour == "rgb" else 1, resize, fill, background)


def _listing(
    path: Path,
    images: Path | None,
    columns: Columns,
    search: str | None,
    test: str | None,
    classes: Sequence[str] | None,
) -> Listing:
    if not path.exists():
        raise DataError(
            f"{shown(str(path.absolute()))} does not exist; set task.path to a folder of images or a CSV file (a "
            "relative path starts at the current directory)"
        )
    if not path.is_dir() and not path.is_file():  # a pipe would block for ever
        raise DataError(f"{shown(str(path.absolute()))} is neither a folder nor an ordinary file")
    settings = {
        "images": images,
        "image_column": columns.image,
        "label_columns": columns.labels,
        "label_separator": columns.separator,
        "split_column": columns.split,
    }
    if path.is_dir():
        for name, value in settings.items():
            if value is not None:
                raise ConfigurationError(f"{name} needs a CSV file as path", path=f"task.{name}")
        return list_folder(path, search, test, classes)
    for name, value in (("search", search), ("test", test)):
        if value not in ("auto", None):
            raise ConfigurationError(
                f"{name} names a folder; the splits of a CSV file are in the column split_column", path=f"task.{name}"
            )
    if columns.separator == "":
        raise ConfigurationError("label_separator must not be empty", path="task.label_separator")
    root = path.parent if images is None else Path(images).expanduser()
    return list_csv(path, root, columns, classes)


def _sorted_by_split(listing: Listing) -> Listing:
    order = {"train": 0, "search": 1, "test": 2}
    return listing.chosen(sorted(range(len(listing.files)), key=lambda k: order[listing.splits[k]]))


def _warn_of_imbalance(listing: Listing, plain: bool) -> None:
    training = np.array([split == "train" for split in listing.splits])
    counts = np.bincount(listing.labels[training].astype(np.int64), minlength=len(listing.names))
    if plain and counts.max() >= IMBALANCE * counts.min():
        _log.warning(
            "the class '%s' has %d training images and '%s' has %d; consider class_weights: balanced or sampler: "
            "balanced, and metrics: [balanced_accuracy]",
            shown(listing.names[int(counts.argmax())]),
            counts.max(),
            shown(listing.names[int(counts.argmin())]),
            counts.min(),
        )


def _fingerprint(listing: Listing, contents: str) -> str:
    digest = hashlib.sha256(contents.encode())
    digest.update("\0".join((*listing.names, *listing.splits)).encode() + listing.labels.tobytes())
    return digest.hexdigest()
