"""Splits of samples, however few there are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import DataError
from automl_nas.evaluation import Indices, hold_out, permutation


def make_splits(
    labels: NDArray[np.int64] | None,
    count: int,
    test_fraction: float,
    search_fraction: float,
    seed: int,
) -> dict[str, Indices]:
    """Return the samples of ``train``, ``search`` and ``test``, stratified by class where classes are large enough.

    Otherwise samples are held out of all classes together, and at least one sample of each class stays in ``train``.
    Without classes at least two samples are held out for each split, since R2 of one sample is not defined.

    Args:
        labels: the classes, integers of at least 0, shape ``(count,)``; None: targets are numbers.
        count: the number of samples.
        test_fraction: share of all samples, between 0 and 1.
        search_fraction: share of the others.
        seed: of the splits.

    Raises:
        DataError: there are too few samples for that.
    """
    groups = np.zeros(count, dtype=np.int64) if labels is None else labels
    least = 2 if labels is None else 1
    if count > 1 and (not len(groups) or int(groups.min()) >= 0):
        try:
            rest, test = hold_out(groups, test_fraction, setting="test_fraction", seed=seed, what="test")
            train, search = hold_out(groups[rest], search_fraction, setting="search_fraction", seed=seed, what="search")
            if min(len(test), len(search)) >= least:
                return {"train": rest[train], "search": rest[search], "test": test}
        except DataError:
            pass  # a class is too small to be in every split
    return _unstratified(groups, test_fraction, search_fraction, seed, least)


def _unstratified(
    groups: NDArray[np.int64], test_fraction: float, search_fraction: float, seed: int, least: int
) -> dict[str, Indices]:
    count = len(groups)
    order = permutation(seed, "split/few", 0, count)
    _, first = np.unique(groups[order], return_index=True)
    free = np.delete(order, first)
    if len(free) < 2 * least:
        classes = f" of {len(first)} classes" if len(first) > 1 else ""
        one = "one sample of each class" if len(first) > 1 else "one sample"
        raise DataError(
            f"n_samples={count}{classes} are too few: {one} is needed for training, and {least} each are held out for "
            f"the search and for the test; give at least {len(first) + 2 * least} samples"
        )
    tests = min(max(math.ceil(test_fraction * count), least), len(free) // 2)
    searches = min(max(math.ceil(search_fraction * (count - tests)), least), len(free) - tests)
    test, search, train = free[:tests], free[tests : tests + searches], free[tests + searches :]
    return {
        "train": np.sort(np.concatenate([order[first], train])),
        "search": np.sort(search),
        "test": np.sort(test),
    }
