"""How much memory activations need at a time: which tensors live during which operator."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

# Elementwise operators that torch does not mark as such.
_ELEMENTWISE = frozenset(("hardsigmoid", "hardswish", "hardtanh", "mish", "prelu", "_prelu_kernel", "rrelu_with_noise"))


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        path: of the module that called it.
        reads: numbers of the buffers it reads.
        writes: number -> bytes of the buffers it makes or writes to.
        overwrites: whether its result may take the place of an operand of the same size.
    """

    path: str
    reads: tuple[int, ...]
    writes: Mapping[int, int]
    overwrites: bool


class Recorder:
    """Notes which buffer each operator of a forward pass reads and writes; parameters and buffers of modules are none.

    Args:
        network: whose parameters and buffers are not activations.
        x: the input, buffer 0.
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.steps: list[Step] = []
        # A storage is recognised by its identity, so it must live as long as the recorder.
        self._kept: list[object] = []
        self._numbers: dict[int, int | None] = {}
        for held in (*network.parameters(), *network.buffers()):
            self._number(held, None)
        self._next = 0
        self._number(x, 0)
        self.input_bytes = _bytes(x)

    def note(self, path: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Note one call of an operator."""
        reads = tuple(number for item in _tensors((args, kwargs)) if (number := self._number(item)) is not None)
        writes = {number: _bytes(item) for item in _tensors(out) if (number := self._number(item)) is not None}
        name = func.overloadpacket.__name__.rstrip("_")
        overwrites = torch.Tag.pointwise in func.tags or name in _ELEMENTWISE or "batch_norm" in name
        self.steps.append(Step(path, reads, writes, overwrites))

    def outputs(self, result: Any) -> tuple[int, ...]:
        """Return the numbers of the buffers that a network returned."""
        return tuple(number for item in _tensors(result) if (number := self._number(item)) is not None)

    def _number(self, item: Tensor, *given: int | None) -> int | None:
        storage = item.untyped_storage()
        key = id(storage)
        if key not in self._numbers:
            self._kept.append(storage)
            if given:
                self._numbers[key] = given[0]
            else:
                self._next += 1
                self._numbers[key] = self._next
        return self._numbers[key]


def peak(steps: Sequence[Step], inputs: Mapping[int, int], outputs: Iterable[int]) -> dict[str, int]:
    """Return the buffers that live at the most demanding moment: path of the module that wrote them -> bytes.

    A buffer lives from the operator that makes it to the last one that reads it, an input (path "") from the
    beginning, outputs to the end. During an operator all it reads and writes exists. Views share their buffer, and so
    does the result of an elementwise operator or of batch normalisation with an operand of the same size that nothing
    reads later, except an input, which belongs to the caller. A second result that nothing reads does not exist.

    Args:
        steps: the operators, in the order in which they run.
        inputs: number -> bytes of the buffers that are there at the beginning.
        outputs: numbers of the buffers that are there at the end.
    """
    last = _last_reads(steps)
    for number in outputs:
        last[number] = len(steps)
    stands_for: dict[int, int] = {}
    alive: dict[int, tuple[str, int]] = {number: ("", size) for number, size in inputs.items()}
    highest, found = sum(inputs.values()), dict(alive)
    for position, step in enumerate(steps):
        for order, (number, size) in enumerate(step.writes.items()):
            if order and last[number] == position:
                continue  # the places of maxima, say, which nobody asked for: no runtime computes them
            place = stands_for.get(number, number)
            if place in alive:
                alive[place] = (step.path, alive[place][1])
                continue
            operand = _free_operand(step, position, size, last, alive, stands_for, inputs) if step.overwrites else None
            if operand is not None:
                stands_for[number] = operand
                last[operand] = last.get(number, position)
                alive[operand] = (step.path, size)
            else:
                alive[number] = (step.path, size)
        total = sum(size for _, size in alive.values())
        if total > highest:
            highest, found = total, dict(alive)
        alive = {number: item for number, item in alive.items() if last.get(number, -1) > position}
    parts: dict[str, int] = {}
    for path, size in found.values():
        parts[path] = parts.get(path, 0) + size
    return parts


def _last_reads(steps: Sequence[Step]) -> dict[int, int]:
    last: dict[int, int] = {}
    for position, step in enumerate(steps):
        for number in (*step.reads, *step.writes):
            last[number] = position
    return last


def _free_operand(
    step: Step,
    position: int,
    size: int,
    last: Mapping[int, int],
    alive: Mapping[int, tuple[str, int]],
    stands_for: Mapping[int, int],
    inputs: Collection[int],
) -> int | None:
    for number in step.reads:
        place = stands_for.get(number, number)
        if place not in inputs and place in alive and alive[place][1] == size and last.get(place) == position:
            return place
    return None


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _bytes(item: Tensor) -> int:
    return int(item.untyped_storage().nbytes())
