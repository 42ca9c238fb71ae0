"""The spaces: contracts, what is quantised how, gradients of what is not drawn, and bad settings."""

from __future__ import annotations

import pickle
import random
from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, ModuleSpace, OneOf, SupernetSpace, Weighted
from automl_nas.testing.supernets import SupernetContract
from automl_nas.torchvision_import import import_torchvision
from automl_nas_quantization.layers import QuantizedLayer
from automl_nas_quantization.precision import PAIRS, Precision
from automl_nas_quantization.resnet import mixed_precision_resnet
from automl_nas_quantization.space import mixed_precision
from automl_nas_spaces.channels import ShuffleNetV2Channels
from automl_nas_spaces.sequences import signal_cnn, token_cnn
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

RESNET: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (1, 8, 8),
    "stem": "small",
    "widths": (4, 8),
    "repeats": (1, 1),
    "strides": (1, 2),
}
SHUFFLE: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (3, 8, 8),
    "stem_channels": 4,
    "stem_stride": 1,
    "widths": (8,),
    "repeats": (2,),
    "strides": (1,),
    "last_channels": 8,
}
FEW = ((1, 2), (3, 4))


class TestResNetContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return mixed_precision_resnet(**RESNET, precisions=((1, 2), (2, 4), (32, 32)), scales=(0.5, 1.0))

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        assert space.weighable == frozenset()
        return space.weighable


class TestJointContract(SupernetContract):
    """Blocks, channels and bits in one space."""

    samples = 2

    def make_space(self) -> SupernetSpace:
        return mixed_precision(space=ShuffleNetV2Channels(**SHUFFLE, scales=(0.6, 1.2)), precisions=FEW)

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        assert space.weighable == {"stage1.block1", "stage1.block2"}
        return space.weighable


def quantized(network: nn.Module) -> dict[str, QuantizedLayer]:
    return {path: module for path, module in network.named_modules() if isinstance(module, QuantizedLayer)}


