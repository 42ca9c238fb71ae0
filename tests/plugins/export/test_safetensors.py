from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model
from torch import Tensor, nn

from automl_nas.errors import DamagedError, DataError, RunFailedError
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.testing.exporters import ExporterContract, fresh_network
from automl_nas_export.safetensors_format import SafetensorsExporter, load_safetensors

Deliver = Callable[[str], Delivery]


class TestContract(ExporterContract):
    def make(self) -> Exporter:
        return SafetensorsExporter()

    def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor]:
        return load_safetensors(fresh_network(), paths[0]).eval()


def test_the_description_holds_architecture_shape_and_metrics(deliver: Deliver, tmp_path: Path) -> None:
    _, description = SafetensorsExporter().export(deliver("shuffled"), tmp_path)
    assert json.loads(description.read_text(encoding="utf-8")) == {
        "architecture": {"block": "a", "edges": ["x", "y"]},
        "input_shape": [4, 6, 6],
        "description": {"accuracy": 0.75},
    }


@pytest.mark.parametrize("name", ["tied", "shuffled", "graph_module"])
def test_every_tensor_comes_back_bit_for_bit(deliver: Deliver, name: str, tmp_path: Path) -> None:
    delivery = deliver(name)
    state = delivery.network.state_dict()
    weights, _ = SafetensorsExporter().export(delivery, tmp_path)
    other = deliver(name).network
    assert not all(torch.equal(value, state[key]) for key, value in other.state_dict().items())
    load_safetensors(other, weights)
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_a_tied_tensor_is_stored_once(deliver: Deliver, tmp_path: Path) -> None:
    weights, _ = SafetensorsExporter().export(deliver("tied"), tmp_path)
    assert set(load_file(weights)) == {"first.weight", "upper", "transposed"}


def test_the_library_itself_loads_tied_weights(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        network[2].weight = network[0].weight
        return network

    network, other = tied(), tied()
    weights, _ = SafetensorsExporter().export(replace(deliver_nothing(), network=network), tmp_path)
    assert load_model(other, weights) == (set(), [])
    assert other[2].weight is other[0].weight
    assert torch.equal(other[0].weight, network[0].weight)


def test_the_same_network_gives_the_same_bytes(deliver: Deliver, tmp_path: Path) -> None:
    delivery = deliver("tied")
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append([path.read_bytes() for path in SafetensorsExporter().export(delivery, tmp_path / name)])
    assert files[0] == files[1]


def test_nan_and_negative_zero_are_values_like_others(tmp_path: Path) -> None:
    network = nn.Linear(2, 1, bias=False).eval()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[float("nan"), -0.0]]))
    weights, _ = SafetensorsExporter().export(Delivery(network, deliver_nothing().architecture, (2,)), tmp_path)
    stored = load_file(weights)["weight"]
    assert stored.isnan().tolist() == [[True, False]]
    assert stored.signbit().tolist()[0][1] is True


def deliver_nothing() -> Delivery:
    return Delivery(nn.Identity(), TestContract().delivery().architecture, (1,))


def test_a_state_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

    with pytest.raises(RunFailedError, match="_extra_state"):
        SafetensorsExporter().export(replace(deliver_nothing(), network=Odd()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path: Path) -> None:
    delivery = TestContract().delivery()
    weights, _ = SafetensorsExporter().export(delivery, tmp_path)
    wider = nn.Sequential(nn.Conv2d(3, 9, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(9))
    before = {key: value.clone() for key, value in wider.state_dict().items()}
    with pytest.raises(DataError, match=r"another network \(1\d differences.*architecture.json"):
        load_safetensors(wider, weights)
    assert all(torch.equal(value, before[key]) for key, value in wider.state_dict().items())
    with pytest.raises(DataError, match=r"'0.weight' is \(8, 3, 3, 3\) float32 in the file and \(8, 3, 3, 3\) float64"):
        load_safetensors(fresh_network().double(), weights)


def test_a_missing_and_a_damaged_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_safetensors(fresh_network(), tmp_path / "model.safetensors")
    weights, _ = SafetensorsExporter().export(TestContract().delivery(), tmp_path)
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(DamagedError, match=r"model\.safetensors is not a complete"):
        load_safetensors(fresh_network(), weights)


def test_what_is_read_back_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from automl_nas_export import safetensors_format

    original = safetensors_format.read_safetensors

    def flipped(file: Path) -> dict[str, Tensor]:
        tensors = original(file)
        tensors["0.weight"].view(torch.int32)[0, 0, 0, 0] ^= 1
        return tensors

    monkeypatch.setattr(safetensors_format, "read_safetensors", flipped)
    with pytest.raises(RunFailedError, match=r"1 of 864 bytes of '0\.weight'"):
        SafetensorsExporter().export(TestContract().delivery(), tmp_path)
    assert list(tmp_path.iterdir()) == []
