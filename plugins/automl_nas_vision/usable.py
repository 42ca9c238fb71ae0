"""Which images of a listing are used: broken files and small classes are left out by consent, or named in one error."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import Sizes, SplitSettings
from automl_nas_vision.decode import shown
from automl_nas_vision.scan import SHOWN, Listing

_log = logging.getLogger(__name__)


def usable(
    listing: Listing, broken: Mapping[int, str], splitting: SplitSettings, *, skip_broken: bool, min_class_images: int
) -> tuple[Listing, NDArray[np.int64]]:
    """Return the listing of the images that are used, and their numbers among the files that are not broken.

    Args:
        listing: of all files, those of train first.
        broken: the number of a broken file -> why it cannot be read.
        splitting: of the splits that are held out.
        skip_broken: whether broken files are left out with a warning.
        min_class_images: classes with fewer readable training images are left out with a warning.

    Raises:
        ConfigurationError: ``min_class_images`` is negative, or images have several labels.
        DataError: files are broken or classes are too small, and must not be left out; or too little is left. One
            message names all files and classes.
    """
    if min_class_images < 0:
        raise ConfigurationError(
            f"min_class_images must be at least 0, not {min_class_images}", path="task.min_class_images"
        )
    classified = listing.labels.ndim == 1
    if min_class_images and not classified:
        raise ConfigurationError("images have several labels, not one class", path="task.min_class_images")
    readable = listing.chosen([k for k in range(len(listing.files)) if k not in broken])
    problems = []
    if broken and not skip_broken:
        problems.append(
            f"{_broken(listing, broken)}\nrepair or remove them, or leave them out with task.skip_broken: true"
        )
    for split in sorted(set(listing.splits) - set(readable.splits)):
        problems.append(f"{shown(str(listing.root))}: no image of the split '{split}' can be read")
    places = np.arange(len(readable.files))
    if classified and not problems[1:]:
        places = _places(readable, min_class_images)
        left = _of_large_classes(readable, min_class_images)
        if problem := _too_small(left, splitting):
            problems.append(problem)
    if problems:
        raise DataError("\n".join(problems))
    if broken:
        _log.warning("%s\n(skipped: skip_broken: true)", _broken(listing, broken, ","))
    if not classified:
        return readable, places
    if dropped := [name for name in readable.names if name not in left.names]:
        _log.warning(
            "%s: classes with fewer than %d images are left out (min_class_images): %s",
            shown(str(listing.root)),
            min_class_images,
            _names(dropped),
        )
    return left, places


def _counts(listing: Listing) -> NDArray[np.int64]:
    """Return the number of training images of each class."""
    training = np.array([split == "train" for split in listing.splits], dtype=bool)
    return np.bincount(listing.labels[training].astype(np.int64), minlength=len(listing.names)).astype(np.int64)


def _places(listing: Listing, least: int) -> NDArray[np.int64]:
    return np.flatnonzero((_counts(listing) >= least)[listing.labels.astype(np.int64)])


def _of_large_classes(listing: Listing, least: int) -> Listing:
    """Return the listing without the classes that have fewer training images."""
    large = _counts(listing) >= least
    names = tuple(name for name, keep in zip(listing.names, large, strict=True) if keep)
    chosen = listing.chosen(_places(listing, least).tolist())
    numbers = np.cumsum(large) - 1
    labels = numbers[chosen.labels.astype(np.int64)]
    return Listing(chosen.root, chosen.files, chosen.splits, labels, names, chosen.where)


def _too_small(listing: Listing, splitting: SplitSettings) -> str:
    """Return which classes are too small for the splits, and the way out; empty if none is."""
    where = listing.where or shown(str(listing.root))
    if len(listing.names) < 2:
        return (
            f"{where}: {len(listing.names)} classes have enough images, and classification needs at least two; lower "
            "task.min_class_images"
        )
    counts = _counts(listing)
    empty = [name for name, count in zip(listing.names, counts, strict=True) if not count]
    texts = [f"{where}: without a readable training image: {_names(empty)}"] if empty else []
    if reason := _split_error(listing, splitting):
        texts.append(f"{where}: {reason}")
    if not texts:
        return ""
    way = f"add images, {'' if listing.where else 'remove the folder, '}or list the other classes in task.classes"
    for least in np.unique(counts[counts > 0]).tolist():
        left = _of_large_classes(listing, least)
        if len(left.names) > 1 and len(left.names) < len(listing.names) and not _split_error(left, splitting):
            way += f"; task.min_class_images: {least} leaves {len(listing.names) - len(left.names)} of "
            way += f"{len(listing.names)} classes out"
            break
    return "\n".join((*texts, way))


def _split_error(listing: Listing, splitting: SplitSettings) -> str:
    sizes = {split: listing.splits.count(split) for split in ("train", "search", "test")}
    try:
        splitting.make(
            Sizes(sizes["train"], sizes["search"] or None, sizes["test"] or None),
            listing.labels[: sizes["train"]].astype(np.int64),
            listing.names,
        )
    except DataError as error:
        return str(error)
    return ""


def _broken(listing: Listing, broken: Mapping[int, str], mark: str = "") -> str:
    """Return the broken files, a line each; the lines end with a mark, since the log is printed on one line."""
    named = [f"\n  {shown(listing.files[number])}: {reason}" for number, reason in list(broken.items())[:SHOWN]]
    files = mark.join(named)
    more = len(broken) - SHOWN
    count = f"{len(broken)} of {len(listing.files)} files"
    text = f"{shown(str(listing.root))}: {count} cannot be read as images:{files}"
    return text + f"\n  ... and {more} more" * (more > 0)


def _names(names: Sequence[str]) -> str:
    quoted = ", ".join(f"'{shown(name)}'" for name in names[:SHOWN])
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return f"the class{'es' * (len(names) > 1)} {quoted}{more}"
