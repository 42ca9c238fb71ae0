"""Tables of architectures and what is known of them: `Table`, its `Column`s, and `Lookup`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, SpaceError, did_you_mean
from automl_nas.space import Architecture, SearchSpace
from automl_nas_benchmarks.tables.coding import Coding

Key: TypeAlias = Literal["raw", "canonical"]
"""How a value is looked up: under the architecture's own code, or under that of its representative."""

Better: TypeAlias = Literal["higher", "lower"]
"""Which values of a column are wanted."""


@final
@dataclass(frozen=True, eq=False)
class Column:
    """One quantity.

    Attributes:
        values: one for each row, float64; NaN where there is none.
        unit: e.g. ``%``, ``ms``; empty if not known.
        better: which values are wanted.
        key: ``canonical`` for what belongs to the function a network computes, ``raw`` for what belongs to the network
            as it is written (a device also runs what is dead).
        absent: what a missing value means, for messages.
        about: one line.
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
    """Architectures, and columns of numbers that are known of them.

    Attributes:
        name: for messages.
        coding: how architectures are written.
        codes: of the rows, as text (leading zeros matter), no two the same.
        columns: name -> column.
        representatives: for each row the first row of the same function; None: all functions differ.
        licence: of the numbers.
        citation: of those who made them.
        unusable: columns without numbers -> what they hold.
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
    _known: dict[str, int] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        rows = {code: row for row, code in enumerate(self.codes)}
        if len(rows) != len(self.codes):
            seen: set[str] = set()
            twice = next(code for code in self.codes if code in seen or seen.add(code))  # type: ignore[func-returns-value]
            count = len(self.codes) - len(rows)
            raise DataError(f"the table '{self.name}' holds the code '{twice}' more than once ({count} rows too many)")
        object.__setattr__(self, "_rows", rows)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def complete(self) -> bool:
        """Whether it has a row for every combination of options."""
        return len(self) == math.prod(decision.size for decision in self.coding.decisions.values())

    def row(self, architecture: Architecture) -> int:
        """Return the number of an architecture's row.

        Raises:
            SpaceError: the table does not hold it.
        """
        row = self._known.get(architecture.key)
        if row is None:
            # At most as many as there are rows; to write the code takes longer than to find it here.
            row = self._known[architecture.key] = self.find(self.coding.code(architecture))
        return row

    def find(self, code: str) -> int:
        """Return the number of a code's row.

        Raises:
            SpaceError: the table does not hold it.
        """
        row = self._rows.get(code)
        if row is None:
            self.coding.architecture(code)  # says what is wrong with it, if anything is
            raise SpaceError(f"the table '{self.name}' has no row for '{code}' (it has {len(self):,})")
        return row

    def representative(self, row: int) -> int:
        """Return the first row of the same function."""
        return row if self.representatives is None else int(self.representatives[row])

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            ConfigurationError: there is none of that name; the nearest one is offered.
            DataError: it does not hold numbers.
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
            column: its name.
            key: under which code; None: as the column says.
        """
        found = self.column(column)
        kind = (column, key or found.key)
        if kind not in self._lists:
            values = found.values
            if kind[1] == "canonical" and self.representatives is not None:
                values = values[self.representatives]
            self._lists[kind] = values.tolist()  # one for all searches of a process: it is as long as the table
        return Lookup(self, column, self._lists[kind])

    def check(self, space: SearchSpace, owner: str) -> None:
        """Check that a space has the decisions that the table is about, in any order.

        Raises:
            ConfigurationError: it has others, or other options.
        """
        wanted, given = self.coding.decisions, space.decisions
        for name in sorted({*wanted, *given}):
            if name not in given or name not in wanted:
                side = "the space has none" if name in wanted else "the table has none"
                raise ConfigurationError(
                    f"{owner} reads the table '{self.name}', whose decisions are {', '.join(wanted)}; {side} "
                    f"of the name '{name}'; use the space the table was made for"
                )
            # A table may lack options of the space; what has no row fails when it is asked for.
            if not set(wanted[name].options) & set(given[name].options):
                raise ConfigurationError(
                    f"{owner} reads the table '{self.name}', where '{name}' is one of {wanted[name].options!r}, and in "
                    f"the space one of {given[name].options!r}"
                )


@final
class Lookup:
    """The values of one column, by architecture.

    Args:
        table: it belongs to.
        column: its name.
        values: one for each row, NaN where there is none.
    """

    def __init__(self, table: Table, column: str, values: Sequence[float]) -> None:
        self.table, self.column, self.values = table, column, values
        self._row = table.row

    def __call__(self, architecture: Architecture) -> float:
        """Return the value, NaN where there is none.

        Raises:
            SpaceError: the table does not hold the architecture.
        """
        return self.values[self._row(architecture)]

    def absent(self, architecture: Architecture) -> str:
        """Return the sentence that says which value is missing, and why."""
        reason = self.table.columns[self.column].absent
        return (
            f"the table '{self.table.name}' has no '{self.column}' for {self.table.coding.code(architecture)}: {reason}"
        )
