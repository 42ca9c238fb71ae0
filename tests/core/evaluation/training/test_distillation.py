"""Distillation against closed forms, and initial weights."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas import ModuleSpace, OneOf
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.distillation import Distillation, check_teacher, distillation_loss
from automl_nas.evaluation.training.fit import Fit
from automl_nas.evaluation.training.initial_weights import InitialWeights
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.streams import stream_seed
from automl_nas.testing.toys import ToyTask

SEED = 4


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    shares: np.ndarray = np.exp(logits / temperature)
    return shares / shares.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 4)])
def test_the_loss_is_the_kl_divergence_at_a_temperature(shape: tuple[int, ...], temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    p, q = (softmax(logits.double().numpy(), temperature) for logits in (teacher, student))
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    assert distillation_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)
    assert distillation_loss(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-6)


def test_two_classes_in_closed_form() -> None:
    # Teacher: shares 3/4 and 1/4; network: 1/2 and 1/2.
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert distillation_loss(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-6)
    loss = Distillation(nn.Identity(), 0.25, 1.0).loss(torch.tensor(2.0), student, teacher)
    assert loss.item() == pytest.approx(0.75 * 2 + 0.25 * expected, rel=1e-6)


def network(seed: int, width: int = 8) -> nn.Module:
    runtime = Runtime(device="cpu")
    with runtime.seeded(seed, "init"):
        return runtime.place(
            nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(4 * width, 3))
        )


def test_a_training_with_a_teacher_equals_a_loop_written_by_hand() -> None:
    task, runtime = ToyTask(), Runtime(device="cpu")
    teacher = network(9, width=16)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    recipe = Recipe(epochs=1, learning_rate=0.1, schedule="constant", weight_decay=0.0, momentum=0.0)
    training = Fit(network(SEED), task, runtime, recipe, seed=SEED, distillation=Distillation(teacher, 0.7, 2.0))
    training.advance(6)

    net = network(SEED).train()
    for inputs, targets in task.batches("train", 0, stream_seed(SEED, "data")):
        x = runtime.tensor(inputs)
        outputs = net(x)
        with torch.no_grad():
            taught = teacher.eval()(x)
        divergence = F.kl_div(
            F.log_softmax(outputs / 2, 1), F.softmax(taught / 2, 1), reduction="batchmean", log_target=False
        )
        loss = 0.3 * F.cross_entropy(outputs, targets) + 0.7 * 4 * divergence
        net.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for p in net.parameters():
                assert p.grad is not None
                p -= 0.1 * p.grad
    for a, b in zip(training.network.parameters(), net.parameters(), strict=True):
        # The same formula in another order of operations: some float32 roundings apart.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_a_teacher_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"shape \(2, 5\), and those of a network of the space \(2, 3\)"):
        check_teacher(torch.zeros(2, 3), torch.zeros(2, 5), "final.distill.teacher")
    with pytest.raises(ConfigurationError, match=r"logits of classes.*\(2, 1\)"):
        check_teacher(torch.zeros(2, 1), torch.zeros(2, 1), "final.distill.teacher")
    with pytest.raises(ConfigurationError, match="shape tuple"):
        check_teacher(torch.zeros(2, 3), (torch.zeros(2, 3),), "final.distill.teacher")


def saved(tensors: dict[str, Tensor], folder: Path) -> str:
    path = folder / "weights.safetensors"
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


def test_initial_weights_are_loaded_by_name(tmp_path: Path) -> None:
    donor, net = network(1), network(2)
    file = saved({**donor.state_dict(), "of.another.option": torch.zeros(2)}, tmp_path)
    InitialWeights(file).load_into(net)
    assert all(torch.equal(tensor, donor.state_dict()[name]) for name, tensor in net.state_dict().items())

    head = network(2).state_dict()["3.weight"]
    file = saved({**donor.state_dict(), "3.weight": torch.zeros(1000, 32)}, tmp_path)
    net = network(2)
    with pytest.raises(ConfigurationError, match=r"3\.weight has the shape \(1000, 32\) there and \(3, 32\)"):
        InitialWeights(file).load_into(net)
    InitialWeights(file, strict=False).load_into(net)
    assert torch.equal(net.state_dict()["3.weight"], head)
    assert torch.equal(net.state_dict()["0.weight"], donor.state_dict()["0.weight"])


def test_files_that_do_not_hold_the_weights_are_refused(tmp_path: Path) -> None:
    net = network(2)
    with pytest.raises(ConfigurationError, match="cannot read"):
        InitialWeights(str(tmp_path / "missing.safetensors")).load_into(net)
    (tmp_path / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigurationError, match=r"as safetensors: .*; convert a file of torch\.save with"):
        InitialWeights(str(tmp_path / "weights.safetensors")).load_into(net)
    with pytest.raises(ConfigurationError, match=r"it is a folder; name the file: of a run, .*/weights\.safetensors"):
        InitialWeights(str(tmp_path)).load_into(net)
    file = saved({"other": torch.zeros(2)}, tmp_path)
    with pytest.raises(ConfigurationError, match="0 of 9 tensors fit"):
        InitialWeights(file, strict=False).load_into(net)


def test_weights_that_a_factory_loads_are_kept() -> None:
    """Also in the supernet and in what is extracted from it."""
    pretrained = nn.Conv2d(1, 4, 3).state_dict()

    def factory() -> nn.Module:
        stem = nn.Conv2d(1, 4, 3)
        stem.load_state_dict(pretrained)
        return nn.Sequential(stem, OneOf({"a": nn.ReLU(), "b": nn.Conv2d(4, 4, 1)}), nn.Flatten(), nn.Linear(4 * 4, 3))

    space = ModuleSpace(factory, input_shape=(1, 4, 4))
    architecture = space.sample(random.Random(0))
    for net in (space.build(architecture), space.build_supernet().extract(architecture)):
        assert torch.equal(net.state_dict()["0.weight"], pretrained["weight"])
        assert torch.equal(net.state_dict()["0.bias"], pretrained["bias"])
