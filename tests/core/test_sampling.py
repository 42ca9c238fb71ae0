from __future__ import annotations

import multiprocessing
from functools import partial
from typing import Literal, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from automl_nas.evaluation import TensorTask, sampling
from automl_nas.evaluation.sampling import (
    Indices,
    below,
    permutation,
    sample_draws,
    sample_generator,
    seeded_batches,
    uniform,
)


def test_the_generator_is_splitmix64(monkeypatch: pytest.MonkeyPatch) -> None:
    # Published outputs of SplitMix64 for the seed 1234567 (the check values that implementations are compared with).
    monkeypatch.setattr(sampling, "stream_seed", lambda *_: 1234567)
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert sample_draws(0, "x", 0, np.arange(5))[:, 0].tolist() == published
    assert sample_draws(0, "x", 0, np.arange(1), 5)[0].tolist() == published


def test_draws_belong_to_samples_and_streams() -> None:
    whole = sample_draws(1, "a", 2, np.arange(100), 3)
    order = np.random.default_rng(0).permutation(100)
    assert np.array_equal(sample_draws(1, "a", 2, order, 3), whole[order])
    assert len(np.unique(whole)) == 300
    for other in ((2, "a", 2), (1, "b", 2), (1, "a", 3)):
        assert not np.isin(sample_draws(*other, np.arange(100), 3), whole).any()


def test_uniform_and_below_by_hand() -> None:
    words = np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)
    assert uniform(words).tolist() == [0.0, 0.5, 1 - 2.0**-53]
    assert below(words, 9).tolist() == [0, 4, 8]
    assert below(words, 2**31).tolist() == [0, 2**30, 2**31 - 1]


def test_below_is_uniform() -> None:
    counts = np.bincount(below(sample_draws(0, "u", 0, np.arange(9000))[:, 0], 9), minlength=9)
    # Chi-square with 8 degrees of freedom exceeds 26.1 with probability 0.001; the draw is fixed.
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.1


def test_permutations_are_permutations_and_uniform() -> None:
    assert sorted(permutation(0, "p", 0, 50).tolist()) == list(range(50))
    assert permutation(0, "p", 0, 0).tolist() == []
    counts: dict[tuple[int, ...], int] = {}
    for counter in range(2400):
        key = tuple(permutation(0, "p", counter, 4).tolist())
        counts[key] = counts.get(key, 0) + 1
    # 24 orders, 100 each expected; chi-square with 23 degrees of freedom exceeds 49.7 with probability 0.001.
    assert len(counts) == 24 and sum((n - 100) ** 2 / 100 for n in counts.values()) < 49.7


