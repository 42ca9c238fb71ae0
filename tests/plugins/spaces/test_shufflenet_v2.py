from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SupernetSpace
from automl_nas.testing.supernets import SupernetContract
from automl_nas_spaces.blocks import ProjectionBlock, ShuffleBlock
from automl_nas_spaces.outline import Outline
from automl_nas_spaces.shufflenet_v2 import CANDIDATES, from_codes, shufflenet_v2, to_codes

SMALL: dict[str, Any] = {
    "num_classes": 5,
    "input_shape": (1, 8, 8),
    "stem_channels": 8,
    "stem_stride": 1,
    "widths": (16, 24),
    "repeats": (2, 2),
    "strides": (1, 2),
    "last_channels": 32,
}


class TestSearchVariant(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return shufflenet_v2(**SMALL)


def test_extraction_is_exact_with_affine_normalisation_and_scaled_widths() -> None:
    space = shufflenet_v2(**SMALL, variant="final", channel_scales=(0.6, 1.0, 1.6, 0.2))
    architecture = from_codes(space, [3, 1, 3, 2])
    generator = torch.Generator().manual_seed(0)
    supernet = space.build_supernet()
    for parameter in supernet.parameters():  # weights and biases of BN start at 1 and 0, which would hide a mix-up
        parameter.data.normal_(generator=generator)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    for training in (True, False):
        network = supernet.train(training).extract(architecture)
        outputs = []
        for run in (network, lambda x: supernet(x, architecture)):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # of dropout
                outputs.append(run(x))
        assert torch.equal(*outputs)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_even_channels_pass_and_odd_ones_go_through_the_main_branch(memory_format: torch.memory_format) -> None:
    numbers = torch.arange(6.0).reshape(1, 6, 1, 1).expand(2, 6, 3, 3).contiguous(memory_format=memory_format)
    assert ShuffleBlock(Times(10.0))(numbers)[1, :, 2, 2].tolist() == [0, 2, 4, 10, 30, 50]


def test_everything_goes_through_both_branches_of_a_projection_block() -> None:
    block = ProjectionBlock(projection=Times(1.0), main=Times(10.0))
    assert block(torch.arange(3.0).reshape(1, 3, 1, 1)).flatten().tolist() == [0, 1, 2, 0, 10, 20]


def test_the_layers_of_the_candidates() -> None:
    space = shufflenet_v2(**SMALL)
    network = space.build(from_codes(space, [0, 1, 3, 3]))

    def kinds(path: str) -> list[object]:
        names = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu"}
        layers: list[object] = []
        for layer in network.get_submodule(path):  # type: ignore[attr-defined]
            if isinstance(layer, nn.Conv2d):
                depthwise = layer.groups == layer.in_channels > 1
                layers.append((layer.kernel_size[0], layer.out_channels, layer.stride[0], depthwise))
                assert layer.bias is None
                assert layer.padding == (layer.kernel_size[0] // 2,) * 2
            else:
                layers.append(names[type(layer)])
        return layers

    # Stage 1 widens 8 to 16 at stride 1: a projection of the 8, and 8 more from the main branch, 16 // 2 wide inside.
    assert kinds("stage1.block1.main") == [
        (1, 8, 1, False), "bn", "relu", (3, 8, 1, True), "bn", (1, 8, 1, False), "bn", "relu",
    ]  # fmt: skip
    assert kinds("stage1.block1.projection") == [(3, 8, 1, True), "bn", (1, 8, 1, False), "bn", "relu"]
    assert isinstance(network.get_submodule("stage1.block2"), ShuffleBlock)
    assert kinds("stage1.block2.main") == [
        (1, 8, 1, False), "bn", "relu", (5, 8, 1, True), "bn", (1, 8, 1, False), "bn", "relu",
    ]  # fmt: skip
    # Xception: the first depthwise convolution has the stride; 24 - 16 = 8 channels go out of the main branch.
    assert kinds("stage2.block1.main") == [
        (3, 16, 2, True), "bn", (1, 12, 1, False), "bn", "relu",
        (3, 12, 1, True), "bn", (1, 12, 1, False), "bn", "relu",
        (3, 12, 1, True), "bn", (1, 8, 1, False), "bn", "relu",
    ]  # fmt: skip
    assert kinds("stage2.block1.projection") == [(3, 16, 2, True), "bn", (1, 16, 1, False), "bn", "relu"]
    assert kinds("stage2.block2.main")[0] == (3, 12, 1, True)


def test_batch_normalisation_is_affine_in_the_final_variant_only() -> None:
    for variant, affine in (("search", False), ("final", True)):
        supernet = shufflenet_v2(**SMALL, variant=variant).build_supernet()
        norms = [module for module in supernet.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) > 50
        assert {norm.affine for norm in norms} == {affine}


def test_search_and_final_have_the_same_architectures() -> None:
    search, final = (shufflenet_v2(**SMALL, variant=variant) for variant in ("search", "final"))
    assert dict(search.decisions) == dict(final.decisions)


def test_codes() -> None:
    space = shufflenet_v2(**SMALL)
    architecture = from_codes(space, [2, 3, 0, 1])
    assert architecture == Architecture(
        {
            "stage1.block1": "shuffle7",
            "stage1.block2": "xception",
            "stage2.block1": "shuffle3",
            "stage2.block2": "shuffle5",
        }
    )
    assert to_codes(space, architecture) == [2, 3, 0, 1]
    # The order of names in a file does not matter.
    assert to_codes(space, Architecture(dict(reversed(architecture.to_dict().items())))) == [2, 3, 0, 1]
    assert all(decision.options == CANDIDATES for decision in space.decisions.values())
    with pytest.raises(SpaceError, match=r"a code must be 0 to 3 .*, not 4"):
        from_codes(space, [0, 4, 0, 0])
    with pytest.raises(SpaceError):
        from_codes(space, [0, 0, 0])
    with pytest.raises(SpaceError, match="lacks"):
        to_codes(space, Architecture({"stage1.block1": "xception"}))


def test_candidates_share_a_prefix_block_by_block() -> None:
    assert shufflenet_v2(**SMALL).segments() == (
        ("stage1.block1",),
        ("stage1.block2",),
        ("stage2.block1",),
        ("stage2.block2",),
    )


def test_dropout_stands_before_the_classifier_and_works_in_training_only() -> None:
    space = shufflenet_v2(**(SMALL | {"dropout": 0.5}))
    network = space.build(from_codes(space, [0] * 4))
    pooled: list[Tensor] = []
    classified: list[Tensor] = []
    network.get_submodule("flatten").register_forward_hook(lambda _, __, output: pooled.append(output))
    network.get_submodule("classifier").register_forward_hook(lambda _, inputs, __: classified.append(inputs[0]))
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network.train()(x)
        network.eval()(x)
    assert torch.equal(classified[1], pooled[1])
    # Of 64 x 32 features half are dropped, give or take 5 standard deviations of 0.5 / sqrt(2048); the others double.
    dropped = (classified[0] == 0) & (pooled[0] != 0)
    assert abs(dropped.float().mean().item() - 0.5) < 0.055
    assert torch.equal(classified[0], torch.where(dropped, 0.0, 2.0 * pooled[0]))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"strides": (2, 2), "input_shape": (1, 2, 8)},
            r"images of 2x8 are too small for 2 strides of 2.*halved 1 times",
        ),
        ({"input_shape": (1, 0, 8)}, "at least one pixel, not 0x8"),
        ({"widths": (16, 26)}, r"stage 2: a width must be a multiple of 4.*not 26"),
        ({"widths": (16, 16)}, r"stage 2: .* the 16 input channels.* greater than 16, not 16"),
        ({"widths": (24, 16)}, r"stage 2: .* the 24 input channels.* not 16"),
        ({"widths": (16,)}, "not 1, 2 and 2"),
        ({"widths": (), "repeats": (), "strides": ()}, "not 0, 0 and 0"),
        ({"strides": (1, 3)}, "a stride must be 1 or 2, not 3"),
        ({"stem_stride": 4}, "a stride must be 1 or 2, not 4"),
        ({"repeats": (2, 0)}, "at least one block, not 0"),
        ({"channel_scales": (1.0, 1.0)}, "each of the 4 blocks, not 2"),
        ({"channel_scales": (1.0, 0.1, 1.0, 1.0)}, r"block 2 of stage 1: the channel scale 0\.1"),
        ({"dropout": 1.0}, "dropout must be a probability"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"last_channels": 0}, "last_channels must be at least 1"),
    ],
)
def test_settings_that_contradict_each_other(change: dict[str, Any], match: str) -> None:
    with pytest.raises(SpaceError, match=match):
        shufflenet_v2(**(SMALL | change))


