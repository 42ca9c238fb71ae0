"""The task `csv`: the rows of a CSV file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import TensorTask, hold_out
from automl_nas_tabular.features import make_features
from automl_nas_tabular.table import Cell, Column, Table, decimal_commas, read_table

_log = logging.getLogger(__name__)

Kind = Literal["auto", "classification", "regression", "multilabel"]
MOST_CLASSES = 20
"""Whole numbers with at most so many different values are classes, if the kind is not set."""
_EXACT = 2.0**53
"""From here on float64 does not hold every whole number."""


def csv_task(
    *,
    path: Path,
    target: str | list[str],
    kind: Kind = "auto",
    missing: Literal["error", "drop", "impute"] = "error",
    missing_values: tuple[str, ...] = ("", "NA", "NaN", "nan", "null", "?"),
    categories: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    most_categories: int = 50,
    separator: str = ",",
    metrics: list[str] | None = None,
    batch_size: int = 64,
    search_fraction: float = 0.2,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    label_smoothing: float = 0.0,
    class_weights: Literal["balanced"] | None = None,
    sampler: Literal["shuffle", "balanced"] = "shuffle",
) -> TensorTask:
    """Return the task of predicting one or several columns of a CSV file from the others.

    Columns of numbers are standardised with mean and deviation of the training split, columns of text are encoded
    one-hot. Numbers that are predicted are standardised for the loss; metrics are in their own unit.

    Args:
        path: path of the file: a header and rows, UTF-8; ``~`` is the home folder, a relative path starts at the
            current directory.
        target: the column to predict, or several.
        kind: ``classification`` (one column of classes), ``regression`` (columns of numbers), ``multilabel`` (columns
            of 0 and 1), or ``auto``: several columns of 0 and 1 are labels; text and whole numbers with at most 20
            different values are classes; everything else is regression. A warning names what was inferred.
        missing: what to do with missing values of inputs: ``error``, ``drop`` their rows, or ``impute`` (numbers: the
            mean of the training split and a feature that is 1 where the value is missing; text: zeros). Rows without
            target are an error, or are dropped. A warning has the number of dropped rows.
        missing_values: cells that are missing values.
        categories: columns of text, also if their cells look like numbers.
        ignore: columns that are not inputs.
        most_categories: the largest number of different strings in a column.
        separator: the character between cells.
        metrics: names; see `TensorTask`. None: the default of the kind.
        batch_size: rows in a training batch.
        search_fraction: share of the rows outside the test split that is held out for the search.
        test_fraction: share of all rows that is held out for the final report.
        split_seed: seed of the splits.
        label_smoothing: of the loss of classes.
        class_weights: ``balanced``, or none.
        sampler: ``shuffle`` or ``balanced``.

    Raises:
        ConfigurationError: a setting is out of its range.
        DataError: the file cannot be read, or a cell does not fit; the message contains line and column.
    """
    names = [target] if isinstance(target, str) else list(target)
    if not names or len(separator) != 1:
        raise ConfigurationError("target needs a column, and separator one character", path="task")
    table = read_table(path, separator, missing_values, categories)
    for name in (*categories, *ignore):
        table.column(name, "task.categories" if name in categories else "task.ignore")
    for name in names:
        table.column(name, "task.target")
    excluded = {*names, *ignore}
    inputs = [name for name in table.columns if name not in excluded]
    if not inputs:
        raise DataError(f"{table.path} has no columns besides target and ignored ones")
    table = _without_missing(table, inputs, names, missing)
    targets = [table.columns[name] for name in names]
    chosen = _inferred(targets) if kind == "auto" else kind
    values, class_names = _targets(table, targets, chosen)
    groups = values if chosen == "classification" else np.zeros(len(values), dtype=np.int64)
    names_of_groups = class_names if chosen == "classification" else None
    try:
        splits = _splits(groups, names_of_groups, test_fraction, search_fraction, split_seed)
    except DataError as error:
        columns = f"column{'s' if len(names) > 1 else ''} " + ", ".join(f"'{name}'" for name in names)
        raise DataError(f"{table.path}, {columns}: {error}") from error
    features = make_features(
        table, [table.columns[name] for name in inputs], splits["train"], most_categories=most_categories
    )
    parts = {split: (features.values[rows], values[rows]) for split, rows in splits.items()}
    losses = {"classification": "cross_entropy", "regression": "mse", "multilabel": "binary_cross_entropy"}
    return TensorTask(
        *parts["train"],
        search=parts["search"],
        test=parts["test"],
        loss=losses[chosen],
        metrics=metrics,
        num_classes=len(class_names) if chosen == "classification" and class_names else None,
        class_names=class_names,
        batch_size=batch_size,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        sampler=sampler,
        standardize_targets=chosen == "regression",
        preprocessing={
            "input": "table",
            "features": features.description,
            "targets": names,
            "kind": chosen,
            "separator": separator,
            "missing_values": list(missing_values),
        },
    )


def _without_missing(table: Table, inputs: Sequence[str], targets: Sequence[str], missing: str) -> Table:
    """Return the table without rows that lack a value that is needed."""
    needed = [*targets, *(() if missing == "impute" else inputs)]
    dropped: dict[int, str] = {}
    for name in needed:
        for row, cell in enumerate(table.columns[name].cells):
            if cell is None:
                if missing == "error":
                    raise DataError(
                        f"{table.path}, line {table.lines[row]}, column '{name}': the value is missing; set missing to "
                        "drop or impute, or list the column in ignore"
                    )
                dropped.setdefault(row, name)
    if len(dropped) == len(table.lines):
        raise DataError(f"{table.path}: every row has a missing value")
    if not dropped:
        return table
    first = min(dropped)
    _log.warning(
        "task csv: %d of %d rows of %s are left out, since a value is missing; the first is line %d, column '%s'",
        len(dropped),
        len(table.lines),
        table.path,
        table.lines[first],
        dropped[first],
    )
    return table.without(set(dropped))


def _inferred(targets: Sequence[Column]) -> Kind:
    values = {cell for column in targets for cell in column.cells}
    kind: Kind = "regression"
    if len(targets) > 1 and values <= {0.0, 1.0}:
        kind = "multilabel"
    elif len(targets) == 1:
        whole = all(isinstance(value, float) and value.is_integer() for value in values)
        if not targets[0].numeric or (whole and len(values) <= MOST_CLASSES):
            kind = "classification"
    _log.warning(
        "task csv: %s with %d different values: %s; set kind if this is wrong, or to omit this message",
        " and ".join(f"'{column.name}'" for column in targets),
        len(values),
        kind,
    )
    return kind


def _targets(table: Table, targets: Sequence[Column], kind: Kind) -> tuple[NDArray[Any], list[str] | None]:
    """Return the targets as an array, and the names of classes or labels."""
    if kind == "classification":
        if len(targets) > 1:
            raise ConfigurationError("classification needs one target column", path="task.target")
        column = targets[0]
        present = sorted(set(column.cells), key=lambda cell: (isinstance(cell, str), cell))
        if len(present) < 2:
            raise DataError(
                f"{table.path}, column '{column.name}': every row is {present[0]!r}, and classification needs two "
                "classes at least; set target to another column, or kind: regression"
            )
        numbers = {cell: number for number, cell in enumerate(present)}
        classes = np.array([numbers[cell] for cell in column.cells], dtype=np.int64)
        return classes, [_class_name(table, column, cell) for cell in present]
    for column in targets:
        if not column.numeric:
            raise DataError(
                f"{table.path}, column '{column.name}': {kind} needs numbers, and the column is text, such as "
                f"{column.cells[0]!r} in line {table.lines[0]}{decimal_commas(table, column)}"
            )
        if kind == "multilabel":
            for line, cell in zip(table.lines, column.cells, strict=True):
                if cell not in (0.0, 1.0):
                    raise DataError(
                        f"{table.path}, line {line}, column '{column.name}': a label must be 0 or 1, not {cell:g}"
                    )
    values = np.array([column.cells for column in targets], dtype=np.float32).T
    return np.ascontiguousarray(values), [column.name for column in targets] if kind == "multilabel" else None


def _class_name(table: Table, column: Column, cell: Cell) -> str:
    """Return the name of a class, another one for each cell; whole numbers have no decimal point."""
    if not isinstance(cell, float):
        return str(cell)
    if abs(cell) >= _EXACT:
        place = column.cells.index(cell)
        raise DataError(
            f"{table.path}, line {table.lines[place]}, column '{column.name}': the class {cell:.0f} is too large for a "
            "number, since its neighbours would be the same class; list the column in categories, so that its cells "
            "are text"
        )
    return str(int(cell)) if cell.is_integer() else repr(cell)


def _splits(
    groups: NDArray[np.int64], names: Sequence[str] | None, test_fraction: float, search_fraction: float, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split, stratified by group, whose names are for messages."""
    rest, test = hold_out(groups, test_fraction, setting="test_fraction", seed=seed, what="test", names=names)
    train, search = hold_out(
        groups[rest], search_fraction, setting="search_fraction", seed=seed, what="search", names=names
    )
    return {"train": rest[train], "search": rest[search], "test": test}
