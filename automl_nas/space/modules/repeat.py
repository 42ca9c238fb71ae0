"""`Repeat`: how many of several modules run one after the other."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision, Ordinal
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice, check_module
from automl_nas.space.modules.fresh_copies import drawn_anew


@final
class Repeat(ChoiceModule):
    """Modules that run one after the other, of which a decision says how many: the depth of a stage.

    The first modules stay, as in once-for-all (Cai et al. 2020, arXiv 1908.09791, section 3.2). An extracted network
    has an ``nn.Sequential`` of them; a depth of 0 is an empty one, which returns its input.

    Args:
        module: a function that returns the module at a position (0, 1, ...); a sequence of modules; or one module,
            which is copied, with weights drawn anew for each copy by the ``reset_parameters`` of its layers. Choices
            inside are decided for each copy, unless they have a name, which ties them.
        minimum: the smallest depth, at least 0.
        maximum: the largest depth; None: the length of the sequence. If it equals ``minimum``, there is no decision.
        name: the name of the decision; None: the module's path. Modules of the same name have the same depth.

    Raises:
        SpaceError: the depths are not whole numbers with ``0 <= minimum <= maximum`` and ``maximum >= 1``, a sequence
            has another length, or a module cannot be called, or has weights of its own that nothing draws anew.

    Example::

        Repeat(lambda position: Block(16, stride=2 if position == 0 else 1), 2, 4)
    """

    def __init__(
        self,
        module: nn.Module | Sequence[nn.Module] | Callable[[int], nn.Module],
        minimum: int,
        maximum: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        owner = "a Repeat" if name is None else f"the Repeat '{name}'"
        if isinstance(module, nn.ModuleList | nn.Sequential) and maximum is None:
            module = list(module)
        if maximum is None:
            if not isinstance(module, Sequence):
                raise SpaceError(f"{owner} needs the largest depth: Repeat(module, {minimum}, maximum)")
            maximum = len(module)
        low, high = _depth(minimum, owner), _depth(maximum, owner)
        if not 0 <= low <= high or high < 1:
            raise SpaceError(f"{owner} needs 0 <= minimum <= maximum and a maximum of at least 1, not {low} and {high}")
        for position, each in enumerate(_modules(module, high, owner)):
            check_module(f"the module {position} of {owner}", each)
            self.add_module(str(position), each)
        self._depths = tuple(range(low, high + 1))

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decision about the depth, if there are several depths."""
        return {"": Ordinal(self._depths)} if len(self._depths) > 1 else {}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the first modules, one after the other."""
        return self._sequence(choices, resolver)

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return an ``nn.Sequential`` of the first modules."""
        return self._sequence(choices, resolver).train(self.training)

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the depth and the modules that run."""
        depth = values.get("", self._depths[-1])
        assert isinstance(depth, int)
        return values, self._first(depth)

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove depths, and the modules that no remaining depth has."""
        depths = live.get("", self._depths)
        for position in range(max(depths), self._depths[-1]):  # type: ignore[type-var, arg-type]
            del self._modules[str(position)]
        self._depths = depths  # type: ignore[assignment]

    def _sequence(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        depth: Scalar = self._depths[-1]
        if "" in choices:
            if choices[""].weights is not None:
                raise SpaceError(
                    f"the depth '{self.path}' takes values only (ModuleSpace.weighable contains the decisions that can "
                    "be weighted)"
                )
            depth = choices[""].options[0]
        assert isinstance(depth, int)
        return nn.Sequential(*(resolver(each) for each in self._first(depth)))

    def _first(self, depth: int) -> list[nn.Module]:
        return [each for each in list(self._modules.values())[:depth] if each is not None]


def _modules(
    module: nn.Module | Sequence[nn.Module] | Callable[[int], nn.Module], count: int, owner: str
) -> list[nn.Module]:
    if isinstance(module, nn.Module):
        way_out = "Repeat(lambda position: ..., minimum, maximum)"
        return [module, *(drawn_anew(module, owner, way_out) for _ in range(count - 1))]
    if isinstance(module, Sequence):
        if len(module) != count:
            raise SpaceError(f"{owner} has {len(module)} modules, but its largest depth is {count}")
        return list(module)
    if isinstance(module, type) or not callable(module):
        check_module(f"the module of {owner}", module)
    return [module(position) for position in range(count)]


def _depth(number: object, owner: str) -> int:
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise SpaceError(f"the depths of {owner} are whole numbers, not {number!r}") from None