def test_the_sample_generator_restores_everything() -> None:
    torch.set_num_threads(2)
    try:
        before = torch.get_rng_state()
        with pytest.raises(KeyError), sample_generator() as seed:
            seed(2**64 - 1)
            first = torch.rand(3)
            seed(2**64 - 1)
            assert torch.equal(torch.rand(3), first) and torch.get_num_threads() == 1
            raise KeyError
        assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def fetch(indices: Indices, seed: int, epoch: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    words = sample_draws(seed, "augment", epoch, indices)
    return torch.from_numpy(uniform(words)) + offset, torch.from_numpy(indices)


def test_an_epoch_visits_each_sample_once_and_drops_the_rest() -> None:
    indices = np.arange(100, 123)
    batches = list(seeded_batches(fetch, indices, batch_size=5, seed=1, epoch=0))
    assert [len(inputs) for inputs, _ in batches] == [5, 5, 5, 5]
    seen = torch.cat([targets for _, targets in batches]).tolist()
    assert len(set(seen)) == 20 and set(seen) <= set(indices.tolist())
    other = list(seeded_batches(fetch, indices, batch_size=5, seed=1, epoch=1))
    assert torch.cat([targets for _, targets in other]).tolist() != seen


def test_skipped_batches_are_not_read() -> None:
    read: list[int] = []

    def spy(indices: Indices, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        read.extend(indices.tolist())
        return fetch(indices, seed, epoch)

    rest = list(seeded_batches(spy, np.arange(20), batch_size=4, seed=0, epoch=0, start=3))
    assert len(rest) == 2 and len(read) == 8


@pytest.mark.process
def test_workers_change_nothing_and_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_usable_cpus", lambda: 3)
    before = torch.get_rng_state()
    make = partial(
        seeded_batches, partial(fetch, offset=1.0), np.arange(40), batch_size=4, seed=3, epoch=2, preload=["json"]
    )
    expected = list(make(workers=0))
    for start in (0, 7):
        found = list(make(workers=3, start=start))
        assert len(found) == 10 - start
        for one, two in zip(expected[start:], found, strict=True):
            assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert multiprocessing.active_children() == []
    abandoned = make(workers=2)
    next(abandoned)
    assert len(multiprocessing.active_children()) == 2
    del abandoned
    assert multiprocessing.active_children() == []
    assert torch.equal(torch.get_rng_state(), before)


def failing(indices: Indices, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    raise KeyError("sample")


@pytest.mark.parametrize("cuda", [False, True])
def test_memory_is_pinned_if_the_process_uses_cuda(monkeypatch: pytest.MonkeyPatch, cuda: bool) -> None:
    """Without a GPU nothing can be pinned: the loader's setting is compared."""
    settings: list[bool] = []

    def loader(batches: object, **options: object) -> list[object]:
        settings.append(bool(options["pin_memory"]))
        return []

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: cuda)
    monkeypatch.setattr(sampling, "DataLoader", loader)
    monkeypatch.setattr(sampling, "_usable_cpus", lambda: 1)
    assert list(seeded_batches(fetch, np.arange(4), batch_size=2, seed=0, epoch=0, workers=1)) == []
    assert settings == [cuda]


@pytest.mark.process
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_fetch_reaches_the_caller(workers: int) -> None:
    with pytest.raises(KeyError, match="sample"):
        next(seeded_batches(failing, np.arange(4), batch_size=2, seed=0, epoch=0, workers=workers))
    assert multiprocessing.active_children() == []


def test_workers_are_at_most_one_per_cpu_and_none_in_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        sampling, "_loaded", lambda batches, numbers, workers, preload: asked.append(workers) or iter(())
    )
    monkeypatch.setattr(sampling, "_usable_cpus", lambda: 2)
    list(seeded_batches(fetch, np.arange(40), batch_size=4, seed=0, epoch=0, workers=8))
    list(seeded_batches(fetch, np.arange(4), batch_size=4, seed=0, epoch=0, workers=8))
    assert asked == [2, 1]
    process = cast("multiprocessing.Process", multiprocessing.current_process())
    monkeypatch.setattr(type(process), "daemon", True)
    assert len(list(seeded_batches(fetch, np.arange(40), batch_size=4, seed=0, epoch=0, workers=8))) == 10
    assert asked == [2, 1]


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_parts_of_batches_are_those_of_the_batches(sampler: Literal["shuffle", "balanced"]) -> None:
    """Each process reads and augments its samples only, and they are those that it would cut out of the batch."""
    inputs, targets = torch.arange(60.0).view(30, 2), torch.arange(30) % 3
    task = TensorTask(inputs, targets, batch_size=6, sampler=sampler, augment=lambda x, y: (x + torch.rand(2), y))
    for epoch, start in ((0, 0), (1, 1)):
        whole = list(task.batches("train", epoch, 5, start))
        for rank in range(3):
            parts = list(task.batch_parts("train", epoch, 5, start, rank=rank, size=3))
            assert len(parts) == len(whole) > 0
            for (x, y), (part_x, part_y) in zip(whole, parts, strict=True):
                assert torch.equal(x[rank::3], part_x)
                assert torch.equal(y[rank::3], part_y)