def test_decisions_of_the_resnet() -> None:
    space = mixed_precision_resnet()
    names = [f"layer{stage}.{block}.precision" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert list(space.decisions) == names
    for decision in space.decisions.values():
        assert decision.options == ("W1A2", "W2A2", "W1A4", "W2A4", "W3A4", "W4A4")  # the pairs of SPOS
    assert space.segments() == tuple((name,) for name in names)
    with torch.device("meta"):
        network = space.build(Architecture(dict.fromkeys(names, "W2A4")))
    layers = quantized(network)
    assert len(layers) == 21  # torchvision's resnet18 has 20 convolutions and a linear layer
    clips = len(layers)
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 + clips  # published for resnet18
    ends = {path for path, layer in layers.items() if layer.precision == Precision(8, 8)}
    assert ends == {"conv1", "fc"}
    assert all(layers[path].scheme.weights == "symmetric" for path in ends)
    assert [path for path, layer in layers.items() if layer.signed] == ["conv1"]


def test_the_float32_resnet_computes_what_torchvision_does() -> None:
    models = import_torchvision("torchvision.models")
    space = mixed_precision_resnet(precisions=((2, 2), (32, 32)), ends=(32, 32), input_shape=(3, 64, 64))
    network = space.build(Architecture(dict.fromkeys(space.decisions, "W32A32"))).eval()
    assert not quantized(network)
    other = models.resnet18().eval()
    network.load_state_dict(other.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(x), other(x))


def test_only_what_was_drawn_has_gradients() -> None:
    """Each number of activation bits has its own clipping level; the others have no gradient at all."""
    space = mixed_precision_resnet(**RESNET)
    supernet = space.build_supernet()
    supernet(torch.randn(4, 1, 8, 8), Architecture(dict.fromkeys(space.decisions, "W2A4"))).sum().backward()
    clips = {name: parameter.grad for name, parameter in supernet.named_parameters() if ".clips." in name}
    assert {name.rpartition(".")[2] for name in clips} == {"2", "4"}
    for name, gradient in clips.items():
        assert (gradient is not None) == name.endswith(".4")


def test_weights_and_activations_are_on_their_grids() -> None:
    space = mixed_precision_resnet(**RESNET, precisions=PAIRS)
    for precision in ("W1A2", "W2A4", "W3A4"):
        network = space.build(Architecture(dict.fromkeys(space.decisions, precision))).eval()
        inputs: dict[nn.Module, Tensor] = {}

        def keep(module: Any, args: Any, _: Any, inputs: dict[nn.Module, Tensor] = inputs) -> None:
            inputs[module] = module.quantized_input(args[0])

        for layer in quantized(network).values():
            layer.register_forward_hook(keep)
        with torch.no_grad():
            network(torch.randn(16, 1, 8, 8))
            for layer in quantized(network).values():
                bits = layer.precision
                assert len(layer.quantized_weight(layer.layer.weight).unique()) <= 2**bits.weights * (
                    layer.layer.weight.shape[0] if layer.scheme.weights == "symmetric" else 1
                )
                assert len(inputs[layer].unique()) <= 2**bits.activations


def test_blocks_of_other_spaces() -> None:
    """The layers of a block have one decision; layers outside of blocks their own, but not the first and the last."""
    space = mixed_precision(space=shufflenet_v2(**SHUFFLE), precisions=FEW)
    names = ["stage1.block1", "stage1.block2"]
    assert set(space.decisions) == {*names, *(f"{name}.precision" for name in names), "last.0.precision"}
    values = {"stage1.block1": "xception", "stage1.block2": "shuffle5", "stage1.block1.precision": "W1A2"}
    values |= {"stage1.block2.precision": "W3A4", "last.0.precision": "W1A2"}
    layers = quantized(space.build(Architecture(values)))
    assert str(layers["stem.0"].precision) == str(layers["classifier"].precision) == "W8A8"
    assert {str(each.precision) for path, each in layers.items() if path.startswith("stage1.block2")} == {"W3A4"}
    assert str(layers["last.0"].precision) == "W1A2"
    # Inputs of the 1x1 convolutions after a depthwise one have both signs: nothing but normalisation is between.
    signed = {path for path, layer in layers.items() if layer.signed}
    assert signed == {
        "stem.0",
        *(f"stage1.block1.projection.{place}" for place in (2,)),
        *(f"stage1.block1.main.{place}" for place in (2, 7, 12)),
        "stage1.block2.main.5",
    }


@pytest.mark.parametrize("inner", ["signal", "token"])
def test_sequences_are_quantised_too(inner: str) -> None:
    settings: dict[str, Any] = {"num_classes": 2, "widths": (8,), "repeats": (1,), "strides": (2,)}
    space = mixed_precision(
        space=signal_cnn(**settings, input_shape=(1, 16))
        if inner == "signal"
        else token_cnn(**settings, input_shape=(16,)),
        precisions=((2, 4), (8, 8)),
    )
    architecture = Architecture({name: decision.options[0] for name, decision in space.decisions.items()})
    x = torch.randn(2, 1, 16) if inner == "signal" else torch.randint(0, 256, (2, 16))
    network = space.build(architecture)
    assert network(x).shape == (2, 2)
    assert {type(layer.layer) for layer in quantized(network).values()} == {nn.Conv1d, nn.Linear}


def test_spaces_can_be_sent_to_workers() -> None:
    space = mixed_precision(space=shufflenet_v2(**SHUFFLE), precisions=FEW)
    assert pickle.loads(pickle.dumps(space)).decisions == space.decisions  # noqa: S301 - what was just written


def test_restricting_keeps_parameters_and_removes_unused_clipping_levels() -> None:
    space = mixed_precision_resnet(**RESNET)
    supernet = space.build_supernet()
    before = dict(supernet.named_parameters())
    supernet.restrict({name: ["W1A2", "W2A2"] for name in space.decisions})
    after = dict(supernet.named_parameters())
    assert {name for name in before if name not in after} == {name for name in before if name.endswith("clips.4")}
    assert all(after[name] is before[name] for name in after)


def test_a_precision_takes_no_weights() -> None:
    space = mixed_precision_resnet(**RESNET, precisions=FEW)
    selection: dict[str, Any] = {name: Weighted(("W1A2", "W3A4"), torch.ones(2)) for name in space.decisions}
    with pytest.raises(SpaceError, match=r"layer1.0.*takes values only"):
        space.build_supernet()(torch.randn(2, 1, 8, 8), selection)


def shuffle(**settings: Any) -> SupernetSpace:
    return mixed_precision(space=shufflenet_v2(**SHUFFLE), **settings)


def resnet(**settings: Any) -> SupernetSpace:
    return mixed_precision_resnet(**{**RESNET, **settings})


@pytest.mark.parametrize("make", [shuffle, resnet])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precisions": ((9, 4),)}, "weights cannot have 9 bits.* 1 to 8 bits, and 32 means float32"),
        ({"precisions": ((4, 0),)}, "activations cannot have 0 bits"),
        ({"precisions": ((2, 2), (4, 4), (2, 2))}, "W2A2 occurs twice"),
        ({"precisions": ()}, "at least one pair"),
        ({"ends": (16, 8)}, "weights cannot have 16 bits"),
        ({"ends": (8, 1)}, "values of both signs"),
        ({"initial_clip": 0.0}, "initial_clip must be a number above 0"),
        ({"initial_clip": float("inf")}, "initial_clip must be a number above 0"),
    ],
)
def test_settings_of_bits_that_are_refused(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": (0.2, 1.0)}, "stage 1: the scale 0.2 gives 0 of 4 channels"),
        ({"scales": (1.0, 0.5)}, "scales must be increasing"),
        ({"scales": ()}, "scales must be increasing"),
        ({"precisions": ((2, 2),)}, "nothing to search"),
        ({"widths": (4,)}, "one number for each stage"),
        ({"repeats": (1, 0)}, "repeats must be at least 1"),
        ({"stem": "imagenet", "input_shape": (1, 7, 7)}, "7x7 are too small to be divided by 8"),
    ],
)
def test_settings_of_the_resnet_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        resnet(**settings)


