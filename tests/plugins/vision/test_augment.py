from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import sampling
from automl_nas.torchvision_import import import_torchvision
from automl_nas_vision.augment import make_augmentation
from automl_nas_vision.digits import Digits
from automl_nas_vision.steps import Context, Crop, Cutout, Flip
from automl_nas_vision.torchvision_step import TorchvisionStep

EXAMPLE = np.random.default_rng(0).integers(0, 256, (3, 12, 12), dtype=np.uint8)
MEAN = np.zeros(3, dtype=np.uint8)


def steps(setting: Any) -> tuple[object, ...]:
    return make_augmentation(setting, MEAN, EXAMPLE).steps


def test_presets_names_mappings_and_lists() -> None:
    assert steps("none") == () == steps([])
    assert steps("shift") == (Crop(padding=1),)
    assert steps("crop_flip") == (Crop(padding=4), Flip(probability=0.5))
    assert steps("flip") == (Flip(),)
    assert steps({"name": "cutout", "size": 8, "fill": None}) == (Cutout(size=8),)
    assert steps(["crop", {"name": "flip", "probability": 1}]) == (Crop(), Flip(probability=1))
    (step,) = steps({"name": "RandomCrop", "size": 12, "padding": 4})
    assert isinstance(step, TorchvisionStep)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("crop_flp", "did you mean 'crop_flip'"),
        ({"name": "cutou", "size": 3}, "did you mean 'cutout'"),
        ("RandomHorizontalFlp", "did you mean 'RandomHorizontalFlip'"),
        ("Transform", "unknown augmentation 'Transform'"),
        ({"name": "crop", "paddin": 3}, "crop has no setting 'paddin'; did you mean 'padding'"),
        ({"name": "RandomCrop", "sise": 3}, "RandomCrop has no setting 'sise'; did you mean 'size'"),
        ({"name": "RandomRotation"}, "RandomRotation does not accept these settings"),
        ({"name": "RandomHorizontalFlip", "p": 2.0}, "RandomHorizontalFlip does not accept these settings"),
        ({"name": "RandomCrop", "size": 8}, r"turns uint8 \(3, 12, 12\) into torch.uint8 \(3, 8, 8\)"),
        ("ToPILImage", "turns uint8"),
        ({"name": "Normalize", "mean": [0.5], "std": [0.5]}, "cannot be applied to an image"),
        ({"name": "CutMix", "num_classes": 10}, "cannot be applied to an image"),
        ({"padding": 3}, "needs a 'name'"),
        ({"name": 3}, "needs a 'name'"),
        ("cutout", "cutout needs the setting 'size'"),
        ({"name": "crop", "padding": "3"}, "padding must be int, not '3'"),
        ({"name": "crop", "padding": True}, "padding must be int, not True"),
        ({"name": "flip", "probability": None}, "probability must be float, not None"),
        (["shift", "flip"], "can only be set alone"),
    ],
)
def test_mistakes_are_named_with_the_way_out(setting: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"task\.augment: .*{message}"):
        steps(setting)


def test_a_torchvision_transform_is_a_function_of_the_sample_alone() -> None:
    step = TorchvisionStep("RandAugment", {})
    pictures = np.random.default_rng(1).integers(0, 256, (10, 3, 12, 12), dtype=np.uint8)

    def apply(order: list[int]) -> np.ndarray:
        return step(pictures[order], Context(np.array(order), seed=1, epoch=0, stage=0, mean=MEAN))

    whole = apply(list(range(10)))
    assert np.array_equal(apply([7, 2, 5]), whole[[7, 2, 5]])
    assert not np.array_equal(whole, pictures)


def test_a_torchvision_step_is_the_transform_at_the_samples_word() -> None:
    transform = import_torchvision("torchvision.transforms.v2").RandomAffine(30)
    pictures = np.random.default_rng(1).integers(0, 256, (5, 3, 12, 12), dtype=np.uint8)
    context = Context(np.array([4, 0, 3, 2, 1]), seed=1, epoch=6, stage=2, mean=MEAN)
    transformed = TorchvisionStep("RandomAffine", {"degrees": 30})(pictures, context)
    with torch.random.fork_rng(devices=[]):
        for k, word in enumerate(context.draws(1)[:, 0].tolist()):
            torch.manual_seed(word >> 1)
            assert torch.equal(torch.from_numpy(transformed[k]), transform(torch.from_numpy(pictures[k])))


def test_a_pickled_step_travels_by_name() -> None:
    step = TorchvisionStep("RandomRotation", {"degrees": 10})
    data = pickle.dumps(step)
    assert b"torchvision." not in data
    context = Context(np.arange(1), seed=0, epoch=0, stage=0, mean=MEAN)
    again = pickle.loads(data)  # noqa: S301 - made two lines above
    assert np.array_equal(again(EXAMPLE[None], context), step(EXAMPLE[None], context))


def test_augmentation_touches_training_batches_only() -> None:
    plain, shifted = Digits(augment="none"), Digits(augment="shift")
    seen: dict[str, list[torch.Tensor]] = {"plain": [], "shifted": []}
    for name, task in (("plain", plain), ("shifted", shifted)):
        task.score(lambda inputs, name=name: seen[name].append(inputs) or torch.zeros(len(inputs), 10), "train")
    assert torch.equal(torch.cat(seen["plain"]), torch.cat(seen["shifted"]))
    batches = [next(task.batches("train", 0, 0)) for task in (plain, shifted)]
    assert torch.equal(batches[0][1], batches[1][1]) and not torch.equal(batches[0][0], batches[1][0])


class Jitter:
    """Draws from the global generators of torch, NumPy and Python."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        shift = int(torch.randint(0, 9, ())) + int(np.random.randint(0, 9)) + random.randrange(9)
        return torch.roll(image, shift, 2)


@pytest.mark.process
def test_objects_augment_a_sample_equally_with_any_number_of_workers_and_after_a_resume(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "_usable_cpus", lambda: 4)
    v2 = import_torchvision("torchvision.transforms.v2")
    augment: Any = [v2.RandomApply([v2.RandomRotation(30)], p=0.7), "flip", Jitter()]
    plain, parallel = Digits(augment=augment, batch_size=200), Digits(augment=augment, batch_size=200, workers=4)
    expected = list(plain.batches("train", 3, 7))
    assert not torch.equal(expected[0][0], next(plain.batches("train", 4, 7))[0])
    for start in (0, 2):
        batches = list(parallel.batches("train", 3, 7, start=start))
        assert len(batches) == len(expected) - start
        for mine, theirs in zip(batches, expected[start:], strict=True):
            assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])


def test_objects_that_change_the_shape_are_named() -> None:
    v2 = import_torchvision("torchvision.transforms.v2")
    with pytest.raises(ConfigurationError, match=r"task.augment: Resize turns uint8 \(3, 12, 12\) into"):
        steps([v2.Resize(6)])
