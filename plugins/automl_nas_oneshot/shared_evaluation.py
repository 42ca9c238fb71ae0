"""Recalibrating and scoring several networks of a supernet together."""

from __future__ import annotations

import contextlib
import logging
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from automl_nas.errors import EvaluationError
from automl_nas.evaluation import Predictor, Runtime, recalibrating
from automl_nas.space import Architecture, Supernet
from automl_nas_oneshot.shared_parts import PartTree, Path, Walk

ScoreT = TypeVar("ScoreT")
_LOG = logging.getLogger(__name__)
_FAILED = "a network that was evaluated together with others failed; it is repeated alone: %s"


class RandomNumbersError(EvaluationError):
    """A network draws random numbers in evaluation mode: its outputs depend on the networks computed before it."""


class SharedEvaluation:
    """Recalibrates and scores networks batch by batch, so that each common part computes a batch once.

    Scores are bit-equal to those after `recalibrate_on` for each network alone. A network that raises an exception has
    none, and does not change those of the others.

    Args:
        supernet: the weights.
        runtime: where the networks run.
        limit: the memory in bytes. Half of it is for the weights of the networks; of what the weights leave, half is
            for outputs of common parts and half for outputs of networks.
    """

    def __init__(self, supernet: Supernet, runtime: Runtime, limit: float) -> None:
        self._supernet, self._runtime, self._limit = supernet, runtime, limit

    def evaluate(
        self,
        architectures: Sequence[Architecture],
        inputs: Callable[[], Iterable[Tensor]],
        score: Callable[[Predictor], ScoreT],
        samples: int,
    ) -> list[ScoreT | None]:
        """Return the scores of the first architectures: of one at least, and of as many as have room for weights.

        None stands for a network that raised an exception.

        Args:
            architectures: in any order, with repetitions.
            inputs: returns the batches for the recalibration, which is left out without batches; called at most once.
            score: returns the score of a network, whose outputs it asks for with the same inputs for each.
            samples: the number of samples that it asks for.

        Raises:
            RandomNumbersError: a network draws random numbers, and must be evaluated alone.
        """
        tree = PartTree(self._supernet)
        paths: dict[int, Path] = {}
        taken = 0
        while taken < len(architectures) and (not taken or tree.weight_bytes < self._limit / 2):
            try:
                paths[taken] = tree.path(architectures[taken])
            except Exception as error:
                _LOG.debug(_FAILED, error)
            taken += 1
        room = max(0.0, self._limit - tree.weight_bytes) / 2
        self._recalibrate(paths, inputs, room)
        scores = self._scores(paths, room, score, samples)
        return [scores.get(number) for number in range(taken)]

    def _recalibrate(self, paths: Mapping[int, Path], inputs: Callable[[], Iterable[Tensor]], room: float) -> None:
        # The parts after the last statistics need not be computed.
        shortened = {number: _up_to_statistics(path) for number, path in paths.items()}
        walk = Walk({number: path for number, path in shortened.items() if path}, room, restore=True)
        if not walk.order:
            return
        networks = {number: _Network(walk, number) for number in walk.order}
        batches = iter(inputs())
        first = next(batches, None)
        if first is None:
            return
        with contextlib.ExitStack() as stack:
            for part in {part: None for path in paths.values() for part in path}:
                stack.enter_context(recalibrating(part.module))
            stack.enter_context(torch.no_grad())
            stack.enter_context(self._runtime.autocast())
            for batch in _chain(first, batches):
                x = self._runtime.tensor(batch)
                walk.begin()
                with _no_random_numbers(self._runtime):
                    for number in walk.order:
                        if not walk.has_failed(number):
                            with _logged():
                                networks[number](x)

    def _scores(
        self, paths: Mapping[int, Path], room: float, score: Callable[[Predictor], ScoreT], samples: int
    ) -> dict[int, ScoreT]:
        scores: dict[int, ScoreT] = {}
        waiting = [number for number in Walk(paths, 0, restore=False).order if not _has_failed(paths[number])]
        most = len(waiting)
        while waiting:
            together = waiting[:most]
            outputs = _Outputs({n: paths[n] for n in together}, self._runtime, room, samples)
            # The score of the first network asks for outputs; those of the others are computed for the same inputs.
            done = [together[0]]
            with _logged():
                scores[together[0]] = score(outputs.compute)
                done += outputs.others
            for number in done[1:]:
                with _logged():
                    scores[number] = score(outputs.replay(number))
            most = outputs.most
            finished = {*done, *outputs.failed}
            waiting = [number for number in waiting if number not in finished]
        return scores


