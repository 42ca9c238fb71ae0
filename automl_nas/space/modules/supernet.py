"""The supernet of a `ModuleSpace`: the user's module, whose choices are resolved anew for each call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import final

from torch import Tensor, nn

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Scalar
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.modules.choice import ResolvedChoice, resolve_selection
from automl_nas.space.modules.choice_tree import ChoiceTree, Shapes
from automl_nas.space.selection import Selection
from automl_nas.space.supernet import Segment, Supernet


@final
class ModuleSupernet(Supernet):
    """A user's module with all its choices and their weights; built by `ModuleSpace.build_supernet`.

    Args:
        network: the module.
        shapes: resolved selection -> the input shapes of the choice modules; called only for layers that follow their
            input.
        factory: returns a module like ``network`` with fresh weights; None: `separate` cannot return one.

    Attributes:
        network: the user's module. It cannot be called, since its choices are not resolved; call the supernet. Where
            options share weights, the parameters of the smaller ones are None.
    """

    def __init__(
        self,
        network: nn.Module,
        shapes: Callable[[Mapping[str, ResolvedChoice]], Shapes],
        factory: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._factory = factory
        self._tree = ChoiceTree(network)
        self._tree.check_sharing()
        for choice in self._tree.names:
            choice.share_weights()
        self._shapes = shapes
        self._decisions = dict(self._tree.decisions)
        self._emptied: set[str] = set()
        self._parts = self._tree.consecutive_parts()

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> the decision with the live options; subsets without options are left out."""
        return self._decisions

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Run the selected part: ``view(selection)(x)``; see `Supernet.forward`."""
        outputs: Tensor = self.view(selection)(x)
        return outputs

    def view(self, selection: Selection) -> nn.Module:
        """Return the selected network as a module that shares Parameters and buffers with the supernet.

        The supernet stores nothing of the selection, so views of several selections can be used side by side, under
        activation checkpointing, and in threads. A view is cheap, and is meant for one call: it has the training flags
        that the supernet has now, and does not follow a later `restrict`. If a module that contains a choice sets an
        attribute on itself in its forward, the attribute is set on the view, not on the supernet.

        Raises:
            SpaceError: a decision is missing, unknown, or has something it cannot take.
        """
        return self._tree.view(self.network, resolve_selection(self._decisions, selection, self._emptied))

    def extract(self, selection: Selection) -> nn.Module:
        """Return a stand-alone copy of the selected network; see `Supernet.extract`.

        Weighted choices become torch.fx graphs with the weights as buffers; no random number is drawn.
        """
        choices = resolve_selection(self._decisions, selection, self._emptied)
        return self._tree.extract(choices, lambda: self._shapes(choices), fresh=False)

    def separate(self) -> nn.Module:
        """Return the user's module with weights of their own for all options, for a space that changes its layers.

        It is `network` if no options share weights, otherwise a new module with fresh weights and all options.

        Raises:
            SpaceError: options share weights, and the supernet was made without a factory.
        """
        if not self._tree.sharing():
            return self.network
        if self._factory is None:
            raise SpaceError("options of the supernet share weights, and it was made without a factory for new ones")
        return self._factory()

    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        """Remove options that are not live, in place; see `Supernet.restrict`.

        Options of a `OneOf`, and nodes and edges of a `Dag`, are removed with their weights, except an option whose
        weights a live option uses. Elastic layers keep their weights, since narrower tensors would be other Parameters:
        only the decision gets fewer options.
        """
        shrunk = dict(self._decisions)
        for name, options in live.items():
            if name in self._emptied and not options:
                continue
            if name not in shrunk:
                raise SpaceError(f"the supernet has no decision '{name}'{did_you_mean(name, shrunk)}")
            remaining = _shrink(name, shrunk[name], tuple(options))
            if remaining is None:
                del shrunk[name]
            else:
                shrunk[name] = remaining
        self._emptied |= set(self._decisions) - set(shrunk)
        self._decisions = shrunk
        for module, names in self._tree.names.items():
            module.prune_to({key: shrunk[name].options if name in shrunk else () for key, name in names.items()})
        self._tree.refresh()
        self._parts = self._tree.consecutive_parts()

    def segments(self) -> tuple[Segment, ...]:
        """Return the parts of an ``nn.Sequential``, otherwise one part; see `ChoiceTree.consecutive_parts`."""
        if len(self._parts) == 1:
            return super().segments()
        return tuple(self._segment(part) for part in self._parts)

    def _segment(self, part: Sequence[str]) -> Segment:
        tree, emptied = self._tree, self._emptied
        modules = [self.network.get_submodule(path) for path in part]
        names = tree.decisions_of(part)
        decisions = {name: self._decisions[name] for name in names if name in self._decisions}

        def run(x: Tensor, selection: Selection) -> Tensor:
            of_part = {name: selection[name] for name in names if name in selection}
            choices = resolve_selection(decisions, of_part, emptied)
            for module in modules:
                x = tree.view(module, choices)(x)
            return x

        def divide(network: nn.Module) -> nn.Module:
            extracted = [network.get_submodule(path) for path in part]
            return extracted[0] if len(extracted) == 1 else nn.Sequential(*extracted)

        return Segment(tuple(decisions), run, divide)


def _shrink(name: str, decision: Decision, live: Sequence[Scalar]) -> Decision | None:
    """Return a decision with the live options only, in their old order; None if a `Subset` has no option left.

    Raises:
        SpaceError: an option is unknown, or no option is left of a decision that must take one.
    """
    try:
        positions = sorted({decision.position(option) for option in live})
    except SpaceError as error:
        raise SpaceError(f"decision '{name}': {error}") from None
    options = tuple(decision.options[position] for position in positions)
    if not options and not (isinstance(decision, Subset) and decision.min == 0):
        raise SpaceError(f"decision '{name}': at least one option must stay live")
    if isinstance(decision, Subset):
        largest = None if decision.max is None else min(decision.max, len(options))
        return Subset(options, min(decision.min, len(options)), largest) if options else None
    return type(decision)(options)
