"""One module that holds the weights of every architecture of a space."""

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
        decisions: the names of the decisions it depends on; empty for a fixed part.
        run: ``run(x, selection) -> output``, the part alone; running all segments in order is the supernet's forward.
    """

    decisions: tuple[str, ...]
    run: Callable[[Tensor, Selection], Tensor]


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
            selection: a value, a tensor or `Weighted` for every decision; an `Architecture` is one.

        Raises:
            SpaceError: a decision is missing or has something it cannot take.
        """

    @abstractmethod
    def extract(self, selection: Selection) -> nn.Module:
        """Return a stand-alone copy of the selected network with the inherited weights.

        Tensor weights are frozen in: folded where that is exact, buffers otherwise. The copy shares no storage with the
        supernet, holds no class of this framework, and has the supernet's training flag.
        """

    @abstractmethod
    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        """Remove, in place and for good, every option that is not live.

        The remaining Parameters are the same objects, so an optimiser's state follows them. Decisions that are not
        named keep all options.

        Args:
            live: decision name -> the options to keep.

        Raises:
            SpaceError: an unknown decision or option, or no option left of a decision that must take one.
        """

    def segments(self) -> tuple[Segment, ...]:
        """Return the consecutive parts (default: one), so that candidates can share the work of a common prefix."""
        return (Segment(tuple(self.decisions), self.forward),)

    @property
    @abstractmethod
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> the decision with the options that are still alive."""
