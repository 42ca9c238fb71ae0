"""For authors of tasks: random numbers for each sample, and batches that do not depend on the number of loader workers.

In every task the order of an epoch is a function of (seed, epoch), and the augmentation of a sample is a function of
(seed, epoch, index). A generator that is used for one sample after another does not have this property. `sample_draws`
does: it computes the n-th number of a stream directly from n, for a whole batch at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from automl_nas.errors import DataError
from automl_nas.evaluation.process_context import process_context
from automl_nas.evaluation.task import Batch
from automl_nas.streams import stream_seed

Indices = NDArray[np.int64]
Fetch = Callable[[Indices, int, int], Batch]
"""``fetch(indices, seed, epoch) -> batch``: reads and augments samples. It must be picklable if there are workers."""

_GAMMA = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits: the step of SplitMix64


def sample_draws(seed: int, purpose: str, counter: int, indices: Indices, count: int = 1) -> NDArray[np.uint64]:
    """Return ``count`` random 64-bit words for each sample, from the stream ``(seed, purpose, counter)``.

    Row i depends on ``indices[i]`` and ``count`` only, not on the rest of the batch: sample n has the words
    ``n * count`` to ``n * count + count - 1`` of the stream. The generator is SplitMix64 (Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators", OOPSLA 2014), whose n-th output is a hash of its state plus n steps.

    Returns:
        Shape ``(len(indices), count)``.
    """
    numbers = indices.astype(np.int64)[:, None] * count + np.arange(1, count + 1)
    return _mix(numbers.astype(np.uint64), stream_seed(seed, purpose, counter))


def _mix(numbers: NDArray[np.uint64], start: int) -> NDArray[np.uint64]:
    """Return the outputs of SplitMix64 at these positions, counted from 1."""
    state: NDArray[np.uint64] = numbers * np.uint64(_GAMMA) + np.uint64(start)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniform(draws: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Convert random words to numbers in [0, 1), which are multiples of 2^-53."""
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(draws: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """Convert random words to integers in ``[0, bound)``, bound at most 2^31; their bias is below ``bound / 2^32``."""
    return ((draws >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)


def permutation(seed: int, purpose: str, counter: int, size: int) -> Indices:
    """Return ``0 .. size - 1`` in the random order of the stream ``(seed, purpose, counter)``."""
    keys = sample_draws(seed, purpose, counter, np.arange(size, dtype=np.int64))[:, 0]
    return np.argsort(keys, kind="stable").astype(np.int64)


@contextlib.contextmanager
def sample_generator() -> Iterator[Callable[[int], None]]:
    """Yield a function that seeds the global generators of torch (CPU), NumPy and Python; restore them afterwards.

    For transforms that draw from a global generator: call the function with the sample's word before each sample.
    In this context torch uses one thread, so that sums are the same in a loader worker and in this process.
    """
    # Not torch.manual_seed: it also queues work for accelerators, which are not used, and takes 100 times as long.
    generator = torch.default_generator
    before, threads = generator.get_state(), torch.get_num_threads()
    others = np.random.get_state(), random.getstate()
    torch.set_num_threads(1)

    def seed(word: int) -> None:
        generator.manual_seed(word >> 1)
        np.random.seed(word >> 32)
        random.seed(word)

    try:
        yield seed
    finally:
        generator.set_state(before)
        np.random.set_state(others[0])
        random.setstate(others[1])
        torch.set_num_threads(threads)


_WAY_OUT = (
    "a script that uses processes must be a file, with its calls under `if __name__ == '__main__':`; define what the "
    "loader uses at the top level of a module, not in a notebook; or set workers of the task to 0"
)


def seeded_batches(
    fetch: Fetch,
    indices: Indices,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    workers: int = 0,
    preload: Sequence[str] = (),
    shares: NDArray[np.float64] | None = None,
    rank: int = 0,
    size: int = 1,
) -> Iterator[Batch]:
    """Yield the full batches of one epoch over ``indices``, in the random order of (seed, epoch).

    The batches are the same for every number of workers. The samples after the last full batch are dropped; they differ
    from epoch to epoch. torch's global generator is neither read nor changed.

    Args:
        fetch: returns a batch; see `Fetch`. Its result must be a function of each sample's (seed, epoch, index).
        indices: the samples of the split.
        batch_size: the number of samples in a batch.
        seed: of the streams.
        epoch: counted from 0.
        start: the first batch to yield; earlier batches are skipped without reading their samples.
        workers: the number of loader processes, at most one for each usable CPU. 0: this process loads the batches, as
            it also does in daemonic processes, which must not have children. The processes end with the iterator.
        preload: modules that ``fetch`` needs in the workers; where the platform allows it they are imported once for
            all workers.
        shares: how often each of the indices is drawn relative to the others, shape ``(len(indices),)``: the samples of
            an epoch are drawn with replacement. None: each index is used at most once in an epoch.
        rank: see ``size``.
        size: only every size-th sample of each batch is read, from sample ``rank`` on; see `Task.batch_parts`.

    Raises:
        DataError: the loader processes cannot start; raised with the first batch.
    """
    if shares is None:
        order = indices[permutation(seed, "order", epoch, len(indices))]
    else:
        order = indices[_drawn(shares, seed, epoch)]
    batches = range(start, len(indices) // batch_size)
    epoch_batches = _Epoch(fetch, order, batch_size, seed, epoch, rank, size)
    workers = 0 if multiprocessing.current_process().daemon else min(workers, _usable_cpus(), len(batches))
    if workers == 0:
        return map(epoch_batches.__getitem__, batches)
    return _loaded(epoch_batches, batches, workers, preload)


def _drawn(shares: NDArray[np.float64], seed: int, epoch: int) -> Indices:
    """Return as many positions as there are shares, each drawn with the probability of its share."""
    ends = np.cumsum(shares)
    points = uniform(sample_draws(seed, "order", epoch, np.arange(len(shares), dtype=np.int64))[:, 0]) * ends[-1]
    positions: Indices = np.minimum(np.searchsorted(ends, points, side="right"), len(shares) - 1).astype(np.int64)
    return positions


@dataclass(frozen=True)
class _Epoch(Dataset[Batch]):
    """The batches of an epoch, by number."""

    fetch: Fetch
    order: Indices
    batch_size: int
    seed: int
    epoch: int
    rank: int
    size: int

    def __getitem__(self, number: int) -> Batch:
        first = number * self.batch_size
        return self.fetch(self.order[first + self.rank : first + self.batch_size : self.size], self.seed, self.epoch)


def _loaded(batches: _Epoch, numbers: range, workers: int, preload: Sequence[str]) -> Iterator[Batch]:
    with warnings.catch_warnings():
        # In a container with a quota below the number of CPUs the loader would advise to use fewer workers.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        warnings.filterwarnings("ignore", message="Got pickle error", category=UserWarning)  # the error below says it
        loader: DataLoader[Any] = DataLoader(
            batches,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            multiprocessing_context=process_context([__name__, *preload]),
            # Copies to the device from pinned memory do not wait. A process that uses CUDA has put its network there.
            pin_memory=torch.cuda.is_initialized(),  # type: ignore[no-untyped-call]
            generator=torch.Generator(),  # otherwise the loader draws a seed from the global generator
        )
        try:
            iterator: Any = iter(loader)
        except Exception as error:  # of pickle, of whatever class the object raises
            raise DataError(
                f"the loader of the task cannot start its processes (workers: {workers}), since {error}; {_WAY_OUT}"
            ) from None
    count = 0
    try:
        for batch in iterator:
            count += 1
            yield batch
    except Exception as error:
        # A traceback would keep the iterator, and with it the processes, alive as long as the error exists. The message
        # contains the traceback of the worker.
        del iterator
        if not count and "exited unexpectedly" in str(error):
            raise DataError(
                f"the processes of the task's loader (workers: {workers}) ended before the first batch; their own "
                f"message is printed above. {_WAY_OUT[0].upper()}{_WAY_OUT[1:]}"
            ) from None
        raise error.with_traceback(None) from None


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
