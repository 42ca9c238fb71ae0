"""The search space of a table: `TableSpace`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space import Architecture, Choice, DecisionSpace, Scalar, SearchSpace
from automl_nas_benchmarks.tables.coding import Coding
from automl_nas_benchmarks.tables.columns import UNNAMED
from automl_nas_benchmarks.tables.reader import TableSource, read_table
from automl_nas_benchmarks.tables.table import Table

if TYPE_CHECKING:
    from torch import nn


@final
class TableSpace(DecisionSpace):
    """The architectures of a table of one's own. There are no networks, only what the table knows of them.

    The options of each decision are those that occur in the table. If it does not hold every combination, a search may
    propose what it lacks: such trials fail, unless the constraint ``listed: ">= 1"`` keeps them out.

    Args:
        path: ``.csv``, ``.csv.gz`` or ``.parquet`` (which needs the extra ``benchmark``).
        codes: the column in which each architecture is one text, one symbol for each decision; the decisions are called
            ``choice_1``, ``choice_2``, ...
        separator: between the symbols of a code; empty: each character is a symbol.
        decisions: instead of codes, the columns that hold one decision each.
        ordered: decisions whose options are numbers in order, such as widths.
        absent: further texts that stand for a missing value, such as ``"-1"``.
    """

    def __init__(
        self,
        *,
        path: Path,
        codes: str | None = None,
        separator: str = "",
        decisions: tuple[str, ...] = (),
        ordered: tuple[str, ...] = (),
        absent: tuple[str, ...] = (),
    ) -> None:
        self.table = read_table(TableSource(path, codes, separator, decisions, ordered, absent))
        # In the order of the code's symbols or of the columns named.
        super().__init__(self.table.coding.decisions)

    def build(self, architecture: Architecture) -> nn.Module:
        """Refuse.

        Raises:
            SpaceError: always.
        """
        raise SpaceError(
            f"a table has no networks to build ({self.table.name}); for networks write a space with the same "
            "decisions, and read this table with the evaluator 'tabular'"
        )

    def code(self, architecture: Architecture) -> str:
        """Return the text that stands for an architecture in the table.

        Raises:
            SpaceError: it is not of this space.
        """
        return self.table.coding.code(architecture)

    def architecture(self, code: str) -> Architecture:
        """Return the architecture that a text stands for.

        Raises:
            SpaceError: it is not of this space.
        """
        return self.table.coding.architecture(code)


def table_of(space: SearchSpace, source: TableSource | None, owner: str) -> Table:
    """Return the table that a component shall read: its own source, else that of the space.

    Args:
        space: what is searched.
        source: the component's own.
        owner: the component's name, for messages.

    Raises:
        ConfigurationError: neither has one, or it does not fit the space.
        DataError: it cannot be read.
    """
    if source is not None:
        return bound(read_table(source), space, owner)
    if isinstance(space, TableSpace):
        return space.table
    raise ConfigurationError(
        f"'{owner}' needs a table, and the space brings none; write source: {{path: results.csv, decisions: [...]}}",
        path="source",
    )


def bound(table: Table, space: SearchSpace, owner: str) -> Table:
    """Return a table that knows its architectures by the options of a space.

    The table's symbols are texts; an option is found by its own text, and a number by its value. Decisions go by name,
    those of codes, which have none, by their place. Options that do not occur in the table are left out.

    Args:
        table: with texts for options, or numbers where it says that they are ordered.
        space: what is searched.
        owner: the component's name, for messages.

    Raises:
        ConfigurationError: the space has other decisions, or none of the options of one of them.
    """
    symbols, decisions = table.coding.symbols, space.decisions
    nameless = all(name == f"{UNNAMED}{place}" for place, name in enumerate(symbols, start=1))
    named = dict(zip(symbols, decisions, strict=False)) if nameless else {name: name for name in symbols}
    if len(symbols) != len(decisions) or set(named.values()) != set(decisions):
        raise ConfigurationError(
            f"'{owner}' reads the table '{table.name}', whose decisions are {', '.join(symbols)}, and those of the "
            f"space are {', '.join(decisions)}",
            path="source",
        )
    found: dict[str, dict[Scalar, str]] = {}
    for theirs, texts in symbols.items():
        decision, known = decisions[named[theirs]], found.setdefault(named[theirs], {})
        for option in decision.options if isinstance(decision, Choice) else ():
            match = next((text for text in texts if _same(text, option)), None)
            if match is not None:
                known[option] = match
        if not known:
            raise ConfigurationError(
                f"'{owner}' reads the table '{table.name}', where '{theirs}' is one of {', '.join(texts)}, and in the "
                f"space '{named[theirs]}' is one of {decision.options!r}",
                path="source",
            )
    coding = Coding(
        {name: Choice(tuple(known)) for name, known in found.items()},
        {name: tuple(known.values()) for name, known in found.items()},
        table.coding.separator,
    )
    return replace(table, coding=coding)


def _same(text: str, option: Scalar) -> bool:
    if text == str(option):
        return True
    try:
        return isinstance(option, int | float) and not isinstance(option, bool) and float(text) == option
    except ValueError:
        return False
