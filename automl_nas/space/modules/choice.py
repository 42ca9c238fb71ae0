"""Modules that hold alternatives: the base class `ChoiceModule`, and `OneOf`, a choice among modules.

A selection is resolved first (`resolve_selection`): one `ResolvedChoice` for each decision, whether the selection holds
values, tensors or `Weighted`. Choice modules only ever see these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, final

from torch import Tensor, nn

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Choice, Decision, plain_options
from automl_nas.space.modules import shared_weights
from automl_nas.space.modules.weighted_sum import WeightedSum, emit_weighted_sum
from automl_nas.space.selection import Selection, Weighted


@dataclass(frozen=True, slots=True)
class ResolvedChoice:
    """What a selection holds for one decision, in one form for values, tensors and `Weighted`.

    Attributes:
        options: the options that are computed.
        weights: one weight for each option, shape ``(len(options),)``; None: unweighted.
    """

    options: tuple[Scalar, ...]
    weights: Tensor | None = None


def resolve_selection(
    decisions: Mapping[str, Decision], selection: Selection, emptied: Collection[str] = ()
) -> dict[str, ResolvedChoice]:
    """Return decision name -> what a selection holds for it.

    Args:
        decisions: the decisions that the selection must name.
        selection: a value, a tensor or a `Weighted` for each decision.
        emptied: subsets without options left, which a selection may name or leave out.

    Raises:
        SpaceError: a decision is missing, unknown, or has something it cannot take.
    """
    choices = {}
    for name, decision in decisions.items():
        try:
            selected = selection[name]
        except KeyError:
            raise SpaceError(f"the selection lacks the decision '{name}'; it must name all {len(decisions)}") from None
        choices[name] = resolve_choice(name, decision, selected)
    if len(selection) != len(choices):
        for name in selection:
            if name not in choices and name not in emptied:
                raise SpaceError(f"the supernet has no decision '{name}'{did_you_mean(name, decisions)}")
    for name in emptied:
        choices[name] = ResolvedChoice(())
    return choices


def resolve_choice(name: str, decision: Decision, selected: Value | Tensor | Weighted) -> ResolvedChoice:
    """Return what a selection holds for one decision. Shapes of weights are checked, their values are never read.

    Raises:
        SpaceError: an option that does not exist, or the wrong number of weights.
    """
    try:
        if isinstance(selected, Tensor):
            if selected.shape != (len(decision.options),):
                raise SpaceError(
                    f"a tensor of shape {tuple(selected.shape)} cannot weight its {len(decision.options)} options; "
                    f"pass one weight per option, shape ({len(decision.options)},)"
                )
            return ResolvedChoice(decision.options, selected)
        if isinstance(selected, Weighted):
            return _resolve_weighted(decision, selected)
        value = decision.validate(selected)
    except SpaceError as error:
        raise SpaceError(f"decision '{name}': {error}") from None
    return ResolvedChoice(value if isinstance(value, tuple) else (value,))


def _resolve_weighted(decision: Decision, selected: Weighted) -> ResolvedChoice:
    options = tuple(decision.options[decision.position(option)] for option in selected.options)
    if len(set(options)) != len(options):
        raise SpaceError(f"{selected.value!r} names an option twice")
    if isinstance(decision, Choice):
        if not options:
            raise SpaceError("a Weighted needs at least one option to compute")
    else:
        decision.validate(options)
    weights = selected.tensor.reshape(1) if selected.tensor.dim() == 0 and len(options) == 1 else selected.tensor
    if weights.shape != (len(options),):
        raise SpaceError(
            f"a tensor of shape {tuple(weights.shape)} cannot weight the options {options!r}; "
            f"pass one weight per option, shape ({len(options)},)"
        )
    return ResolvedChoice(options, weights)


class ModuleResolver(ABC):
    """What a choice module calls to resolve the choices inside its children; passed to `ChoiceModule.view`."""

    @abstractmethod
    def __call__(self, module: nn.Module) -> nn.Module:
        """Return a child module with the choices inside it resolved: shared with the supernet, or copied from it."""

    @abstractmethod
    def input_shape(self, choice: ChoiceModule) -> tuple[int, ...]:
        """Return the shape of a choice module's input, batch included, under the selection that is being resolved."""

    @property
    @abstractmethod
    def fresh(self) -> bool:
        """Whether the network gets fresh weights (`build`); False: it inherits the supernet's weights (`extract`)."""


