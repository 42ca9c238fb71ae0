"""A search space written as one ordinary module with choices inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ResolvedChoice
from automl_nas.space.modules.resolution import Shapes, Structure, check_reachable
from automl_nas.space.modules.shape_probe import check_extremes, input_shapes, weighable
from automl_nas.space.modules.supernet import ModuleSupernet, split, take_all
from automl_nas.space.space import SupernetSpace


@final
class ModuleSpace(SupernetSpace):
    """A search space written as one ordinary module with choices inside and a plain ``forward(x)``.

    The decisions are those of the choice modules (`OneOf`, `Dag`, the elastic layers), in the order of
    ``named_modules``. Choices may stand inside options of others; a decision that lies only inside options that are
    not taken does not matter, and `canonical` sets it to its first value.

    Args:
        factory: makes the module, with fresh weights; called for every network, so it must always give the same
            choices. It is called once under ``torch.device("meta")`` to find the decisions (on the CPU if that
            fails), and the smallest and the largest network are run once.
        input_shape: the shape of one input without the batch.

    Raises:
        SpaceError: there is nothing to decide, choices that cannot be found, tied choices that differ, or a network
            that does not accept its input; the message names the place.

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

    def __init__(self, factory: Callable[[], nn.Module], *, input_shape: tuple[int, ...]) -> None:
        if isinstance(factory, nn.Module):
            raise SpaceError(
                "a ModuleSpace takes a function that makes a module, not a module, since each network is made anew: "
                "write 'lambda: ...' before it, or give the class"
            )
        self._factory = factory
        self._input_shape = tuple(input_shape)
        root = _blueprint(factory)
        check_reachable(root)
        self._blueprint = Structure(root)
        self._on_meta = all(tensor.is_meta for tensor in (*root.parameters(), *root.buffers()))
        if not self._blueprint.decisions:
            raise SpaceError(
                "there is nothing to decide: the factory's module holds no choice; put a OneOf, a Dag or an elastic "
                "layer with several widths into it (as a registered submodule)"
            )
        self._segments = tuple(
            tuple(dict.fromkeys(name for module in part for name in self._blueprint.decisions_in(module)))
            for part in split(self._blueprint)
        )
        self._weighable: frozenset[str] | None = None
        check_extremes(self._blueprint, self._input_shape, self._instance)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, in the order of the modules."""
        return self._blueprint.decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._input_shape

    @property
    def weighable(self) -> frozenset[str]:
        """The decisions that take tensors and `Weighted`; the others take values only.

        Widths do not, nor do options whose outputs differ in shape. Found out by running the network with each
        decision weighted, the first time it is asked for.
        """
        if self._weighable is None:
            self._weighable = weighable(self._blueprint, self._input_shape)
        return self._weighable

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`.

        Layers that are narrower than the supernet's draw their weights for the width they have. Under
        ``torch.device("meta")`` it is cheap: the factory is not called.
        """
        taken = take_all(self.decisions, self.validate(architecture))
        if torch.get_default_device().type == "meta" and self._on_meta:
            return self._blueprint.extract(taken, lambda: self._shapes(taken), fresh=False)
        return self._instance().extract(taken, lambda: self._shapes(taken), fresh=True)

    def build_supernet(self) -> ModuleSupernet:
        """Return the factory's module as a supernet, with fresh weights."""
        return ModuleSupernet(self._instance().root, self._shapes)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set decisions that do not matter to their first value (a `Subset`: its smallest)."""
        return self._blueprint.canonical(architecture)

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the decisions of the consecutive parts; a tied decision stands in every part that uses it."""
        return self._segments

    def _instance(self) -> Structure:
        structure = Structure(self._factory())
        if structure.decisions != self._blueprint.decisions:
            raise SpaceError("the factory gave other choices than the first time; it must always make the same module")
        return structure

    def _shapes(self, taken: Mapping[str, ResolvedChoice]) -> Shapes:
        return input_shapes(self._blueprint, self._input_shape, taken)


def _blueprint(factory: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return factory()
        except SpaceError:
            raise
        except Exception:  # the user's code may read values, which meta tensors do not have
            return factory()
