"""The auxiliary head: NASNet's, on the right maps, and no part of what is delivered."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.fit import Fit
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.architecture import Architecture
from automl_nas.testing.toys import ToyTask
from automl_nas_costs.models import Flops, Params
from automl_nas_dso.space import DsoSpace
from automl_nas_dso.space.auxiliary_head import auxiliary_head


def make(*, auxiliary: bool, size: int = 8) -> DsoSpace:
    return DsoSpace(
        num_classes=3,
        input_shape=(1, size, size),
        width=4,
        blocks=(1, 1),
        levels=2,
        operations=("sep3", "max3"),
        variant="final",
        auxiliary=auxiliary,
    )


def everything(space: DsoSpace) -> Architecture:
    return Architecture({name: decision.options for name, decision in space.decisions.items()})


def test_the_head_is_nasnets() -> None:
    head = auxiliary_head(192, (8, 8), 10)
    # Counted by hand: 1x1 convolution and BN, 2x2 convolution and BN, linear layer with bias.
    expected = 192 * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + 768 * 10 + 10
    assert sum(p.numel() for p in head.parameters()) == expected
    (pool,) = (module for module in head if isinstance(module, nn.AvgPool2d))
    assert (pool.kernel_size, pool.stride) == ((5, 5), (3, 3))


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (3, 3), (4, 7), (8, 8), (9, 14)])
def test_maps_of_any_size_fit(size: tuple[int, int]) -> None:
    assert auxiliary_head(4, size, 3)(torch.randn(2, 4, *size)).shape == (2, 3)


def test_costs_weights_and_export_know_nothing_of_it() -> None:
    plain, headed = make(auxiliary=False), make(auxiliary=True)
    architecture = everything(plain)
    for model in (Flops, Params):
        assert model(plain).breakdown(architecture) == model(headed).breakdown(architecture)
    network, other = headed.build(architecture), plain.build(architecture)
    assert set(network.state_dict()) == set(other.state_dict())
    other.load_state_dict(network.state_dict())
    x = torch.randn(2, 1, 8, 8)
    exported = torch.export.export(network.eval(), (x,)).module()
    assert torch.equal(network(x), other.eval()(x))
    assert torch.allclose(exported(x), network(x), atol=1e-6)  # other kernels may round differently
    assert not any("head.0" in name for name in exported.state_dict())


def test_in_training_it_reads_the_maps_after_the_last_reduction() -> None:
    space = make(auxiliary=True)
    network = space.build(everything(space))
    form = network.training_form()  # type: ignore[operator]
    assert form.network is network
    maps: list[torch.Tensor] = []
    network.get_submodule("stage2.reduction").register_forward_hook(lambda m, args, out: maps.append(out))
    outputs, auxiliary = form(torch.randn(4, 1, 8, 8))
    assert outputs.shape == auxiliary.shape == (4, 3)
    assert torch.equal(auxiliary, form.head(maps[0]))  # in training, BN normalises by the batch alone
    assert form.eval()(torch.randn(4, 1, 8, 8)).shape == (4, 3)


def test_its_loss_trains_what_lies_before_it_only() -> None:
    space, runtime = make(auxiliary=True, size=4), Runtime(device="cpu")
    task = ToyTask(input_shape=(1, 4, 4), train=32, batch_size=16)

    def trained(weight: float) -> dict[str, torch.Tensor]:
        with runtime.seeded(0, "build"):
            network = runtime.place(space.build(everything(space)))
        fit = Fit(network, task, runtime, Recipe(epochs=1, auxiliary=weight), seed=1)
        fit.advance(1)
        return network.state_dict()

    with_it, without = trained(0.4), trained(0.0)
    moved = {name for name in with_it if not torch.equal(with_it[name], without[name])}
    assert "stem.0.0.weight" in moved
    assert any(name.startswith("stage2.reduction") for name in moved)
    assert not any(name.startswith(("stage2.block1", "head")) for name in moved)