class ChoiceModule(nn.Module, ABC):
    """A module that holds alternatives, used inside the module of a `ModuleSpace`.

    It is never called itself: a view or an extracted network replaces it. A subclass implements the five abstract
    methods. The ``key`` in their signatures is the last part of a decision's name; it is empty if the module has a
    single decision.

    Args:
        name: the name of the decision(s); None: the module's path. Modules of the same name are tied.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self._init_choice(name)

    def _init_choice(self, name: str | None) -> None:
        self.decision_name = name
        self.path = name or "(not part of a ModuleSpace)"

    @abstractmethod
    def decisions(self) -> Mapping[str, Decision]:
        """Return key -> decision, in order; empty for a module that only follows others."""

    @abstractmethod
    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a module that computes the selected options and shares its Parameters and buffers with this one.

        Args:
            choices: key -> what is selected.
            resolver: resolves children.
        """

    @abstractmethod
    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a stand-alone module that computes the same as `view`, with no class of this framework inside.

        Weights of the selection are frozen in, and this module's own tensors must be cloned.

        Args:
            choices: key -> what is selected.
            resolver: resolves and copies children.
        """

    @abstractmethod
    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return key -> the canonical value, without keys that make no difference, and the children that are used."""

    @abstractmethod
    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove, in place and permanently, the options that are not in ``live`` (key -> options).

        The remaining Parameters stay the same objects.
        """

    def share_weights(self) -> None:
        """Let options use weights of others, in place; a supernet calls it once, when it is made. Default: nothing."""

    def sharing_options(self) -> Sequence[nn.Module]:
        """Return the options that share weights in a supernet, those that others use included. Default: none."""
        return ()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Raise an error: a choice that is called was not resolved.

        Raises:
            SpaceError: always; the message contains the path.
        """
        self.raise_unresolved()

    def raise_unresolved(self) -> NoReturn:
        """Raise the error of an unresolved choice."""
        raise SpaceError(
            f"the choice '{self.path}' was called before it was resolved: call the supernet as supernet(x, selection), "
            "or build / extract an architecture. A choice in a plain list, a closure or a bound method cannot be "
            "resolved: register it as a submodule (nn.ModuleList, nn.ModuleDict)"
        )


