"""The codes of architectures in a table: `Coding`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space import Architecture, Choice, Scalar, Value


@final
@dataclass(frozen=True, eq=False)
class Coding:
    """Writes and reads codes: strings with one symbol for each decision, in the order of the decisions.

    Attributes:
        decisions: decision name -> decision.
        symbols: decision name -> the symbol of each option, in the order of the options.
        separator: string between symbols; may be empty if all symbols are single characters.
    """

    decisions: Mapping[str, Choice]
    symbols: Mapping[str, tuple[str, ...]]
    separator: str = ""
    _write: tuple[tuple[str, dict[Value, str]], ...] = field(init=False, repr=False)
    _read: tuple[dict[str, Scalar], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        items = [(name, decision.options, self.symbols[name]) for name, decision in self.decisions.items()]
        write = tuple((name, dict[Value, str](zip(options, symbols, strict=True))) for name, options, symbols in items)
        read = tuple(dict(zip(symbols, options, strict=True)) for _, options, symbols in items)
        object.__setattr__(self, "_write", write)
        object.__setattr__(self, "_read", read)

    def options(self, code: str) -> tuple[Scalar, ...]:
        """Return the options of a code, in the order of the decisions.

        Raises:
            SpaceError: the code has the wrong number of symbols, or an unknown symbol.
        """
        parts = code.split(self.separator) if self.separator else code
        if len(parts) != len(self._read):
            raise SpaceError(f"the code '{code}' has {len(parts)} symbols for {len(self._read)} decisions")
        try:
            return tuple([options[symbol] for options, symbol in zip(self._read, parts, strict=True)])
        except KeyError:
            for name, symbol, options in zip(self.decisions, parts, self._read, strict=True):
                if symbol not in options:
                    symbols = ", ".join(f"'{valid}'" for valid in options)
                    raise SpaceError(
                        f"the code '{code}' has the unknown symbol '{symbol}' for '{name}'; known: {symbols}"
                    ) from None
            raise

    def code(self, architecture: Architecture) -> str:
        """Return the code of an architecture.

        Raises:
            SpaceError: the architecture lacks a decision of the table, or has an option that the table does not have.
        """
        try:
            return self.separator.join([symbols[architecture[name]] for name, symbols in self._write])
        except KeyError:
            raise self._error(architecture) from None

    def architecture(self, code: str) -> Architecture:
        """Return the architecture of a code.

        Raises:
            SpaceError: the code has the wrong number of symbols, or an unknown symbol.
        """
        return Architecture(dict(zip(self.decisions, self.options(code), strict=True)))

    def _error(self, architecture: Architecture) -> SpaceError:
        for name, symbols in self._write:
            if name not in architecture:
                hint = did_you_mean(name, architecture)
                return SpaceError(f"the architecture has no decision '{name}', which the table needs{hint}")
            if architecture[name] not in symbols:
                options = ", ".join(repr(option) for option in symbols)
                return SpaceError(f"'{name}' is {architecture[name]!r}; the table has only {options}")
        raise AssertionError("the code of a valid architecture could not be written")
