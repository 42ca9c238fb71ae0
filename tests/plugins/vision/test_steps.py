"""The fast steps are torchvision's functions applied to each sample, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.sampling import below, uniform
from automl_nas.torchvision_import import import_torchvision
from automl_nas_vision.steps import Context, Crop, Cutout, Flip, Pixels, Step

F2 = import_torchvision("torchvision.transforms.v2").functional
MEAN = np.array([100, 150, 200], dtype=np.uint8)


def images(count: int = 40, height: int = 9, width: int = 7) -> Pixels:
    return np.random.default_rng(1).integers(1, 256, (count, 3, height, width), dtype=np.uint8)


def context(indices: list[int], stage: int = 0) -> Context:
    return Context(np.array(indices, dtype=np.int64), seed=5, epoch=2, stage=stage, mean=MEAN)


def draws(index: int, count: int) -> np.ndarray:
    return context([index]).draws(count)[0]


@pytest.mark.parametrize(("padding", "fill"), [(1, 0), (4, 0), (3, 77), (12, 0)])
def test_crop(padding: int, fill: int) -> None:
    before = images()
    after = Crop(padding=padding, fill=fill)(before, context(list(range(40))))
    for k in range(40):
        top, left = below(draws(k, 2), 2 * padding + 1).tolist()
        padded = F2.pad(torch.from_numpy(before[k]), [padding] * 4, fill=fill)
        assert torch.equal(torch.from_numpy(after[k]), F2.crop(padded, top, left, 9, 7))


def test_crop_reaches_every_place_equally_often() -> None:
    # One bright pixel in the middle shows where the window fell: 81 places, 8100 samples, 100 expected at each.
    # Chi-square with 80 degrees of freedom exceeds 124.8 with probability 0.001; the draw is fixed.
    pictures = np.zeros((8100, 1, 9, 9), dtype=np.uint8)
    pictures[:, :, 4, 4] = 1
    after = Crop(padding=4)(pictures, context(list(range(8100))))
    counts = after[:, 0].sum(axis=0, dtype=np.int64)
    assert counts.sum() == 8100 and ((counts - 100) ** 2 / 100).sum() < 124.8


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flip(probability: float) -> None:
    before = images()
    after = Flip(probability=probability)(before, context(list(range(40))))
    flipped = 0
    for k in range(40):
        expected = torch.from_numpy(before[k])
        if float(uniform(draws(k, 1))[0]) < probability:
            expected, flipped = F2.horizontal_flip(expected), flipped + 1
        assert torch.equal(torch.from_numpy(after[k]), expected)
    assert {0.0: flipped == 0, 0.3: 3 <= flipped <= 25, 1.0: flipped == 40}[probability]


@pytest.mark.parametrize(("size", "fill"), [(1, 0), (4, None), (5, 9), (30, None)])
def test_cutout(size: int, fill: int | None) -> None:
    before = images()
    after = Cutout(size=size, fill=fill)(before, context(list(range(40))))
    colour = torch.from_numpy(MEAN if fill is None else np.full(3, fill, dtype=np.uint8))[:, None, None]
    for k in range(40):
        words = draws(k, 2)
        top = int(below(words[:1], 9)[0]) - size // 2
        left = int(below(words[1:], 7)[0]) - size // 2
        i, j = max(top, 0), max(left, 0)
        height, width = min(top + size, 9) - i, min(left + size, 7) - j
        expected = F2.erase(torch.from_numpy(before[k]), i, j, height, width, colour)
        assert torch.equal(torch.from_numpy(after[k]), expected)


@pytest.mark.parametrize("step", [Crop(), Flip(), Cutout(size=4)])
def test_a_sample_is_the_same_in_any_company(step: Step) -> None:
    before = images()
    order = np.random.default_rng(3).permutation(40).tolist()
    together = step(before, context(list(range(40))))
    assert np.array_equal(step(before[order], context(order)), together[order])
    alone = np.concatenate([step(before[k : k + 1], context([k])) for k in range(40)])
    assert np.array_equal(alone, together)


@pytest.mark.parametrize("step", [Crop(), Flip(), Cutout(size=4)])
def test_steps_leave_their_input_alone_and_differ_by_stage(step: Step) -> None:
    before = images()
    copy = before.copy()
    first, second = (step(before, context(list(range(40)), stage)) for stage in (0, 1))
    assert np.array_equal(before, copy)
    assert not np.array_equal(first, second)


def test_settings_out_of_range_are_refused() -> None:
    for make in (
        lambda: Crop(padding=0),
        lambda: Crop(fill=256),
        lambda: Flip(probability=1.1),
        lambda: Cutout(size=0),
    ):
        with pytest.raises(ConfigurationError, match=r"task\.augment: (crop|flip|cutout): \w+ must "):
            make()
