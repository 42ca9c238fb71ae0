"""Networks with common first parts: each part computes a batch once, and its outputs are kept for the others."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Runtime, Task, batch_norms
from automl_nas.space import Architecture, Supernet, SupernetSpace
from automl_nas.streams import stream


@dataclass(eq=False)
class Part:
    """One part of one or several networks.

    Attributes:
        module: computes the outputs of the part.
        index: the number of parts made before.
        has_statistics: whether it has batch normalisation with running statistics.
        failed: whether a call raised an exception: networks with the part cannot be computed any more.
        changes_inputs: whether a call changes its inputs, as layers that work in place do; None: not known yet.
    """

    module: nn.Module
    index: int
    has_statistics: bool
    failed: bool = False
    changes_inputs: bool | None = None


Path: TypeAlias = Sequence[Part]
"""The parts of a network, the first one first."""


class PartTree:
    """The parts of networks extracted from a supernet. Networks with equal decisions up to a part have the same part.

    Args:
        supernet: divided by its segments.

    Attributes:
        weight_bytes: the size of the parameters and buffers of all parts.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet, self._segments = supernet, supernet.segments()
        self._parts: dict[tuple[object, ...], Part] = {}
        self.weight_bytes = 0

    def path(self, architecture: Architecture) -> Path:
        """Return the parts of a network; those that no earlier network has are extracted from the supernet."""
        network = self._supernet.extract(architecture)
        modules = [segment.part(network) for segment in self._segments if segment.part is not None]
        if not _independent(modules):
            # A layer in two parts has statistics of both: those of the first part depend on the second one.
            return [self._part(("whole", architecture), network)]
        prefix: tuple[object, ...] = ()
        path = []
        for segment, module in zip(self._segments, modules, strict=True):
            prefix = *prefix, tuple(architecture[name] for name in segment.decisions)
            path.append(self._part(prefix, module))
        return path

    def _part(self, key: tuple[object, ...], module: nn.Module) -> Part:
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = Part(module.eval(), len(self._parts), bool(batch_norms(module)))
            self.weight_bytes += sum(map(_bytes, (*module.parameters(), *module.buffers())))
        return part


def can_be_divided(supernet: Supernet) -> bool:
    """Return whether networks of a supernet can have common parts."""
    segments = supernet.segments()
    return len(segments) > 1 and all(segment.part is not None for segment in segments)


def check_memory(space: SupernetSpace, task: Task, runtime: Runtime, megabytes: float) -> None:
    """Check that outputs of a part of a network have room in the memory for shared work.

    Raises:
        ConfigurationError: not even the smallest outputs of one training batch have room.
    """
    with runtime.seeded(0, "check"):
        supernet = space.build_supernet()
        if not can_be_divided(supernet):
            return
        runtime.place(supernet)
        architecture = space.sample(stream(0, "check"))
        inputs, _ = next(iter(task.batches("train", 0, 0)))
    network = supernet.extract(architecture).eval()
    outputs, sizes = runtime.tensor(inputs[:1]), []
    with torch.no_grad(), runtime.autocast():
        for segment in supernet.segments()[:-1]:
            assert segment.part is not None
            outputs = segment.part(network)(outputs)
            if isinstance(outputs, Tensor):
                sizes.append((outputs.numel() * outputs.element_size(), tuple(outputs.shape[1:])))
    if not sizes:
        return
    size, shape = min(sizes)
    # A quarter of the memory is for outputs of common parts.
    least = 4 * size * len(inputs) / 1e6
    if megabytes < least:
        raise ConfigurationError(
            f"{megabytes:g} has no room for the outputs of any common part: the smallest ones have the shape {shape} "
            f"for each of the {len(inputs)} images of a batch; set at least {math.ceil(least * 1000) / 1000:g}, or 0 "
            "to evaluate one by one",
            path="share_megabytes",
        )


def _independent(modules: Iterable[nn.Module]) -> bool:
    """Return whether no two modules contain the same buffer."""
    seen: set[int] = set()
    for module in modules:
        buffers = {id(buffer) for buffer in module.buffers()}
        if buffers & seen:
            return False
        seen |= buffers
    return True


