"""The search space of a table: `TableSpace`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space import Architecture, Choice, DecisionSpace, Scalar, SearchSpace
from automl_nas_benchmarks.tables.coding import Coding
from automl_nas_benchmarks.tables.columns import UNNAMED
from automl_nas_benchmarks.tables.reader import Duplicates, TableSource, read_table
from automl_nas_benchmarks.tables.table import Table

if TYPE_CHECKING:
    from torch import nn


@final
class TableSpace(DecisionSpace):
    """The architectures of a user's own table. The space cannot build networks.

    The options of each decision are those that occur in the table. If the table lacks some combinations, a search may
    propose them: such trials fail. The constraint ``listed: ">= 1"`` excludes them.

    Args:
        path: ``.csv``, ``.csv.gz`` or ``.parquet`` (which needs the extra ``benchmark``).
        codes: the column of codes: strings with one symbol for each decision; the decisions are called ``choice_1``,
            ``choice_2``, ... The symbols of several columns are joined to one code.
        separator: string between the symbols of a code; empty: each character is a symbol.
        decisions: instead of ``codes``, the columns with one decision each.
        ordered: decisions whose options are ordered numbers, such as widths.
        absent: additional strings that mean a missing value, such as ``"-1"``.
        duplicates: what happens to rows of the same architecture. ``error``: the table is refused; ``mean``: they
            become one row with the mean of the present values; ``first``: the first of them is used.
    """

    def __init__(
        self,
        *,
        path: Path,
        codes: str | tuple[str, ...] | None = None,
        separator: str = "",
        decisions: tuple[str, ...] = (),
        ordered: tuple[str, ...] = (),
        absent: tuple[str, ...] = (),
        duplicates: Duplicates = "error",
    ) -> None:
        source = TableSource(path, codes, separator, decisions, ordered, absent, duplicates=duplicates)
        self.table = read_table(source)
        # The decisions are in the order of the code's symbols, or of the columns in `decisions`.
        super().__init__(self.table.coding.decisions)

    def build(self, architecture: Architecture) -> nn.Module:
        """Raise an error: a table has no networks.

        Raises:
            SpaceError: always.
        """
        raise SpaceError(
            f"a table has no networks to build ({self.table.name}); for networks write a space with the same "
            "decisions, and read this table with the evaluator 'tabular'"
        )

    def code(self, architecture: Architecture) -> str:
        """Return the code of an architecture in the table.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        return self.table.coding.code(architecture)

    def architecture(self, code: str) -> Architecture:
        """Return the architecture of a code.

        Raises:
            SpaceError: the code is malformed or has an unknown symbol.
        """
        return self.table.coding.architecture(code)


def table_of(space: SearchSpace, source: TableSource | None, owner: str) -> Table:
    """Return the table that a component reads: the table of its ``source``, or that of the space.

    Args:
        space: the search space.
        source: the setting of the component.
        owner: name of the component, for messages.

    Raises:
        ConfigurationError: there is neither a source nor a table of the space, or the table does not fit the space.
        DataError: the table cannot be read.
    """
    if source is not None:
        return bound(read_table(source), space, owner)
    if isinstance(space, TableSpace):
        return space.table
    raise ConfigurationError(
        f"'{owner}' needs a table, and the space is not a table; write source: {{path: results.csv, decisions: [...]}}",
        path="source",
    )


def bound(table: Table, space: SearchSpace, owner: str) -> Table:
    """Return a table whose coding uses the options of a space.

    The symbols of a table are strings: they match an option with the same string, or a number with the same value.
    Decisions are matched by name; those of codes, which have no names, by position. Options that do not occur in the
    table are omitted.

    Args:
        table: a table as `read_table` returns it.
        space: the search space.
        owner: name of the component that reads the table, for messages.

    Raises:
        ConfigurationError: the space has other decisions, or none of the options of one of them.
    """
    symbols, decisions = table.coding.symbols, space.decisions
    nameless = all(name == f"{UNNAMED}{place}" for place, name in enumerate(symbols, start=1))
    named = dict(zip(symbols, decisions, strict=False)) if nameless else {name: name for name in symbols}
    if len(symbols) != len(decisions) or set(named.values()) != set(decisions):
        raise ConfigurationError(
            f"'{owner}' reads the table '{table.name}', whose decisions are {', '.join(symbols)}; those of the space "
            f"are {', '.join(decisions)}",
            path="source",
        )
    matches: dict[str, dict[Scalar, str]] = {}
    for column, own_symbols in symbols.items():
        decision, symbol_of = decisions[named[column]], matches.setdefault(named[column], {})
        for option in decision.options if isinstance(decision, Choice) else ():
            match = next((symbol for symbol in own_symbols if _same(symbol, option)), None)
            if match is not None:
                symbol_of[option] = match
        if not symbol_of:
            raise ConfigurationError(
                f"'{owner}' reads the table '{table.name}', where '{column}' is one of {', '.join(own_symbols)}; in "
                f"the space '{named[column]}' is one of {decision.options!r}",
                path="source",
            )
    coding = Coding(
        {name: Choice(tuple(symbol_of)) for name, symbol_of in matches.items()},
        {name: tuple(symbol_of.values()) for name, symbol_of in matches.items()},
        table.coding.separator,
    )
    return replace(table, coding=coding)


def _same(symbol: str, option: Scalar) -> bool:
    if symbol == str(option):
        return True
    try:
        return isinstance(option, int | float) and not isinstance(option, bool) and float(symbol) == option
    except ValueError:
        return False
