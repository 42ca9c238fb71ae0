"""From the columns of a table to the numbers that networks take, with statistics of the training split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import DataError
from automl_nas.evaluation import Indices, mean_and_deviation
from automl_nas_tabular.table import Column, Table, decimal_commas

Floats = NDArray[np.float32]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """The inputs of all rows.

    Attributes:
        values: float32, shape ``(rows, features)``.
        description: what every feature is computed from, as plain data; ``missing``: whether a value is.
    """

    values: Floats
    description: list[dict[str, Any]]


def make_features(table: Table, columns: Sequence[Column], training: Indices, *, most_categories: int) -> Features:
    """Standardise numbers and encode categories one-hot.

    A missing number becomes the mean of the training split, and a column of numbers with missing values gets a second
    feature, 1 where the value is missing. A missing category has zeros in all its features, as has a category that the
    training split does not contain. A column of numbers that is constant in the training split becomes 0 there: its
    deviation counts as 1.

    Args:
        table: that the columns are from.
        columns: of the inputs.
        training: the rows of the training split.
        most_categories: the largest number of categories of a column.

    Raises:
        DataError: a column has too many categories.
    """
    parts: list[Floats] = []
    description: list[dict[str, Any]] = []
    for column in columns:
        if column.numeric:
            part, described = _numbers(column, training)
        else:
            part, described = _categories(table, column, training, most_categories)
        parts.append(part)
        description.append(described)
    return Features(np.concatenate(parts, axis=1), description)


def _numbers(column: Column, training: Indices) -> tuple[Floats, dict[str, Any]]:
    values = np.array([np.nan if cell is None else cell for cell in column.cells], dtype=np.float64)
    missing = np.isnan(values)
    known_values = values[training][~missing[training]]
    mean, deviation = map(float, mean_and_deviation(known_values)) if len(known_values) else (0.0, 1.0)
    standard = np.where(missing, 0.0, (values - mean) / deviation)
    parts = [standard, missing.astype(np.float64)] if missing.any() else [standard]
    described = {"column": column.name, "mean": mean, "deviation": deviation, "missing": bool(missing.any())}
    return np.stack(parts, axis=1).astype(np.float32), described


def _categories(table: Table, column: Column, training: Indices, most: int) -> tuple[Floats, dict[str, Any]]:
    categories = sorted({str(column.cells[row]) for row in training.tolist() if column.cells[row] is not None})
    hint = decimal_commas(table, column)
    if len(categories) > most:
        if hint:
            raise DataError(f"{table.path}, column '{column.name}' is read as text{hint}, or list it in ignore")
        raise DataError(
            f"{table.path}, column '{column.name}': {len(categories)} different strings, more than most_categories = "
            f"{most}; list the column in ignore (such as a name or a number of the row), or set most_categories"
        )
    if not categories:
        raise DataError(f"{table.path}, column '{column.name}': no value; list it in ignore")
    if hint and not column.chosen:
        _log.warning(
            "task csv: %s, column '%s' is read as text, with %d categories%s, or list it in categories to omit this "
            "message",
            table.path,
            column.name,
            len(categories),
            hint,
        )
    encoded = np.array(
        [[float(cell is not None and str(cell) == category) for category in categories] for cell in column.cells],
        dtype=np.float32,
    )
    return encoded, {"column": column.name, "categories": categories, "missing": None in column.cells}