class Walk:
    """Computes networks on one batch after the other; outputs of parts that other networks need are kept meanwhile.

    Results are bit-equal to those of the networks alone: a part that changes its inputs, or may do so, gets a copy of
    outputs that are kept. Outputs that do not fit into the memory are computed again.

    Args:
        paths: number -> the parts of a network.
        limit: the largest size of the outputs that are kept, in bytes; the deepest ones stay.
        restore: whether a part that computes a batch again gets its buffers back afterwards, because a call changes
            them: statistics in training mode.

    Attributes:
        order: the numbers, in an order in which networks with common parts are neighbours.
    """

    def __init__(self, paths: Mapping[int, Path], limit: float, *, restore: bool) -> None:
        self._paths, self._limit, self._restore = paths, limit, restore
        self.order = sorted(paths, key=lambda number: [part.index for part in paths[number]])
        self._resumed = _resumed([paths[number] for number in self.order])
        self._positions = {number: position for position, number in enumerate(self.order)}
        self._kept: dict[int, tuple[Part, Tensor]] = {}
        self._computed: set[Part] = set()

    def begin(self) -> None:
        """Begin a batch."""
        self._kept.clear()
        self._computed.clear()

    def has_failed(self, number: int) -> bool:
        """Return whether a part of a network has raised an exception."""
        return any(part.failed for part in self._paths[number])

    def compute(self, number: int, inputs: Tensor) -> Tensor:
        """Return the outputs of a network for the present batch; call it in the order of `order`."""
        path, later = self._paths[number], self._resumed[self._positions[number]]
        for depth in [d for d, (part, _) in self._kept.items() if d > len(path) or path[d - 1] is not part]:
            del self._kept[depth]
        x, begin = inputs, max(self._kept, default=0)
        if begin:
            x = self._kept[begin][1] if begin in later else self._kept.pop(begin)[1]
        for depth, part in enumerate(path[begin:], start=begin + 1):
            x = self._call(part, x)
            if depth in later:
                self._keep(depth, part, x)
        return x

    def _call(self, part: Part, x: Tensor) -> Tensor:
        again = self._restore and part in self._computed
        self._computed.add(part)
        if part.changes_inputs is not False:
            x = self._own(x)
        # Tensors count the changes in place, but for those of the inference mode.
        version = x._version if isinstance(x, Tensor) and not x.is_inference() else None
        try:
            with _buffers_kept(part.module) if again else contextlib.nullcontext():
                outputs: Tensor = part.module(x)
        except Exception:
            part.failed = True
            raise
        if version is not None:
            part.changes_inputs = x._version != version
        return outputs

    def _own(self, x: Tensor) -> Tensor:
        """Return inputs that may be changed: a copy if they are kept, too."""
        if not isinstance(x, Tensor):  # several tensors, of which one may be kept
            self._kept.clear()
            return x
        memory = x.untyped_storage().data_ptr()
        if any(each.untyped_storage().data_ptr() == memory for _, each in self._kept.values()):
            return x.clone()
        return x

    def _keep(self, depth: int, part: Part, outputs: object) -> None:
        """Keep the outputs of a part, if there is room or can be made at the expense of earlier parts."""
        if not isinstance(outputs, Tensor):  # parts of the user's may pass on several tensors
            return
        size = _bytes(outputs)
        if size > self._limit:
            return
        while self._kept and size + sum(_bytes(each) for _, each in self._kept.values()) > self._limit:
            del self._kept[min(self._kept)]
        self._kept[depth] = part, outputs


def _resumed(paths: Sequence[Path]) -> list[set[int]]:
    """Return for each of ordered paths: the numbers of parts after which later ones continue."""
    common = [_common(first, second) for first, second in pairwise(paths)]
    resumed = []
    for position in range(len(paths)):
        depths, least = set[int](), len(paths[position])
        for shared in common[position:]:
            least = min(least, shared)
            if not least:
                break
            depths.add(least)
        resumed.append(depths)
    return resumed


def _common(first: Path, second: Path) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one is not other:
            break
        count += 1
    return count


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextlib.contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
