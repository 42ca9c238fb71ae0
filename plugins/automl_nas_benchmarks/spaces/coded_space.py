"""Spaces whose architectures have a code: one digit for each decision."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, final

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, SupernetSpace

if TYPE_CHECKING:
    from torch import nn

    from automl_nas.space import ModuleSpace, Supernet


class CodedSpace(SupernetSpace):
    """Every decision is a choice among the same operations; modules are built only when a network is requested.

    To search a table, decisions and codes are enough: constructing the space does not import torch or build modules.

    Args:
        decisions: names of the decisions, in the order of the code's digits.
        options: the options of every decision, in the order of the digits 0, 1, ...
        parametric: the options that are layers with weights.
        input_shape: channels, height and width of an image.
    """

    def __init__(
        self,
        decisions: tuple[str, ...],
        options: tuple[str, ...],
        *,
        parametric: tuple[str, ...],
        input_shape: tuple[int, int, int],
    ) -> None:
        choice = Choice(options)
        self._decisions = dict.fromkeys(decisions, choice)
        self._digits = {option: str(digit) for digit, option in enumerate(options)}
        self._options = {digit: option for option, digit in self._digits.items()}
        self._parametric = frozenset(parametric)
        self._input_shape = input_shape
        self._canonical_by_key, self._canonical_by_code = _canonical_caches(type(self))

    @abstractmethod
    def network(self) -> nn.Module:
        """Return the network with a choice module for each decision, with fresh weights."""

    @abstractmethod
    def canonical_code(self, code: str) -> str:
        """Return the code of the representative of all architectures that compute the same function.

        It depends on the code and the class alone, not on settings.
        """

    @final
    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the representative of all architectures that compute the same function, the same object each time."""
        canonical = self._canonical_by_key.get(architecture.key)
        if canonical is None:
            # A search needs it several times for each candidate; the cache has at most one entry per architecture.
            code = self.canonical_code(self.code(architecture))
            canonical = self._canonical_by_code.get(code)
            if canonical is None:
                canonical = self._canonical_by_code[code] = self._architecture(code)
            self._canonical_by_key[architecture.key] = canonical
        return canonical

    @property
    def decisions(self) -> Mapping[str, Choice]:
        """Decision name -> decision, in the order of the code's digits."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of one input without the batch."""
        return self._input_shape

    def code(self, architecture: Architecture) -> str:
        """Return the digits of an architecture of this space, as the published tables write them.

        Raises:
            SpaceError: the architecture lacks a decision, or has a value that the decision cannot take.
        """
        try:
            return "".join([self._digits[architecture[name]] for name in self._decisions])  # type: ignore[index]
        except (KeyError, TypeError):
            # `validate` raises an error that describes the problem.
            return self.code(self.validate(architecture))

    def architecture(self, code: str) -> Architecture:
        """Return the architecture of a code.

        Args:
            code: a string with one digit for each decision; leading zeros count.

        Raises:
            SpaceError: the code is not a string, has the wrong length, or has a digit without an option.
        """
        if not isinstance(code, str):
            raise SpaceError(
                f"a code must be a string, since leading zeros count, not {code!r}; write '{code}' in quotes"
            )
        if len(code) != len(self._decisions):
            raise SpaceError(f"a code must have {len(self._decisions)} digits, not {len(code)}: '{code}'")
        if unknown := [digit for digit in code if digit not in self._options]:
            options = ", ".join(f"{digit} ({option})" for digit, option in self._options.items())
            raise SpaceError(f"the code '{code}' has the unknown digit '{unknown[0]}'; the digits are {options}")
        return self._architecture(code)

    def _architecture(self, code: str) -> Architecture:
        return Architecture(dict(zip(self._decisions, map(self._options.__getitem__, code), strict=True)))

    def parametric(self, architecture: Architecture) -> int:
        """Return the number of decisions that chose a layer with weights: the simplest predictor of accuracy."""
        return sum(architecture[name] in self._parametric for name in self._decisions)

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`."""
        return self._modules.build(architecture)

    def build_supernet(self) -> Supernet:
        """Return the supernet with fresh weights."""
        return self._modules.build_supernet()

    @cached_property
    def _modules(self) -> ModuleSpace:
        from automl_nas.space import ModuleSpace

        space = ModuleSpace(self.network, input_shape=self._input_shape)
        assert list(space.decisions.items()) == list(self._decisions.items())
        return space


@cache
def _canonical_caches(kind: type[CodedSpace]) -> tuple[dict[str, Architecture], dict[str, Architecture]]:
    """Return the caches of canonical forms of a class, by key and by code. All searches of a process share them."""
    return {}, {}


def check_positive(**settings: int) -> None:
    """Check that all settings are at least 1.

    Raises:
        SpaceError: a setting is below 1; the message names it.
    """
    for name, value in settings.items():
        if value < 1:
            raise SpaceError(f"{name} must be at least 1, not {value}")