@final
class OneOf(ChoiceModule):
    """One of several modules.

    A value runs that option alone. A tensor runs all options and returns the weighted sum of their outputs (DARTS);
    `Weighted` does so for the options it names (GDAS, ProxylessNAS). Weighted options must take one tensor and return
    one, all of the same shape.

    Args:
        options: name -> module, or a sequence, whose options are the numbers 0, 1, ... A name is a string, a number or
            a boolean; a dot in it becomes ``_`` in the paths of modules.
        name: the name of the decision; None: the module's path, e.g. ``blocks.3``. Choices of the same name are tied:
            they share one decision and must have the same options.
        shared: whether, in a supernet, options use parts of the weights of the largest option of the same structure:
            the first channels, and the centres of kernels. The structure is the same if the modules inside have the
            same paths and classes, and their parameters the same names; no dimension of a parameter may be larger, and
            kernels must be both odd or both even. Normalisation layers (all their parameters and statistics), options
            of another structure, and options with choices inside keep weights of their own. A network that is
            extracted has copies of the parts; one that is built draws weights of its own, as without sharing. In a
            supernet, the values that smaller options had are not used.

    Raises:
        SpaceError: there are no options, an option is not a module that can be called, the name of an option cannot be
            a submodule's name, or weights are to be shared and no option fits into another one; the message contains
            the reason.
    """

    def __init__(
        self,
        options: Mapping[Any, nn.Module] | Sequence[nn.Module],
        name: str | None = None,
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(name)
        owner = "a OneOf" if name is None else f"the OneOf '{name}'"
        if isinstance(options, Mapping | nn.ModuleDict):
            items = list(options.items())
        elif isinstance(options, Iterable):
            items = list(enumerate(options))
        else:
            raise SpaceError(f"the options of {owner} must be a mapping or a sequence of modules, not {options!r}")
        if not items:
            raise SpaceError(f"{owner} needs at least one option")
        names = plain_options([option for option, _ in items], owner)
        self._decision = Choice(names)
        for option, (_, module) in zip(names, items, strict=True):
            check_module(f"the option {option!r} of {owner}", module)
            self.add_module(self._free_key(option, owner), module)
        self._shared = bool(shared)
        # Of a supernet: option -> the parameters that it lacks, which are parts of those of its owner.
        self._parts: dict[Scalar, tuple[shared_weights.Part, ...]] = {}
        self._owners: dict[Scalar, Scalar] = {}
        if shared:
            self._owners = self._find_owners(owner)

    @property
    def weight_owners(self) -> Mapping[Scalar, Scalar]:
        """Option -> the option whose weights it uses in a supernet; options with weights of their own are left out."""
        return self._owners

    def decisions(self) -> Mapping[str, Decision]:
        """Return the one decision."""
        return {"": self._decision}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the option itself, or the weighted sum of several."""
        choice = choices[""]
        if choice.weights is None:
            return self._viewed(choice.options[0], resolver)
        return WeightedSum([self._viewed(option, resolver) for option in choice.options], choice.weights)

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the option, or a graph that sums several with the weights as a buffer."""
        choice = choices[""]
        if choice.weights is None:
            return self._extracted(choice.options[0], resolver)
        modules = {_submodule(option): self._extracted(option, resolver) for option in choice.options}
        return emit_weighted_sum(modules, choice.weights, self.training)

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the value and the option it names."""
        value = values[""]
        assert not isinstance(value, tuple)
        return values, (self._option(value),)

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove the options that are not live; the module of one whose weights a live option uses stays."""
        live_options = live.get("", self._decision.options)
        self._parts = {option: parts for option, parts in self._parts.items() if option in live_options}
        self._owners = {option: owner for option, owner in self._owners.items() if option in live_options}
        needed = {_submodule(option) for option in (*live_options, *self._owners.values())}
        for key in [each for each in self._modules if each not in needed]:
            del self._modules[key]
        self._decision = Choice(live_options)

    def share_weights(self) -> None:
        """Replace parameters of smaller options by parts of those of larger ones, if ``shared`` was set."""
        if not self._shared or self._parts:
            return
        # Again, since modules inside the options may have been replaced.
        self._owners, _ = shared_weights.owners(self._candidates())
        for option, owner in self._owners.items():
            self._parts[option] = shared_weights.parts(self._option(option), self._option(owner))
            shared_weights.remove(self._option(option), self._parts[option])

    def sharing_options(self) -> Sequence[nn.Module]:
        """Return the options that use weights of others, and these others."""
        return [self._option(option) for option in dict.fromkeys((*self._owners, *self._owners.values()))]

    def _find_owners(self, owner: str) -> dict[Scalar, Scalar]:
        candidates = self._candidates()
        owners, reasons = shared_weights.owners(candidates)
        if owners:
            return owners
        for option in self._decision.options:
            if option not in candidates:
                reasons.append(f"{option!r} contains a choice")
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise SpaceError(
            f"the options of {owner} cannot share weights: {'; '.join(reasons[:3])}{more}. Give two of them or more "
            "the same modules in different sizes, or leave out shared=True"
        )

    def _candidates(self) -> dict[Scalar, nn.Module]:
        """Return the options without choices inside: a choice may use the parameters of its modules in any way."""
        modules = {option: self._option(option) for option in self._decision.options}
        return {
            option: module
            for option, module in modules.items()
            if not any(isinstance(each, ChoiceModule) for each in module.modules())
        }

    def _viewed(self, option: Scalar, resolver: ModuleResolver) -> nn.Module:
        module = self._option(option)
        if option not in self._parts:
            return resolver(module)
        return shared_weights.with_parts(module, self._option(self._owners[option]), self._parts[option])

    def _extracted(self, option: Scalar, resolver: ModuleResolver) -> nn.Module:
        module = resolver(self._option(option))
        if option in self._parts:
            shared_weights.fill(module, self._option(self._owners[option]), self._parts[option])
        return module

    def _option(self, option: Scalar) -> nn.Module:
        module = self._modules[_submodule(option)]
        assert module is not None
        return module

    def _free_key(self, option: Scalar, owner: str) -> str:
        """Return the name of the submodule of an option; raise an error if it cannot have one."""
        key = _submodule(option)
        if not key:
            raise SpaceError(f"an option of {owner} has an empty name; name it")
        if key in self._modules:
            raise SpaceError(
                f"the option {option!r} of {owner} and another one would both be the submodule '{key}'; rename one"
            )
        if hasattr(self, key):
            raise SpaceError(
                f"an option of {owner} cannot be called '{key}', since nn.Module has an attribute of that name; "
                "rename it"
            )
        return key


def _submodule(option: Scalar) -> str:
    # The path of a module separates its parts by dots.
    return str(option).replace(".", "_")


def check_module(where: str, module: object) -> None:
    """Raise an error if an option is not a module that can be called.

    Raises:
        SpaceError: it is not; the message contains the way out.
    """
    if module is None:
        raise SpaceError(f"{where} must be a module, not None; for no layer use nn.Identity()")
    if isinstance(module, type) and issubclass(module, nn.Module):
        raise SpaceError(f"{where} is the class {module.__name__}; make a module of it: {module.__name__}(...)")
    if isinstance(module, list | tuple | nn.ModuleList):
        raise SpaceError(
            f"{where} is a {type(module).__name__}; for modules one after the other use nn.Sequential(...)"
        )
    if not isinstance(module, nn.Module):
        raise SpaceError(f"{where} is {module!r}, a {type(module).__name__}; an option is an nn.Module")
    if getattr(module.forward, "__func__", None) is nn.Module.forward:
        raise SpaceError(
            f"{where} is a {type(module).__name__}, which has no forward; an option is a module that can be called"
        )
