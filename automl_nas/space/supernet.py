"""Supernets: modules that hold the weights of all architectures of a space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from automl_nas.space.architecture import Scalar
from automl_nas.space.decisions import Decision

if TYPE_CHECKING:
    from automl_nas.space.selection import Selection


@dataclass(frozen=True)
class Segment:
    """One of the consecutive parts of a supernet.

    Attributes:
        decisions: the names of the decisions that the part depends on; empty for a fixed part.
        run: ``run(x, selection) -> output`` runs the part alone; running all segments in order equals the supernet's
            forward.
        part: ``part(network) -> module`` returns this part of a network that `Supernet.extract` returned, with the
            network's own modules; calling the modules of all segments in order equals calling the network. A module and
            its outputs depend on the decisions of this and earlier segments only. None: networks cannot be divided.
    """

    decisions: tuple[str, ...]
    run: Callable[[Tensor, Selection], Tensor]
    part: Callable[[nn.Module], nn.Module] | None = None


class Supernet(nn.Module, ABC):
    """One module that holds the weights of every architecture; called as ``supernet(x, selection)``.

    Contract, checked by ``automl_nas.testing.SupernetContract``: ``extract(s)(x)`` equals ``supernet(x, s)``, bit for
    bit for values in training and evaluation mode, to rounding for weights; parameters of options that are not
    selected get no gradient (None).
    """

    @abstractmethod
    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Run the selected part of the network.

        Args:
            x: a batch of inputs, shape ``(batch, *input_shape)``.
            selection: a value, a tensor or `Weighted` for every decision; an `Architecture` is a selection.

        Raises:
            SpaceError: a decision is missing or has something it cannot take.
        """

    @abstractmethod
    def extract(self, selection: Selection) -> nn.Module:
        """Return a stand-alone copy of the selected network with the inherited weights.

        Tensor weights are frozen in: folded into other weights where that is exact, as buffers otherwise. The copy
        shares no storage with the supernet, contains no class of this framework, and has the supernet's training flag.
        """

    @abstractmethod
    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        """Remove, in place and permanently, every option that is not live.

        The remaining Parameters are the same objects, so an optimiser keeps their state. Decisions that are not named
        keep all options.

        Args:
            live: decision name -> the options to keep.

        Raises:
            SpaceError: a decision or option is unknown, or no option is left of a decision that needs one.
        """

    def segments(self) -> tuple[Segment, ...]:
        """Return the consecutive parts (default: one); candidates can share the computation of first parts."""
        return (Segment(tuple(self.decisions), self.forward, part=lambda network: network),)

    @property
    @abstractmethod
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> the decision with the live options."""