def test_equal_widths_at_stride_1_need_no_projection() -> None:
    space = shufflenet_v2(**(SMALL | {"stem_channels": 16, "widths": (16, 24)}))
    network = space.build(from_codes(space, [0] * 4))
    assert isinstance(network.get_submodule("stage1.block1"), ShuffleBlock)
    assert isinstance(network.get_submodule("stage2.block1"), ProjectionBlock)


def outline(**settings: Any) -> Outline:
    others = {"num_classes": 2, "last_channels": 8, "dropout": 0.0, "variant": "search", "channel_scales": None}
    return Outline(**{**others, **settings})


def test_the_smallest_images_are_exactly_those_that_can_be_halved_so_often() -> None:
    settings: dict[str, Any] = {
        "stem_channels": 8, "stem_stride": 2, "widths": (16, 24), "repeats": (1, 1), "strides": (2, 2),
    }  # fmt: skip
    # A convolution of stride 2 gives ceil(n / 2): 5 -> 3 -> 2 -> 1 has three halvings, 4 -> 2 -> 1 has two.
    assert len(outline(input_shape=(3, 5, 9), **settings).places) == 2
    with pytest.raises(SpaceError, match="halved 2 times"):
        outline(input_shape=(3, 4, 9), **settings)


def test_scaled_widths_are_truncated_as_in_the_paper() -> None:
    scales = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
    scaled = outline(
        input_shape=(3, 8, 8), stem_channels=16, stem_stride=1, widths=(64,), repeats=(8,), strides=(2,),
        channel_scales=scales,
    )  # fmt: skip
    assert [place.mid for place in scaled.places] == [6, 12, 19, 25, 32, 38, 44, 51]


class TestSharedCandidates(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return shufflenet_v2(**SMALL, shared=True)


def test_shared_candidates_use_the_centres_of_the_largest_kernels() -> None:
    separate, shared = (shufflenet_v2(**SMALL, shared=setting).build_supernet() for setting in (False, True))
    lacking = separate.state_dict().keys() - shared.state_dict().keys()
    assert {name.split(".")[3] for name in lacking} == {"shuffle3", "shuffle5"}
    # Of each block two candidates, with three convolutions in the main branch, and two in that of a projection.
    assert len(lacking) == 2 * (4 * 3 + 2 * 2)
    assert sum(p.numel() for p in shared.parameters()) == sum(
        p.numel() for name, p in separate.named_parameters() if name not in lacking
    )
    space = shufflenet_v2(**SMALL, shared=True)
    small, large = (shared.extract(from_codes(space, [code] * 4)).get_submodule("stage2.block1") for code in (1, 2))
    for path in ("main.3", "projection.0"):
        kernels, whole = (block.get_submodule(path).weight for block in (small, large))
        assert torch.equal(kernels, whole[:, :, 1:6, 1:6])  # type: ignore[index, arg-type]
