"""Tables of architectures and their metrics and costs: `Table`, `Column` and `Lookup`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, SpaceError, did_you_mean
from automl_nas.space import Architecture, SearchSpace
from automl_nas_benchmarks.tables.coding import Coding

Key: TypeAlias = Literal["raw", "canonical"]
"""The key of a lookup: the architecture's own code (``raw``), or the code of its representative (``canonical``)."""

Better: TypeAlias = Literal["higher", "lower"]
"""Whether higher or lower values of a column are better."""


@final
@dataclass(frozen=True, eq=False)
class Column:
    """A metric or cost of every architecture of a table.

    Attributes:
        values: one for each row, float64; NaN where the value is missing.
        unit: such as ``%`` or ``ms``; empty if unknown.
        better: whether higher or lower values are better.
        key: ``canonical`` for a property of the function that a network computes, ``raw`` for a property of the network
            as it is written (a device also runs operations without an effect).
        absent: the reason for missing values, for messages.
        about: a description in one line.
    """

    values: NDArray[np.float64]
    unit: str = ""
    better: Better = "higher"
    key: Key = "raw"
    absent: str = "no value"
    about: str = ""


@final
@dataclass(frozen=True, eq=False)
class Table:
    """Architectures in rows, and columns of numbers.

    Attributes:
        name: name of the table, for messages.
        coding: writes and reads the codes of architectures.
        codes: the code of each row, a string; all are distinct.
        columns: name -> column.
        representatives: for each row the number of the first row of the same function, shape ``(rows,)``; None: all
            functions differ.
        licence: licence of the numbers.
        citation: reference of the publication.
        unusable: name of a column that does not contain numbers -> the reason.
    """

    name: str
    coding: Coding
    codes: tuple[str, ...]
    columns: Mapping[str, Column]
    representatives: NDArray[np.int64] | None = None
    licence: str = ""
    citation: str = ""
    unusable: Mapping[str, str] = field(default_factory=dict)
    _rows: dict[str, int] = field(init=False, repr=False)
    _lists: dict[tuple[str, Key], list[float]] = field(init=False, repr=False, default_factory=dict)
    _row_by_key: dict[str, int] = field(init=False, repr=False, default_factory=dict)
    _architectures: list[Architecture] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        rows = {code: row for row, code in enumerate(self.codes)}
        if len(rows) != len(self.codes):
            seen: set[str] = set()
            twice = next(code for code in self.codes if code in seen or seen.add(code))  # type: ignore[func-returns-value]
            count = len(self.codes) - len(rows)
            raise DataError(f"the table '{self.name}' has the code '{twice}' more than once ({count} rows too many)")
        object.__setattr__(self, "_rows", rows)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def complete(self) -> bool:
        """Whether the table has a row for every combination of options."""
        return len(self) == math.prod(decision.size for decision in self.coding.decisions.values())

    def listed(self) -> Sequence[Architecture]:
        """Return the architectures of the rows, without those that have an option that the decisions lack."""
        if not self._architectures:
            for code in self.codes:
                with suppress(SpaceError):
                    self._architectures.append(self.coding.architecture(code))
        return self._architectures

    def row(self, architecture: Architecture) -> int:
        """Return the number of an architecture's row.

        Raises:
            SpaceError: the table does not have the architecture.
        """
        row = self._row_by_key.get(architecture.key)
        if row is None:
            # The cache has at most one entry per row; writing the code takes longer than this lookup.
            row = self._row_by_key[architecture.key] = self.find(self.coding.code(architecture))
        return row

    def has(self, architecture: Architecture) -> bool:
        """Whether the table has a row for an architecture, which must have the decisions of the table.

        Raises:
            SpaceError: the architecture lacks a decision of the table.
        """
        for name in self.coding.decisions:
            if name not in architecture:
                raise SpaceError(f"the architecture has no decision '{name}', which the table needs")
        try:
            self.row(architecture)
        except SpaceError:
            return False
        return True

    def find(self, code: str) -> int:
        """Return the number of a code's row.

        Raises:
            SpaceError: the table does not have the code.
        """
        row = self._rows.get(code)
        if row is None:
            self.coding.architecture(code)  # raises an error if the code is malformed
            raise SpaceError(f"the table '{self.name}' has no row for '{code}' (it has {len(self):,})")
        return row

    def representative(self, row: int) -> int:
        """Return the first row of the same function."""
        return row if self.representatives is None else int(self.representatives[row])

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            ConfigurationError: the table has no such column; the message offers the nearest name.
            DataError: the column does not contain numbers.
        """
        if name in self.unusable:
            raise DataError(f"the column '{name}' of the table '{self.name}' cannot be used: {self.unusable[name]}")
        if name not in self.columns:
            raise ConfigurationError(
                f"the table '{self.name}' has no column '{name}'{did_you_mean(name, self.columns)}", path="column"
            )
        return self.columns[name]

    def lookup(self, column: str, key: Key | None = None) -> Lookup:
        """Return the function architecture -> value of a column.

        Args:
            column: name of the column.
            key: under which code values are looked up; None: the key of the column.
        """
        source = self.column(column)
        own_key = key or source.key
        if (column, own_key) not in self._lists:
            values = source.values
            if own_key == "canonical" and self.representatives is not None:
                values = values[self.representatives]
            self._lists[column, own_key] = values.tolist()  # shared by all searches of a process
        return Lookup(self, column, self._lists[column, own_key])

    def check(self, space: SearchSpace, owner: str) -> None:
        """Check that a space has the decisions of the table, in any order.

        Args:
            space: the space to check.
            owner: name of the component that reads the table, for messages.

        Raises:
            ConfigurationError: the space has other decisions, or a decision has no option in common with the table.
        """
        own, others = self.coding.decisions, space.decisions
        for name in sorted({*own, *others}):
            if name not in others or name not in own:
                side = "the space" if name in own else "the table"
                raise ConfigurationError(
                    f"{owner} reads the table '{self.name}', whose decisions are {', '.join(own)}; {side} has no "
                    f"decision '{name}'; use the space of the table"
                )
            # A table may lack options of the space; the lookup of an architecture without a row fails.
            if not set(own[name].options) & set(others[name].options):
                raise ConfigurationError(
                    f"{owner} reads the table '{self.name}', where '{name}' is one of {own[name].options!r}; in the "
                    f"space it is one of {others[name].options!r}"
                )


@final
class Lookup:
    """The function architecture -> value of one column.

    Args:
        table: the table of the column.
        column: name of the column.
        values: one for each row, NaN where the value is missing.
    """

    def __init__(self, table: Table, column: str, values: Sequence[float]) -> None:
        self.table, self.column, self.values = table, column, values
        self._row = table.row

    def __call__(self, architecture: Architecture) -> float:
        """Return the value; NaN if it is missing.

        Raises:
            SpaceError: the table does not have the architecture.
        """
        return self.values[self._row(architecture)]

    def absent(self, architecture: Architecture) -> str:
        """Return a message with the missing value of an architecture and the reason."""
        reason = self.table.columns[self.column].absent
        return (
            f"the table '{self.table.name}' has no '{self.column}' for {self.table.coding.code(architecture)}: {reason}"
        )
