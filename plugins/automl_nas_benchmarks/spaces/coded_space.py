"""Spaces whose architectures are known by a code: one digit for each decision."""

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
    """Choices among the same few operations everywhere, and networks that are built only when one is asked for.

    Searching a table needs decisions and codes, so making the space imports no torch and builds no module.

    Args:
        decisions: their names, in the order of the code's digits.
        options: of every decision, in the order of the digits 0, 1, ...
        parametric: those of them that are layers with weights.
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
        self._canonical, self._first = _known(type(self))

    @abstractmethod
    def network(self) -> nn.Module:
        """Return the network with all its choices, with fresh weights."""

    @abstractmethod
    def canonical_code(self, code: str) -> str:
        """Return the code of the representative of all architectures that compute the same function.

        It depends on the code and the class alone, not on settings.
        """

    @final
    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the representative of all architectures that compute the same function, the same object each time."""
        found = self._canonical.get(architecture.key)
        if found is None:
            # A search asks several times for each candidate; there are at most as many entries as architectures.
            code = self.canonical_code(self.code(architecture))
            found = self._first.get(code)
            if found is None:
                found = self._first[code] = self._made(code)
            self._canonical[architecture.key] = found
        return found

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
            SpaceError: it lacks a decision, or has a value that the decision cannot take.
        """
        try:
            return "".join([self._digits[architecture[name]] for name in self._decisions])  # type: ignore[index]
        except (KeyError, TypeError):
            # Whatever is wrong with it, the validation says it better; it returns only if extra names confused nobody.
            return self.code(self.validate(architecture))

    def architecture(self, code: str) -> Architecture:
        """Return the architecture of a code.

        Args:
            code: text, one digit for each decision; leading zeros count.

        Raises:
            SpaceError: it is not text, or has the wrong length or a digit that stands for no option.
        """
        if not isinstance(code, str):
            raise SpaceError(f"a code is text, since leading zeros count, not {code!r}; write '{code}' in quotes")
        if len(code) != len(self._decisions):
            raise SpaceError(f"a code has {len(self._decisions)} digits, not {len(code)}: '{code}'")
        if wrong := [digit for digit in code if digit not in self._options]:
            known = ", ".join(f"{digit} ({option})" for digit, option in self._options.items())
            raise SpaceError(f"'{wrong[0]}' in the code '{code}' stands for nothing; a digit is one of {known}")
        return self._made(code)

    def _made(self, code: str) -> Architecture:
        return Architecture(dict(zip(self._decisions, map(self._options.__getitem__, code), strict=True)))

    def parametric(self, architecture: Architecture) -> int:
        """Return how many decisions chose a layer with weights: the simplest guess at how good a network is."""
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
def _known(kind: type[CodedSpace]) -> tuple[dict[str, Architecture], dict[str, Architecture]]:
    """Return what is known of the canonical forms of a class: key -> canonical form, and code -> canonical form.

    All searches of a process share it.
    """
    return {}, {}


def check_positive(**settings: int) -> None:
    """Refuse settings below 1.

    Raises:
        SpaceError: there is one; the message names it.
    """
    for name, value in settings.items():
        if value < 1:
            raise SpaceError(f"{name} is at least 1, not {value}")
