"""Measures the work of a run: forward passes and seconds, also of a run that was interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from torch import nn

    from automl_nas.plugin import Handlers

FILE = "work.jsonl"
"""The record of the work, in the run directory."""


@dataclass(frozen=True)
class Work:
    """What a search costs.

    Attributes:
        images: number of images that went forward through a whole network or supernet, in training and in evaluation. A
            pass that computes several options counts once.
        processor_seconds: of the process, of all its threads.
        seconds: on the clock.
    """

    images: int = 0
    processor_seconds: float = 0.0
    seconds: float = 0.0


@final
class WorkMeter:
    """Records the work of each step of the stages of a run; checks before the first stage are not counted.

    The work of a step is a line in a file. A run that is killed repeats the steps after its last checkpoint, and they
    replace the lines of the first attempt. So the images of an interrupted run are those of an undisturbed one.

    Args:
        file: the record.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._stage = file, ""
        self._images = self._depth = 0
        self._before = (0, 0.0, 0.0)

    @property
    def handlers(self) -> Handlers:
        """The handlers of events, for `automl_nas.search`."""
        from automl_nas.plugin import StageFinished, StageStarted, StepFinished

        return {
            StageStarted: lambda event: self._begin(event.stage),
            StepFinished: lambda event: self._record(event.step.steps),
            StageFinished: lambda event: self._record(None),
        }

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count forward passes in this context, with hooks on all modules of the process.

        A pass is a call of a module that no other module called. Modules of torch and torchvision without parameters,
        such as losses and transforms, are no networks.
        """
        from torch.nn.modules import module

        before = module.register_module_forward_pre_hook(self._enter)
        after = module.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._depth += 1
        if self._depth == 1 and _is_network(module):
            self._images += _size(inputs)

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        self._depth -= 1

    def _begin(self, stage: str) -> None:
        self._stage, self._before = stage, self._now()

    def _now(self) -> tuple[int, float, float]:
        return self._images, time.process_time(), time.perf_counter()

    def _record(self, step: int | None) -> None:
        now = self._now()
        images, processor, clock = (after - before for after, before in zip(now, self._before, strict=True))
        self._before = now
        line = {"stage": self._stage, "step": step, "images": images, "cpu": round(processor, 4)}
        with self._file.open("a", encoding="utf-8") as file:
            # The line before may be incomplete, if the process was killed while it wrote.
            file.write("\n" + json.dumps({**line, "clock": round(clock, 4)}))


def recorded_work(file: Path) -> Work:
    """Return the work of a run from its record; nothing if it does not exist."""
    steps: dict[tuple[str, int | None], Mapping[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            record = json.loads(line)
            steps[record["stage"], record["step"]] = record
        except (ValueError, KeyError, TypeError):
            continue  # an incomplete line
    return Work(
        sum(record["images"] for record in steps.values()),
        sum(record["cpu"] for record in steps.values()),
        sum(record["clock"] for record in steps.values()),
    )


def _is_network(module: nn.Module) -> bool:
    package = type(module).__module__.partition(".")[0]
    return package not in ("torch", "torchvision") or next(module.parameters(), None) is not None


def _size(inputs: tuple[Any, ...]) -> int:
    """Return the number of samples of the first tensor; 0 for tensors without data, which only have shapes."""
    from torch import Tensor

    first = next((each for each in inputs if isinstance(each, Tensor)), None)
    if first is None:
        return 1
    return 0 if first.is_meta or not first.dim() else len(first)
