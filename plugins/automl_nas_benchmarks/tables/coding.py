"""How architectures are written in a table: `Coding`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space import Architecture, Choice, Scalar, Value


@final
@dataclass(frozen=True, eq=False)
class Coding:
    """A text for each architecture: one symbol per decision, in the order of the decisions.

    Attributes:
        decisions: decision name -> its options.
        symbols: decision name -> the symbol of each option, in the order of the options.
        separator: between symbols; may be empty if all symbols are single characters.
    """

    decisions: Mapping[str, Choice]
    symbols: Mapping[str, tuple[str, ...]]
    separator: str = ""
    _write: tuple[tuple[str, dict[Value, str]], ...] = field(init=False, repr=False)
    _read: tuple[dict[str, Scalar], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pairs = [(name, decision.options, self.symbols[name]) for name, decision in self.decisions.items()]
        write = tuple((name, dict[Value, str](zip(options, texts, strict=True))) for name, options, texts in pairs)
        read = tuple(dict(zip(texts, options, strict=True)) for _, options, texts in pairs)
        object.__setattr__(self, "_write", write)
        object.__setattr__(self, "_read", read)

    def options(self, code: str) -> tuple[Scalar, ...]:
        """Return the options that a text stands for, in the order of the decisions.

        Raises:
            SpaceError: it has another number of symbols, or one that is unknown.
        """
        parts = code.split(self.separator) if self.separator else code
        if len(parts) != len(self._read):
            raise SpaceError(f"the code '{code}' has {len(parts)} symbols, and there are {len(self._read)} decisions")
        try:
            return tuple([options[symbol] for options, symbol in zip(self._read, parts, strict=True)])
        except KeyError:
            for name, symbol, options in zip(self.decisions, parts, self._read, strict=True):
                if symbol not in options:
                    known = ", ".join(f"'{text}'" for text in options)
                    raise SpaceError(
                        f"the code '{code}' has the symbol '{symbol}' for '{name}'; known: {known}"
                    ) from None
            raise

    def code(self, architecture: Architecture) -> str:
        """Return an architecture's text.

        Raises:
            SpaceError: it lacks a decision of the table, or takes an option that the table does not know.
        """
        try:
            return self.separator.join([symbols[architecture[name]] for name, symbols in self._write])
        except KeyError:
            raise self._unfit(architecture) from None

    def architecture(self, code: str) -> Architecture:
        """Return the architecture that a text stands for.

        Raises:
            SpaceError: it has another number of symbols, or one that is unknown.
        """
        return Architecture(dict(zip(self.decisions, self.options(code), strict=True)))

    def _unfit(self, architecture: Architecture) -> SpaceError:
        for name, symbols in self._write:
            if name not in architecture:
                hint = did_you_mean(name, architecture)
                return SpaceError(f"the architecture has no decision '{name}', which the table asks for{hint}")
            if architecture[name] not in symbols:
                known = ", ".join(repr(option) for option in symbols)
                return SpaceError(f"'{name}' is {architecture[name]!r}, which the table does not hold (it has {known})")
        raise AssertionError("a code could not be written, and nothing is wrong with it")
