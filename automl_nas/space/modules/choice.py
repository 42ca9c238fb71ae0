"""Modules that hold alternatives: the base class `ChoiceModule`, and `OneOf`, a choice among modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, final

from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Choice, Decision
from automl_nas.space.modules.weighted_sum import WeightedSum, emit_weighted_sum
from automl_nas.space.selection import Weighted


@dataclass(frozen=True, slots=True)
class ResolvedChoice:
    """What a selection says about one decision, in one form for values, tensors and `Weighted`.

    Attributes:
        options: the options that are computed.
        weights: one weight for each of them, shape ``(len(options),)``; None: unweighted.
    """

    options: tuple[Scalar, ...]
    weights: Tensor | None = None


def resolve_choice(name: str, decision: Decision, given: Value | Tensor | Weighted) -> ResolvedChoice:
    """Bring what a selection gives for a decision into one form. Weights' shapes are checked, their values never read.

    Raises:
        SpaceError: an option that does not exist, or the wrong number of weights.
    """
    try:
        if isinstance(given, Tensor):
            if given.shape != (len(decision.options),):
                raise SpaceError(
                    f"a tensor of shape {tuple(given.shape)} cannot weight its {len(decision.options)} options; "
                    f"give one weight per option, shape ({len(decision.options)},)"
                )
            return ResolvedChoice(decision.options, given)
        if isinstance(given, Weighted):
            return _resolve_weighted(decision, given)
        value = decision.validate(given)
    except SpaceError as error:
        raise SpaceError(f"decision '{name}': {error}") from None
    return ResolvedChoice(value if isinstance(value, tuple) else (value,))


def _resolve_weighted(decision: Decision, given: Weighted) -> ResolvedChoice:
    options = tuple(decision.options[decision.position(option)] for option in given.options)
    if len(set(options)) != len(options):
        raise SpaceError(f"{given.value!r} names an option twice")
    if isinstance(decision, Choice):
        if not options:
            raise SpaceError("a Weighted needs at least one option to compute")
    else:
        decision.validate(options)
    weights = given.tensor.reshape(1) if given.tensor.dim() == 0 and len(options) == 1 else given.tensor
    if weights.shape != (len(options),):
        raise SpaceError(
            f"a tensor of shape {tuple(weights.shape)} cannot weight {options!r}; give shape ({len(options)},)"
        )
    return ResolvedChoice(options, weights)


class ModuleResolver(ABC):
    """What a choice module is given to put something in its own place."""

    @abstractmethod
    def __call__(self, module: nn.Module) -> nn.Module:
        """Return what stands for a child module: choices inside it resolved, copied if the result is to be a copy."""

    @abstractmethod
    def input_shape(self, choice: ChoiceModule) -> tuple[int, ...]:
        """Return the shape of the tensor, batch included, that reaches a choice module under the present selection."""

    @property
    @abstractmethod
    def fresh(self) -> bool:
        """Whether a network with weights of its own is being built, rather than a copy of trained ones."""


class ChoiceModule(nn.Module, ABC):
    """A module that holds alternatives, used inside the module of a `ModuleSpace`.

    It is never called itself: a view or an extracted network has something else in its place. A subclass gives the
    five abstract methods; ``key`` is the last part of a decision's name, empty if the module has a single decision.

    Args:
        name: of the decision(s); None: the module's path. The same name in several places ties them.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self._init_choice(name)

    def _init_choice(self, name: str | None) -> None:
        self.decision_name = name
        self.path = name or "(not part of a ModuleSpace)"

    @abstractmethod
    def decisions(self) -> Mapping[str, Decision]:
        """Key -> decision, in order; may be empty (a module that only follows others)."""

    @abstractmethod
    def view(self, taken: Mapping[str, ResolvedChoice], resolve: ModuleResolver) -> nn.Module:
        """Return a module that computes what is taken and shares its Parameters and buffers with this one."""

    @abstractmethod
    def extract(self, taken: Mapping[str, ResolvedChoice], resolve: ModuleResolver) -> nn.Module:
        """Return the same as `view`, with no class of this framework inside and with weights frozen in.

        Children go through ``resolve``; tensors of this module's own must be cloned.
        """

    @abstractmethod
    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return what matters: key -> the canonical value (keys that do not matter left out), and the children used."""

    @abstractmethod
    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove every other option, in place and for good; the remaining Parameters stay the same objects."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Refuse: a choice that is called was not resolved.

        Raises:
            SpaceError: always; it names the path.
        """
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise the error of an unresolved choice."""
        raise SpaceError(
            f"the choice '{self.path}' was called before it was resolved: call the supernet as supernet(x, selection), "
            "or build / extract an architecture; a choice reached through a plain list, a closure or a bound method "
            "cannot be resolved: register it as a submodule (nn.ModuleList, nn.ModuleDict)"
        )


@final
class OneOf(ChoiceModule):
    """One of several modules.

    A value runs that option alone. A tensor runs all options and returns the sum of their outputs, each times its
    weight (DARTS); `Weighted` does so for the options it names (GDAS, ProxylessNAS). With weights, options take one
    tensor and return one, all of the same shape.

    Args:
        options: name -> module, or a sequence, whose options are the numbers 0, 1, ...
        name: of the decision; None: the module's path, e.g. ``blocks.3``. Places with the same name are tied: one
            decision with the same options.

    Raises:
        SpaceError: no options, or a name that cannot be a submodule's.
    """

    def __init__(self, options: Mapping[str, nn.Module] | Sequence[nn.Module], name: str | None = None) -> None:
        super().__init__(name)
        named: dict[Scalar, nn.Module] = {}
        named.update(options.items() if isinstance(options, Mapping) else enumerate(options))
        if not named:
            raise SpaceError("a OneOf needs at least one option")
        for option, module in named.items():
            key = str(option)
            if not key or "." in key or hasattr(self, key):
                raise SpaceError(
                    f"an option cannot be called '{key}': it would hide an attribute of modules; rename it"
                )
            self.add_module(key, module)
        self._decision = Choice(tuple(named))

    def decisions(self) -> Mapping[str, Decision]:
        """Return the one decision."""
        return {"": self._decision}

    def view(self, taken: Mapping[str, ResolvedChoice], resolve: ModuleResolver) -> nn.Module:
        """Return the option itself, or the weighted sum of several."""
        choice = taken[""]
        if choice.weights is None:
            return resolve(self._option(choice.options[0]))
        return WeightedSum([resolve(self._option(option)) for option in choice.options], choice.weights)

    def extract(self, taken: Mapping[str, ResolvedChoice], resolve: ModuleResolver) -> nn.Module:
        """Return the option, or a graph that sums several with the weights as a buffer."""
        choice = taken[""]
        if choice.weights is None:
            return resolve(self._option(choice.options[0]))
        modules = {str(option): resolve(self._option(option)) for option in choice.options}
        return emit_weighted_sum(modules, choice.weights, self.training)

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the value and the option it names."""
        value = values[""]
        assert not isinstance(value, tuple)
        return values, (self._option(value),)

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove the options that are not live."""
        kept = live.get("", self._decision.options)
        for option in self._decision.options:
            if option not in kept:
                del self._modules[str(option)]
        self._decision = Choice(kept)

    def _option(self, option: Scalar) -> nn.Module:
        module = self._modules[str(option)]
        assert module is not None
        return module
