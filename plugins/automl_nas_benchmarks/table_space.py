"""The search space of a table: `TableSpace`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, final

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice
from automl_nas.space.space import SearchSpace
from automl_nas_benchmarks.reading import Source, read_table
from automl_nas_benchmarks.table import Table

if TYPE_CHECKING:
    from torch import nn


@final
class TableSpace(SearchSpace):
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
        self.table = read_table(Source(path, codes, separator, decisions, ordered, absent))

    @property
    def decisions(self) -> Mapping[str, Choice]:
        """Decision name -> decision, in the order of the code's symbols or of the columns named."""
        return self.table.coding.decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Empty: there are no networks."""
        return ()

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


def table_of(space: SearchSpace, source: Source | None, owner: str) -> Table:
    """Return the table that a component shall read: its own source, else that of the space.

    Args:
        space: what is searched.
        source: the component's own.
        owner: the component's name, for messages.

    Raises:
        ConfigurationError: neither has one.
        DataError: it cannot be read.
    """
    if source is not None:
        return read_table(source)
    if isinstance(space, TableSpace):
        return space.table
    raise ConfigurationError(
        f"'{owner}' needs a table, and the space brings none; write source: {{path: results.csv, decisions: [...]}}",
        path="source",
    )
