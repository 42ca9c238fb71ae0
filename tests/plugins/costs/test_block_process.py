"""Costs predicted from what is counted of blocks: against whole networks, scikit-learn, and planted processors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Decision, Subset
from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.operators import encode
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing.toys import ToySpace
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_costs.blocks.counts import NAMES, BlockCounts
from automl_nas_costs.blocks.structure import block_structure
from automl_nas_costs.blocks.sums import BlockSums
from automl_nas_costs.models import Flops, Params
from automl_nas_costs.prediction.accuracy import accuracy
from automl_nas_costs.prediction.features import OptionFeatures
from automl_nas_costs.prediction.predictor import Predictor
from automl_nas_costs.prediction.regressors import BlockProcess
from automl_nas_costs.prediction.samples import draw
from automl_nas_spaces.channels import ShuffleNetV2Channels

SMALL = ShuffleNetV2Channels(
    input_shape=(3, 32, 32),
    scales=(0.2, 0.5, 1.0, 1.5),
    stem_stride=1,
    widths=(32, 80),
    repeats=(2, 2),
    strides=(2, 2),
    last_channels=64,
)
DRAWN = draw(SMALL, 90, 0)


def test_what_is_counted_of_blocks_adds_up_to_whole_networks() -> None:
    counts = BlockCounts(SMALL)
    networks = DRAWN[:10]
    total = counts(networks) @ counts.counted
    for suffix, model in (("channels in ", Flops(SMALL)), ("parameters", Params(SMALL))):
        columns = [place for place, name in enumerate(counts.names) if suffix in name]
        truth = np.array([model.estimate(network) for network in networks])
        # Columns are relative to their mean over networks, so the truth is their weighted sum; the weights are fitted.
        weights, *_ = np.linalg.lstsq(total[:, columns], truth, rcond=None)
        assert np.allclose(total[:, columns] @ weights, truth, rtol=1e-9)
        assert (weights > 0).all()


def test_layers_are_told_apart_by_kind_and_channels() -> None:
    def layers() -> nn.Module:
        return nn.Sequential(
            OneOf({"small": nn.Conv2d(3, 16, 3, padding=1), "large": nn.Conv2d(3, 16, 5, padding=2)}),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.Conv2d(16, 24, 1, groups=2),
            nn.Conv2d(24, 6, 1),
            nn.MaxPool2d(2),
        )

    counts = BlockCounts(ModuleSpace(layers, input_shape=(3, 8, 8)))
    # By hand: 3 and 6 channels do not fill vectors of 4; a group of 8 to 12 channels does.
    present = {name for name in counts.names if "fill up" not in name}
    assert present == {
        "dense multiply-adds, channels in 1s",
        "dense activations",
        "dense layers",
        "depthwise multiply-adds, channels in 16s",
        "depthwise activations",
        "depthwise layers",
        "grouped multiply-adds, channels in 4s",
        "grouped activations",
        "grouped layers",
        "parameters",
        "activations of other layers",
    }
    assert set(counts.names) <= set(NAMES)
    # 16 channels fill a vector of 16; the groups of 8 to 12, the 3 and the 6 do not.
    assert {name for name in counts.names if "fill up" in name} == {
        "dense multiply-adds to fill up",
        "grouped multiply-adds to fill up",
    }


def test_the_posterior_is_that_of_scikit_learn() -> None:
    """The same Gaussian process, computed as Bayesian linear regression on the roots of the covariances."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import DotProduct

    rng = np.random.default_rng(0)
    counted = rng.random((12, 3))
    uses, more = rng.integers(0, 3, (40, 12)).astype(float), rng.integers(0, 3, (9, 12)).astype(float)
    values = 2.0 + uses @ (counted @ np.array([1.0, 2.0, 0.5]) + 0.2 * rng.random(12))
    mine = BlockProcess(counted).fit(uses, values)
    assert isinstance(mine, BlockProcess)
    unit = values.mean()
    amounts = np.exp(mine._logs_of_sizes)
    places = np.arange(12)
    parts = mine._covariances(places, places, mine._sizes(uses, values / unit))
    covariance = sum(a * part for a, part in zip(amounts[:-2], parts, strict=True))
    # The last eigenvalues of a smooth kernel are 0 to rounding; the addition is far below the deviation's own part.
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(12))
    theirs = GaussianProcessRegressor(
        DotProduct(math.sqrt(amounts[-2])), alpha=amounts[-1] * (values / unit) ** 2, optimizer=None
    ).fit(uses @ root, values / unit)
    # Both solve the same 40 equations, whose condition is at most about 1e6.
    assert np.allclose(mine.predict(more), unit * theirs.predict(more @ root), rtol=1e-6)


