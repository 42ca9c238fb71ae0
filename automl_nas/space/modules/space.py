"""A search space written as one ordinary module with choices inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ResolvedChoice, resolve_selection
from automl_nas.space.modules.choice_tree import ChoiceTree, Shapes, check_reachable
from automl_nas.space.modules.fresh_copies import keeping_data
from automl_nas.space.modules.shape_probe import check_extremes, input_shapes, weighable
from automl_nas.space.modules.supernet import ModuleSupernet
from automl_nas.space.space import SupernetSpace


@final
class ModuleSpace(SupernetSpace):
    """A search space written as one ordinary module with choices inside and a plain ``forward(x)``.

    The decisions are those of the choice modules (`OneOf`, `Dag`, the elastic layers), in the order of
    ``named_modules``. Options may contain further choices. A decision that is only inside options that are not
    selected makes no difference, and `canonical` sets it to its first value.

    Args:
        factory: returns the module, with fresh weights; called for every network, so it must always return the same
            choices. It is called once under ``torch.device("meta")`` to read the decisions (on the CPU if that
            fails), and the smallest and the largest network are run once.
        input_shape: the shape of one input without the batch.
        exclude: combinations of options that exclude each other, such as ``[{"stem": "wide", "head": ["a", "b"]}]``;
            see `SearchSpace.excluded`.

    Raises:
        SpaceError: the module contains no choice, a choice is not registered as a submodule, tied choices differ, an
            excluded combination is wrong, a network does not accept its input, or a module of options that share
            weights is used twice; the message contains the path of the module.

    Example::

        space = ModuleSpace(
            lambda: nn.Sequential(
                OneOf({"conv3": nn.Conv2d(1, 8, 3, padding=1), "conv5": nn.Conv2d(1, 8, 5, padding=2)}),
                nn.Flatten(),
                nn.Linear(8 * 8 * 8, 10),
            ),
            input_shape=(1, 8, 8),
        )
    """

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        *,
        input_shape: tuple[int, ...],
        exclude: Sequence[Mapping[str, object]] = (),
    ) -> None:
        if isinstance(factory, nn.Module):
            raise SpaceError(
                "a ModuleSpace needs a function that returns a module, not a module, since it builds each network "
                "anew: write 'lambda: ...' before the module, or pass its class"
            )
        self._factory = factory
        self._input_shape = tuple(input_shape)
        self._excluded = tuple(exclude)
        root = _without_weights(factory)
        check_reachable(root)
        self._tree = ChoiceTree(root)
        self._tree.check_sharing()
        self._on_meta = all(tensor.is_meta for tensor in (*root.parameters(), *root.buffers()))
        if not self._tree.decisions:
            raise SpaceError(
                "the factory's module contains no choice, so there is nothing to search; put a OneOf, a Dag or an "
                "elastic layer with several widths into it (as a registered submodule)"
            )
        self._segments = tuple(self._tree.decisions_of(part) for part in self._tree.consecutive_parts())
        self._weighable: frozenset[str] | None = None
        check_extremes(self._tree, self._input_shape, self._build_tree, self.exclusions)

    def __reduce__(self) -> tuple[object, ...]:
        # Not by its modules: another process must build the networks of its own factory, and no others.
        return partial(ModuleSpace, self._factory, input_shape=self._input_shape, exclude=self._excluded), ()

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, in the order of the modules."""
        return self._tree.decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._input_shape

    @property
    def excluded(self) -> Sequence[Mapping[str, object]]:
        """The combinations of options that exclude each other."""
        return self._excluded

    @property
    def own_weights(self) -> Mapping[str, Tensor]:
        """What the factory takes from elsewhere, such as a trained network (`replace`); see `SearchSpace.own_weights`.

        Nothing is known of a factory that does not run under ``torch.device("meta")``.
        """
        with torch.random.fork_rng(devices=[]), torch.device("meta"), keeping_data():
            try:
                root = self._factory()
            except Exception:  # the user's code may read values, which meta tensors do not have
                return {}
        tensors = (*root.named_parameters(), *root.named_buffers())
        return {name: tensor for name, tensor in tensors if not tensor.is_meta}

    @property
    def weighable(self) -> frozenset[str]:
        """The decisions that take tensors and `Weighted`; the others take values only.

        Widths take values only, as do options whose outputs differ in shape. The first access runs the network with
        weighted decisions to find out.
        """
        if self._weighable is None:
            runs = weighable(self._tree, self._input_shape, self.exclusions)
            self._weighable = runs - self.exclusions.names
        return self._weighable

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`.

        Layers that are narrower than the supernet's draw their weights for their own width. Under
        ``torch.device("meta")`` building is cheap: the factory is not called.
        """
        choices = resolve_selection(self.decisions, self.validate(architecture))
        if torch.get_default_device().type == "meta" and self._on_meta:
            return self._tree.extract(choices, lambda: self._shapes(choices), fresh=False)
        return self._build_tree().extract(choices, lambda: self._shapes(choices), fresh=True)

    def build_supernet(self) -> ModuleSupernet:
        """Return the factory's module as a supernet, with fresh weights; options may share them (`OneOf`)."""
        return ModuleSupernet(self._network(), self._shapes, self._network)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set decisions that make no difference to their first value (a `Subset`: its smallest)."""
        return self._tree.canonical(architecture)

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the decisions of the consecutive parts; a tied decision is in every part that uses it."""
        return self._segments

    def _network(self) -> nn.Module:
        return self._build_tree().root

    def _build_tree(self) -> ChoiceTree:
        tree = ChoiceTree(self._factory())
        if tree.decisions != self._tree.decisions:
            raise SpaceError(
                "the factory returned a module with other choices than in its first call; it must always return "
                "the same module"
            )
        return tree

    def _shapes(self, choices: Mapping[str, ResolvedChoice]) -> Shapes:
        return input_shapes(self._tree, self._input_shape, choices)


def _without_weights(factory: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return factory()
        except SpaceError:
            raise
        except Exception:  # the user's code may read values, which meta tensors do not have
            return factory()