def test_one_bit_for_inputs_of_both_signs_is_refused() -> None:
    """Blocks of ShuffleNetV2 have a convolution after a normalisation; those of the ResNet follow a ReLU."""
    with pytest.raises(SpaceError, match=r"stage1\.block1\.shuffle3.* values of both signs, which one bit cannot hold"):
        shuffle(precisions=((2, 1), (2, 2)))
    assert resnet(precisions=((2, 1), (2, 2))).size == 4


def test_a_space_without_layers_is_refused() -> None:
    space = ModuleSpace(lambda: nn.Sequential(OneOf([nn.ReLU(), nn.Tanh()])), input_shape=(3,))
    with pytest.raises(SpaceError, match="no layer that can be quantised"):
        mixed_precision(space=space)


@pytest.mark.parametrize("name", ["2w4a", "W2", "W2A4 ", "W02A16"])
def test_names_of_precisions_that_are_refused(name: str) -> None:
    with pytest.raises(SpaceError):
        Precision.parse(name)


def test_blocks_that_share_weights_in_float_are_separate_when_quantised() -> None:
    space = mixed_precision(space=shufflenet_v2(**SHUFFLE, shared=True), precisions=FEW)
    separate = mixed_precision(space=shufflenet_v2(**SHUFFLE), precisions=FEW)
    assert space.decisions == separate.decisions
    supernet = space.build_supernet().eval()
    assert supernet.state_dict().keys() == separate.build_supernet().state_dict().keys()
    architecture = space.sample(random.Random(0))
    x = torch.randn(2, *space.input_shape)
    assert torch.equal(supernet(x, architecture), supernet.extract(architecture)(x))
    assert space.build(architecture).state_dict().keys() == separate.build(architecture).state_dict().keys()
