"""Peak memory of activations: which buffers live during which operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

# Elementwise operators that torch does not tag as pointwise.
_ELEMENTWISE = frozenset(("hardsigmoid", "hardswish", "hardtanh", "mish", "prelu", "_prelu_kernel", "rrelu_with_noise"))


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        path: of the module that called it.
        reads: numbers of the buffers that it reads.
        writes: number -> bytes of the buffers that it creates or writes to.
        overwrites: whether its result may overwrite an operand of the same size.
    """

    path: str
    reads: tuple[int, ...]
    writes: Mapping[int, int]
    overwrites: bool


class Recorder:
    """Records which buffers of activations each operator of a forward pass reads and writes.

    Args:
        network: its parameters and buffers are not activations.
        x: the input, buffer 0.
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.steps: list[Step] = []
        # A storage is recognised by its identity, so it must live as long as the recorder.
        self._storages: list[object] = []
        self._numbers: dict[int, int | None] = {}
        for weights in (*network.parameters(), *network.buffers()):
            self._number(weights, None)
        self._next = 0
        self._number(x, 0)
        self.input_bytes = _bytes(x)

    def record(self, path: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Record one call of an operator."""
        reads = tuple(number for item in _tensors((args, kwargs)) if (number := self._number(item)) is not None)
        writes = {number: _bytes(item) for item in _tensors(out) if (number := self._number(item)) is not None}
        name = func.overloadpacket.__name__.rstrip("_")
        overwrites = torch.Tag.pointwise in func.tags or name in _ELEMENTWISE or "batch_norm" in name
        self.steps.append(Step(path, reads, writes, overwrites))

    def outputs(self, result: Any) -> tuple[int, ...]:
        """Return the numbers of the buffers that a network returned."""
        return tuple(number for item in _tensors(result) if (number := self._number(item)) is not None)

    def _number(self, item: Tensor, *first: int | None) -> int | None:
        """Return the number of a tensor's buffer, `first` or the next one where it is new; None if it is a weight."""
        storage = item.untyped_storage()
        key = id(storage)
        if key not in self._numbers:
            self._storages.append(storage)
            if first:
                self._numbers[key] = first[0]
            else:
                self._next += 1
                self._numbers[key] = self._next
        return self._numbers[key]


def peak(steps: Sequence[Step], inputs: Mapping[int, int], outputs: Iterable[int]) -> dict[str, int]:
    """Return the buffers that live at the peak: path of the module that wrote them -> bytes.

    A buffer lives from the operator that creates it to the last one that reads it; inputs (path "") live from the
    beginning, outputs to the end. During an operator everything that it reads and writes lives. Views share their
    buffer. The result of an elementwise operator or of batch normalisation overwrites an operand of the same size that
    no later operator reads, except an input, which belongs to the caller. A second result that nothing reads is not
    computed.

    Args:
        steps: the operators, in the order in which they run.
        inputs: number -> bytes of the buffers that exist at the beginning.
        outputs: numbers of the buffers that exist at the end.
    """
    last = _last_reads(steps)
    for number in outputs:
        last[number] = len(steps)
    overwritten: dict[int, int] = {}  # number of a result -> number of the buffer that it overwrote
    alive: dict[int, tuple[str, int]] = {number: ("", size) for number, size in inputs.items()}
    highest, at_peak = sum(inputs.values()), dict(alive)
    for position, step in enumerate(steps):
        for order, (number, size) in enumerate(step.writes.items()):
            if order and last[number] == position:
                continue  # such as the positions of maxima: no runtime computes what nothing reads
            place = overwritten.get(number, number)
            if place in alive:
                alive[place] = (step.path, alive[place][1])
                continue
            operand = None
            for read in step.reads if step.overwrites else ():
                buffer = overwritten.get(read, read)
                if buffer in alive and buffer not in inputs and alive[buffer][1] == size and last[buffer] == position:
                    operand = buffer
                    break
            if operand is not None:
                overwritten[number] = operand
                last[operand] = last.get(number, position)
                alive[operand] = (step.path, size)
            else:
                alive[number] = (step.path, size)
        total = sum(size for _, size in alive.values())
        if total > highest:
            highest, at_peak = total, dict(alive)
        alive = {number: item for number, item in alive.items() if last.get(number, -1) > position}
    parts: dict[str, int] = {}
    for path, size in at_peak.values():
        parts[path] = parts.get(path, 0) + size
    return parts


def _last_reads(steps: Sequence[Step]) -> dict[int, int]:
    last: dict[int, int] = {}
    for position, step in enumerate(steps):
        for number in (*step.reads, *step.writes):
            last[number] = position
    return last


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _bytes(item: Tensor) -> int:
    return int(item.untyped_storage().nbytes())