def planted(processor: np.ndarray, noise: float) -> tuple[Predictor, np.ndarray, np.ndarray]:
    """Return a predictor fitted to 60 networks of a planted processor, and predicted and true costs of 30 others."""
    counts = BlockCounts(SMALL)
    uses = counts(DRAWN)
    # A block's time is a weighted sum of its counts, plus a deviation of up to 20 %.
    times = counts.counted @ processor[: counts.counted.shape[1]]
    times *= 1 + 0.2 * np.random.default_rng(1).random(len(times))
    exact = 0.3 + uses @ times
    values = exact * np.exp(noise * np.random.default_rng(2).standard_normal(len(exact)))
    predictor = Predictor(SMALL, DRAWN[:60], values[:60].tolist(), folds=2)
    return predictor, predictor.predict(DRAWN[60:]), exact[60:]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_processor_is_learnt_from_few_networks(seed: int) -> None:
    """Two processors with different weights of the counts; 60 networks of 4 blocks with 16 forms each."""
    processor = np.random.default_rng(seed).random(len(NAMES)) ** 3
    predictor, predicted, truth = planted(processor, 0.02)
    assert predictor.chosen.kind == "blocks"
    reached = accuracy(predicted, truth)
    # The blocks' own deviations of up to 20 % have a mean with a standard deviation of 20 / sqrt(12 * 4) = 2.9 %,
    # which cannot be derived from counts.
    assert reached.mape < 0.05
    assert reached.within_10 >= 0.9
    additive = Predictor(SMALL, DRAWN[:60], truth_of(predictor, DRAWN[:60]), model="additive")
    others = accuracy(additive.predict(DRAWN[60:]), predicted)
    assert others.mape > 2 * reached.mape  # the cost of a width depends on the place, which options do not describe


def truth_of(predictor: Predictor, networks: list[Architecture]) -> list[float]:
    return [float(value) for value in predictor.predict(networks)]


def test_single_values_and_arrays_of_codes_agree() -> None:
    predictor, predicted, _ = planted(np.ones(len(NAMES)), 0.01)
    codes = np.array([encode(network, SMALL.decisions) for network in DRAWN[60:]])
    # Sums of the same numbers in another order.
    assert np.allclose(predictor.estimates(codes), predicted, rtol=1e-9)
    assert np.allclose([predictor.estimate(network) for network in DRAWN[60:]], predicted, rtol=1e-9)
    wrong = DRAWN[0].replace({"stage1.block1": "conv9"})
    with pytest.raises(SpaceError, match=r"stage1\.block1"):
        predictor.estimate(wrong)
    with pytest.raises(SpaceError, match="no decision 'depth'"):
        predictor.estimate(DRAWN[0].replace({"depth": 3}))


def test_features_are_what_they_say() -> None:
    """Against a loop over options, in a space with subsets and with equal decisions."""
    for space in (ToySpace(), NASBench201(), Subsets()):
        options = OptionFeatures(space)
        for number in range(5):
            architecture = space.sample(stream(0, "test", number))
            row, place = options([architecture])[0], 0
            counted: dict[tuple[object, ...], list[int]] = {}
            for name, decision in space.decisions.items():
                value = architecture[name]
                if isinstance(decision, Subset):
                    assert isinstance(value, tuple)
                    taken = [bit for option in decision.options for bit in (option not in value, option in value)]
                else:
                    taken = [option == value for option in decision.options]
                    counted.setdefault(decision.options, []).append(taken.index(True))
                assert row[place : place + len(taken)].tolist() == taken
                place += len(taken)
            assert place == options.additive_width
            for kinds, places in counted.items():
                if len(places) > 1:
                    expected = np.bincount(places, minlength=len(kinds)) / math.sqrt(len(places))
                    assert np.allclose(row[place : place + len(kinds)], expected, rtol=1e-12)
                    place += len(kinds)
            assert place == len(row)


class Subsets(SearchSpace):
    """A subset of three layers, and a layer of one of two widths."""

    @property
    def decisions(self) -> dict[str, Decision]:
        return {"there": Subset(("a", "b", "c"), min=1), "width": Choice((4, 6))}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, 8, 8)

    def build(self, architecture: Architecture) -> nn.Module:
        there, width = architecture["there"], architecture["width"]
        assert isinstance(there, tuple)
        assert isinstance(width, int)
        branch = [nn.Conv2d(3, 3, 2 * "abc".index(str(name)) + 1, padding="same") for name in there]
        return nn.Sequential(nn.Sequential(*branch), nn.Sequential(nn.Conv2d(3, width, 1), nn.AdaptiveAvgPool2d(1)))


def test_sums_of_subsets_and_widths() -> None:
    space = Subsets()
    structure = block_structure(space)
    values = {key: float(2**place) for place, key in enumerate(structure.blocks)}
    sums = BlockSums(structure, values)
    networks = draw(space, 14, 0)
    assert len(networks) == space.size == 14
    codes = np.array([encode(network, space.decisions) for network in networks])
    truth = [sum(values[key] for _, key in structure.keys(network)) for network in networks]
    # Whole numbers, so sums are exact.
    assert sums.of_codes(codes).tolist() == [sums(network) for network in networks] == truth
    with pytest.raises(SpaceError, match="not that of an architecture"):
        sums.of_codes(np.zeros((1, 4), dtype=int))


def test_blocks_that_are_wanted_must_be_there() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(OneOf({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in range(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for part in self.parts:
                x = part(x)
            return x

    numbers = DecisionSpace({f"d{place}": Choice((0, 1)) for place in range(6)})
    drawn = draw(numbers, 12, 0)
    with pytest.raises(ConfigurationError, match="cannot be predicted from their blocks"):
        Predictor(numbers, drawn, [1.0 + place for place in range(12)], model="blocks")
    space = ModuleSpace(Mixed, input_shape=(4,))
    some = draw(space, 30, 0)
    only = Predictor(space, some, [5.0 + sum(v == "a" for v in item.values()) for item in some], model="blocks")
    assert only.chosen.kind == "blocks"
