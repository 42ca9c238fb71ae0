"""The spaces `signal_cnn` and `token_cnn`: contracts, shapes, costs by hand, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from automl_nas.errors import SpaceError
from automl_nas.evaluation import CostModel, CostTable
from automl_nas.run import complete_manager
from automl_nas.space import Architecture, SearchSpace
from automl_nas.streams import stream
from automl_nas.testing import SupernetContract
from automl_nas_spaces.sequences import FeedForward, Mix, signal_cnn, token_cnn

SMALL: dict[str, Any] = {
    "num_classes": 3,
    "widths": (6, 8),
    "repeats": (1, 1),
    "kernels": (3, 5),
    "expansions": (1, 2),
}


class TestSignals(SupernetContract):
    def make_space(self) -> SearchSpace:
        return signal_cnn(**SMALL, input_shape=(2, 21))


class TestTokens(SupernetContract):
    def make_space(self) -> SearchSpace:
        return token_cnn(**SMALL, input_shape=(7,), vocabulary=11, embedding=5)

    def inputs(self, space: SearchSpace) -> Tensor:
        return torch.arange(28).reshape(4, 7) % 11


def test_the_decisions_are_kernels_hidden_widths_and_skips() -> None:
    space = signal_cnn(**SMALL, input_shape=(2, 21))
    options = {name: tuple(decision.options) for name, decision in space.decisions.items()}  # type: ignore[attr-defined]
    assert options == {
        "stage1.block1.mix": ("3", "5", "skip"),
        "stage1.block1.hidden": ("6", "12", "skip"),
        "stage2.block1.mix": ("3", "5", "skip"),
        "stage2.block1.hidden": ("8", "16", "skip"),
    }
    assert space.size == 3**4


@pytest.mark.parametrize("length", [4, 5, 20, 21])
def test_the_lengths_are_divided_by_the_strides_and_rounded_up(length: int) -> None:
    network = signal_cnn(**SMALL, input_shape=(2, length)).build(
        signal_cnn(**SMALL, input_shape=(2, length)).sample(stream(0, "x"))
    )
    lengths = []
    for stage in ("stage1", "stage2"):
        module = network.get_submodule(stage)
        module.register_forward_hook(lambda _, __, outputs: lengths.append(outputs.shape[2]))
    network(torch.zeros(1, 2, length))
    assert lengths == [-(-length // 2), -(-length // 4)]


def test_the_blocks_are_residual_and_mix_what_they_say() -> None:
    x = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))
    mix, feed = Mix(6, 5), FeedForward(6, 12)
    for layer, zeroed in ((mix, mix.convolution), (feed, feed.project)):
        torch.nn.init.zeros_(zeroed.weight)
        torch.nn.init.zeros_(zeroed.bias)  # type: ignore[arg-type]
        assert torch.equal(layer(x), x)
    torch.nn.init.ones_(mix.convolution.weight)
    sums = torch.nn.functional.pad(mix.norm(x), (2, 2)).unfold(2, 5, 1).sum(3)
    torch.testing.assert_close(mix(x), x + sums)


def cost(name: str, space: SearchSpace) -> CostModel:
    model: CostModel = complete_manager().registry.construct("cost_models", name, [space])
    return model


def by_hand(values: Architecture, *, length: int, channels: int, classes: int) -> tuple[int, int]:
    """Return multiply-adds and parameters, counted from the description of the network."""
    flops = params = 0
    for stage, width in ((1, 6), (2, 8)):
        length = -(-length // 2)
        flops += length * width * channels * 5
        params += width * channels * 5 + width
        channels = width
        kernel, hidden = (values[f"stage{stage}.block1.{part}"] for part in ("mix", "hidden"))
        if kernel != "skip":
            flops += length * width * int(str(kernel))
            params += 2 * width + width * int(str(kernel)) + width
        if hidden != "skip":
            flops += 2 * length * width * int(str(hidden))
            params += 2 * width + 2 * width * int(str(hidden)) + int(str(hidden)) + width
    return flops + 2 * channels * classes, params + 2 * channels + 2 * channels * classes + classes


def test_costs_are_exact() -> None:
    space = signal_cnn(**SMALL, input_shape=(2, 21))
    models = [cost("flops", space), cost("params", space)]
    architectures = [space.sample(stream(0, "architectures", number)) for number in range(12)]
    architectures.append(Architecture(dict.fromkeys(space.decisions, "skip")))
    tables = [CostTable.build(model, space) for model in models]
    for architecture in architectures:
        expected = by_hand(architecture, length=21, channels=2, classes=3)
        assert tuple(model.estimate(architecture) for model in models) == expected
        assert tuple(table.estimate(architecture) for table in tables) == expected


def test_tokens_cost_an_embedding_and_the_network_of_a_signal() -> None:
    settings = {**SMALL, "strides": (2, 2)}
    tokens = token_cnn(**settings, input_shape=(21,), vocabulary=11, embedding=2)
    signals = signal_cnn(**settings, input_shape=(2, 21))
    architecture = tokens.sample(stream(0, "x"))
    assert cost("flops", tokens).estimate(architecture) == cost("flops", signals).estimate(architecture)
    assert cost("params", tokens).estimate(architecture) == cost("params", signals).estimate(architecture) + 11 * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernels": (3, 4)}, "must be odd"),
        ({"kernels": ()}, "kernels must be"),
        ({"expansions": (2, 2)}, "different options"),
        ({"widths": (8,)}, "one number for each stage"),
        ({"repeats": (0, 1)}, "repeats must be"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_classes": 0}, "num_classes"),
        ({"input_shape": (2, 3)}, "too short"),
        ({"input_shape": (20,)}, "channels, length"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        signal_cnn(**{"input_shape": (2, 20), **SMALL, **settings})


def test_tokens_out_of_range_are_refused() -> None:
    with pytest.raises(SpaceError, match="vocabulary"):
        token_cnn(**SMALL, input_shape=(8,), vocabulary=0)
    with pytest.raises(SpaceError, match=r"\(length,\)"):
        token_cnn(**SMALL, input_shape=(8, 2))  # type: ignore[arg-type]
