"""The supernet of a `ModuleSpace`: the user's module, whose choices are resolved anew for each call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import final

from torch import Tensor, nn

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Scalar
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ResolvedChoice, resolve_choice
from automl_nas.space.modules.resolution import Shapes, Structure, shrink
from automl_nas.space.selection import Selection
from automl_nas.space.supernet import Segment, Supernet


@final
class ModuleSupernet(Supernet):
    """A user's module with all its choices and their weights; made by `ModuleSpace.build_supernet`.

    Args:
        network: the module.
        shapes: what is taken -> the shapes that reach the choice modules; asked only by layers that follow their input.

    Attributes:
        network: the user's module. Its choices cannot be called; call the supernet.
    """

    def __init__(self, network: nn.Module, shapes: Callable[[Mapping[str, ResolvedChoice]], Shapes]) -> None:
        super().__init__()
        self.network = network
        self._structure = Structure(network)
        self._shapes = shapes
        self._decisions = dict(self._structure.decisions)
        self._emptied: set[str] = set()
        self._parts = split(self._structure)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> the decision with the options that are still alive; emptied subsets are left out."""
        return self._decisions

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Run the selected part: ``view(selection)(x)``; see `Supernet.forward`."""
        outputs: Tensor = self.view(selection)(x)
        return outputs

    def view(self, selection: Selection) -> nn.Module:
        """Return the selected network as a module that shares Parameters and buffers with the supernet.

        Nothing of the selection is stored in the supernet, so views of several selections can be used side by side,
        under activation checkpointing, and in threads. A view is cheap and of the moment: it has the training flags the
        supernet has now, and does not see a later `restrict`. Attributes that a module on the way to a choice sets on
        itself in its forward are set on the view, not on the supernet.

        Raises:
            SpaceError: a decision is missing, unknown, or has something it cannot take.
        """
        return self._structure.view(self.network, take_all(self._decisions, selection, self._emptied))

    def extract(self, selection: Selection) -> nn.Module:
        """Return a stand-alone copy of the selected network; see `Supernet.extract`.

        Weighted choices become torch.fx graphs with the weights as buffers; no random number is drawn.
        """
        taken = take_all(self._decisions, selection, self._emptied)
        return self._structure.extract(taken, lambda: self._shapes(taken), fresh=False)

    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        """Remove what is not live, in place; see `Supernet.restrict`.

        Options of a `OneOf`, and nodes and edges of a `Dag`, go with their weights; widths of the elastic layers stay
        as they are, since narrower tensors would be other Parameters: only the decision shrinks.
        """
        shrunk = dict(self._decisions)
        for name, options in live.items():
            if name in self._emptied and not options:
                continue
            if name not in shrunk:
                raise SpaceError(f"the supernet has no decision '{name}'{did_you_mean(name, shrunk)}")
            left = shrink(name, shrunk[name], tuple(options))
            if left is None:
                del shrunk[name]
            else:
                shrunk[name] = left
        self._emptied |= set(self._decisions) - set(shrunk)
        self._decisions = shrunk
        for module, names in self._structure.names.items():
            kept = {key: shrunk[name].options if name in shrunk else () for key, name in names.items()}
            module.prune_to(kept)
        self._structure.refresh()
        self._parts = split(self._structure)

    def segments(self) -> tuple[Segment, ...]:
        """Return the consecutive parts: those of an ``nn.Sequential``, otherwise one; see `split`."""
        if len(self._parts) == 1:
            return (Segment(tuple(self._decisions), self.forward),)
        return tuple(self._segment(part) for part in self._parts)

    def _segment(self, part: Sequence[nn.Module]) -> Segment:
        structure, emptied = self._structure, self._emptied
        names = dict.fromkeys(name for module in part for name in structure.decisions_in(module))
        own = {name: self._decisions[name] for name in names if name in self._decisions}

        def run(x: Tensor, selection: Selection) -> Tensor:
            mine = {name: selection[name] for name in names if name in selection}
            taken = take_all(own, mine, emptied)
            for module in part:
                x = structure.view(module, taken)(x)
            return x

        return Segment(tuple(own), run)


def take_all(
    decisions: Mapping[str, Decision], selection: Selection, emptied: Collection[str] = ()
) -> dict[str, ResolvedChoice]:
    """Return what a selection takes for every decision.

    Args:
        decisions: those that are to be taken.
        selection: a value, a tensor or a Weighted for each.
        emptied: subsets without options, which a selection may name or leave out.

    Raises:
        SpaceError: a decision is missing, unknown, or has something it cannot take.
    """
    taken = {}
    for name, decision in decisions.items():
        try:
            given = selection[name]
        except KeyError:
            raise SpaceError(f"the selection lacks the decision '{name}'; it must name all {len(decisions)}") from None
        taken[name] = resolve_choice(name, decision, given)
    if len(selection) != len(taken):
        for name in selection:
            if name not in taken and name not in emptied:
                raise SpaceError(f"there is no decision '{name}'{did_you_mean(name, decisions)}")
    for name in emptied:
        taken[name] = ResolvedChoice(())
    return taken


def split(structure: Structure) -> tuple[tuple[nn.Module, ...], ...]:
    """Return the groups of modules that are run one after the other, each ending with a module that has decisions.

    A network can be cut where it is a plain ``nn.Sequential``, and sequentials in it are cut too. What follows the last
    decision belongs to the last group. Any other network is one group.
    """
    flat = list(_flatten(structure.root, structure))
    groups: list[tuple[nn.Module, ...]] = []
    pending: list[nn.Module] = []
    for module in flat:
        pending.append(module)
        if structure.decisions_in(module):
            groups.append(tuple(pending))
            pending = []
    if not groups:
        return (tuple(flat),)
    groups[-1] += tuple(pending)
    return tuple(groups)


def _flatten(module: nn.Module, structure: Structure) -> Sequence[nn.Module]:
    if type(module).forward is not nn.Sequential.forward or not structure.decisions_in(module):
        return (module,)
    return [part for child in module._modules.values() if child is not None for part in _flatten(child, structure)]