class _Outputs:
    """The outputs of networks for the inputs that the score of the first one asks for.

    Args:
        paths: number -> the parts of a network, in the order of a `Walk`.
        runtime: where the networks run.
        room: the memory for outputs of networks, and as much for those of common parts, in bytes.
        samples: the number of samples that are scored.

    Attributes:
        others: the numbers of the networks after the first one whose outputs are stored.
        failed: the numbers of those that raised an exception.
        most: the number of networks whose outputs have room.
    """

    def __init__(self, paths: Mapping[int, Path], runtime: Runtime, room: float, samples: int) -> None:
        self._runtime, self._room, self._samples = runtime, room, samples
        self._walk = Walk(paths, room, restore=False)
        self._first, *self.others = self._walk.order
        self.most = len(paths)
        self.failed: set[int] = set()
        self._predict = {n: runtime.predictor(_Network(self._walk, n)) for n in paths}
        self._stored: dict[int, list[Tensor]] = {number: [] for number in paths}
        self._inputs: list[object] = []

    def compute(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the first network, and store those of the others."""
        x = self._runtime.tensor(inputs)
        self._walk.begin()
        self._inputs.append(_digest(inputs))
        with _no_random_numbers(self._runtime):
            outputs = self._predict[self._first](x)
            if not self._stored[self._first] and self.others:
                self._choose_most(outputs)
            for number in list(self.others):
                try:
                    self._stored[number].append(self._predict[number](x))
                except Exception as error:
                    _LOG.debug(_FAILED, error)
                    self.failed.add(number)
                    self.others.remove(number)
                    del self._stored[number]
        return outputs

    def replay(self, number: int) -> Predictor:
        """Return a function with the stored outputs of a network, which are released."""
        stored = iter(zip(self._inputs, self._stored.pop(number), strict=True))

        def predict(inputs: Tensor) -> Tensor:
            digest, outputs = next(stored, (None, inputs))
            if digest != _digest(inputs):
                raise EvaluationError("the task scores networks on different inputs, so they cannot share outputs")
            return outputs

        return predict

    def _choose_most(self, outputs: Tensor) -> None:
        """Leave out networks whose outputs have no room, given the first outputs of one network."""
        size = outputs.numel() * outputs.element_size() / len(outputs) * self._samples
        self.most = 1 + int(self._room / size)
        self._stored[self._first] = [outputs[:0]]  # the sizes are known
        del self.others[self.most - 1 :]


class _Network(nn.Module):
    """One network of a walk, as a module: hooks see one call for each network. Its parts have the mode they need."""

    def __init__(self, walk: Walk, number: int) -> None:
        super().__init__()
        self._walk, self._number = walk, number

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs for the present batch of the walk."""
        return self._walk.compute(self._number, x)


def _up_to_statistics(path: Path) -> Path:
    return path[: max((depth for depth, part in enumerate(path, start=1) if part.has_statistics), default=0)]


def _has_failed(path: Path) -> bool:
    return any(part.failed for part in path)


def _chain(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest


def _digest(inputs: Tensor) -> object:
    values = inputs.detach().cpu().contiguous().flatten().view(torch.uint8)
    return inputs.shape, inputs.dtype, zlib.crc32(values.numpy().tobytes())


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Log an exception of a network and go on; the network is evaluated alone afterwards."""
    try:
        yield
    except RandomNumbersError:
        raise
    except Exception as error:
        _LOG.debug(_FAILED, error)


@contextlib.contextmanager
def _no_random_numbers(runtime: Runtime) -> Iterator[None]:
    before = _random_state(runtime)
    yield
    if _random_state(runtime) != before:
        raise RandomNumbersError("a network draws random numbers in evaluation mode")


def _random_state(runtime: Runtime) -> tuple[object, ...]:
    states = [torch.get_rng_state()]
    if runtime.device.type != "cpu":
        states.append(torch.get_device_module(runtime.device).get_rng_state(runtime.device))
    of_numpy = np.random.get_state(legacy=False)["state"]
    return (
        tuple(state.numpy().tobytes() for state in states),
        random.getstate(),
        (of_numpy["key"].tobytes(), of_numpy["pos"]),
    )
