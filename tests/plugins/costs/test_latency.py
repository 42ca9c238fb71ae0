"""The cost model `latency_ms`: export, digests of graphs, cached measurements, and networks that cannot be measured."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.testing.costs import CostModelContract
from automl_nas.testing.toys import ToySpace
from automl_nas_costs.latency import model as latency
from automl_nas_costs.latency.cache import LatencyCache, key, user_folder
from automl_nas_costs.latency.export import export
from automl_nas_costs.latency.graphs import digest, fixed
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.latency.options import LatencyOptions

Wrap = Callable[..., SearchSpace]
ONLY = Architecture({"network": 0})


def quick(space: SearchSpace, **settings: Any) -> LatencyMs:
    return LatencyMs(space, **{"rounds": 5, "burst_ms": 0, "warmup_ms": 0, "round_ms": 0, "cache": None} | settings)


def convolutions(width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 2),
    )


class Applied(nn.Module):
    """A module whose forward is a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class TestLatencyMs(CostModelContract):
    adds_up = True
    repeatable = False
    other_dtype = False  # ONNX Runtime has no convolution of float64
    samples = 2

    def make_space(self) -> SearchSpace:
        return ToySpace(blocks=2)

    def make(self, space: SearchSpace) -> LatencyMs:
        return quick(space)


# --- Exporting ------------------------------------------------------------------------------------------------------


def test_the_exported_network_computes_the_same_and_is_left_as_it_was() -> None:
    network = convolutions().train()
    network[0][1].eval()  # type: ignore[index]
    modes = [module.training for module in network.modules()]
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    model = export(network, (3, 9, 9), batch=2)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        # Two sums of 27 and 4 float32 numbers of order one.
        torch.testing.assert_close(torch.from_numpy(output), network.eval()(x), rtol=1e-4, atol=1e-5)


def test_several_inputs() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y.mean(1, keepdim=True)

    session = onnxruntime.InferenceSession(export(Two(), (1, 4), (6, 4), batch=3), providers=["CPUExecutionProvider"])
    assert [item.shape for item in session.get_inputs()] == [[3, 1, 4], [3, 6, 4]]


def test_a_branch_on_a_shape_is_harmless() -> None:
    """A tracer warns of a branch on a shape as of a branch on a value."""
    network = Applied(lambda x: x.relu() if x.shape[1] > 2 else x)
    model = onnx.load_from_string(export(network, (3,)))
    assert [node.op_type for node in model.graph.node] == ["Relu"]


def test_data_dependent_control_flow_is_refused_with_operation_and_module() -> None:
    network = nn.Sequential(nn.Linear(3, 3), Applied(lambda x: x.relu() if x.sum() > 0 else x))
    with pytest.raises(SpaceError, match=r"branches on the value of a tensor \(operation aten\..* in module '1'\)"):
        export(network, (3,))


def test_an_output_of_unknown_shape_is_refused() -> None:
    network = nn.Sequential(Applied(lambda x: x[x > 0].unsqueeze(0) if float(x.sum()) > -1e9 else x))
    with pytest.raises(SpaceError, match=r"module '0'.*depends on the data"):
        export(network, (3,))


@pytest.mark.slow
def test_an_operation_that_onnx_lacks_is_named_with_its_module() -> None:
    network = nn.Sequential(nn.Linear(4, 16), nn.Unflatten(1, (4, 4)), Applied(lambda x: torch.linalg.eigvalsh(x)))
    with pytest.raises(SpaceError, match=r"ONNX cannot express the operation '\w*eig\w*', called in module '2'"):
        export(network, (4,))


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"input of shape \(1, 3, 0, 8\): every dimension must be 1 or more"):
        export(convolutions(), (3, 0, 8))


def test_an_input_that_does_not_fit_is_named() -> None:
    with pytest.raises(SpaceError, match=r"cannot be run on an input of shape \(1, 4, 8, 8\) \(module '0\.0'\)"):
        export(convolutions(), (4, 8, 8))


# --- ONNX files -----------------------------------------------------------------------------------------------------


def relu(shape: list[Any], kind: int = TensorProto.FLOAT) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def test_a_free_batch_is_fixed() -> None:
    model = onnx.load_from_string(fixed(relu(["batch", 3]), 5))
    assert [item.dim_value for item in model.graph.input[0].type.tensor_type.shape.dim] == [5, 3]
    assert digest(fixed(relu(["batch", 3]), 5)) == digest(relu([5, 3])) != digest(relu([4, 3]))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (["n", 3, "height"], r"dimension 2 of the input 'x' has no fixed size \('height'\).*fixed shape"),
        ([1, 0], "dimension 1 of the input 'x' is 0"),
        ([2, 3], "the input 'x' has the fixed batch 2, not 1; set batch: 2"),
    ],
)
def test_shapes_that_cannot_be_measured(shape: list[Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        fixed(relu(shape), 1)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    space = ToySpace()
    with pytest.raises(SpaceError, match=r"gone.onnx cannot be read: No such file"):
        quick(space).measure_files([tmp_path / "gone.onnx"])
    (tmp_path / "text.onnx").write_text("this is not a protocol buffer")
    with pytest.raises(SpaceError, match=r"text.onnx is not an ONNX model"):
        quick(space).measure_files([tmp_path / "text.onnx"])
    (tmp_path / "integers.onnx").write_bytes(relu([1, 3], TensorProto.STRING))
    with pytest.raises(SpaceError, match=r"integers.onnx cannot be measured: "):
        quick(space).measure_files([tmp_path / "integers.onnx"])


def test_files_are_measured(tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    files[0].write_bytes(relu(["n", 3]))
    files[1].write_bytes(export(convolutions(), (3, 8, 8)))
    measurements = quick(ToySpace()).measure_files(files)
    assert len(measurements) == 2
    assert all(0 < item.low <= item.value <= item.high for item in measurements)


# --- Recognising graphs ---------------------------------------------------------------------------------------------


def test_equal_networks_have_equal_digests_and_others_do_not() -> None:
    def made(*layers: nn.Module) -> str:
        return digest(export(nn.Sequential(*layers), (4, 8, 8)))

    reference = made(nn.Conv2d(4, 4, 3), nn.ReLU())
    assert made(nn.Conv2d(4, 4, 3), nn.ReLU()) == reference  # other weights
    assert digest(export(nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3)), nn.ReLU()), (4, 8, 8))) == reference  # names
    others = [
        made(nn.Conv2d(4, 4, 3)),
        made(nn.Conv2d(4, 4, 3), nn.Sigmoid()),
        made(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
        made(nn.Conv2d(4, 4, 3, dilation=2), nn.ReLU()),
        made(nn.Conv2d(4, 4, 3, bias=False), nn.ReLU()),
        made(nn.Conv2d(4, 5, 3), nn.ReLU()),
        made(nn.ReLU(), nn.Conv2d(4, 4, 3)),
        digest(export(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), (4, 8, 9))),
        digest(export(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), (4, 8, 8), batch=2)),
    ]
    assert len({reference, *others}) == len(others) + 1


def test_digests_know_how_nodes_are_connected() -> None:
    first = digest(export(Applied(lambda x: x.relu() - x.sigmoid()), (4,)))
    assert digest(export(Applied(lambda x: x.sigmoid() - x.relu()), (4,))) != first
    assert digest(export(Applied(lambda x: x.clamp(0, 6)), (4,))) != digest(
        export(Applied(lambda x: x.clamp(0, 5)), (4,))
    )


# --- Cached measurements --------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of models of each session."""
    sessions: list[int] = []
    real = latency.measure

    def counted(models: Any, *more: Any, **named: Any) -> Any:
        sessions.append(len(models))
        return real(models, *more, **named)

    monkeypatch.setattr(latency, "measure", counted)
    return sessions


def test_a_graph_is_measured_once_for_one_set_of_options(wrap: Wrap, tmp_path: Path, sessions: list[int]) -> None:
    space = wrap((3, 8, 8), convolutions, convolutions, lambda: convolutions(5))
    cache = str(tmp_path / "kept")
    first = quick(space, cache=cache)
    value = first.estimate(ONLY)
    assert first.estimate(ONLY) == value
    # Another instance, and another architecture that is the same graph with other weights.
    again = quick(space, cache=cache)
    assert again.measurement(Architecture({"network": 1})) == first.measurement(ONLY)
    assert sessions == [1]
    again.estimate(Architecture({"network": 2}))
    quick(space, cache=cache, optimisation="basic").estimate(ONLY)
    assert sessions == [1, 1, 1]
    assert len(list(tmp_path.rglob("*.json"))) == 3


def test_the_key_holds_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    model = relu([1, 3])
    keys = [key(model, LatencyOptions()), key(relu([1, 4]), LatencyOptions())]
    keys += [key(model, LatencyOptions(**{name: 7})) for name in ("threads", "batch", "rounds", "burst_ms", "round_ms")]
    keys += [key(model, LatencyOptions(optimisation="none")), key(model, LatencyOptions(clock="cpu"))]
    keys.append(key(model, LatencyOptions(paired=True)))
    monkeypatch.setattr("automl_nas_costs.latency.engine.processor", lambda: "another one")
    keys.append(key(model, LatencyOptions()))
    monkeypatch.setattr("onnxruntime.__version__", "0.0.1")
    keys.append(key(model, LatencyOptions()))
    assert len(set(keys)) == len(keys)


def test_a_damaged_file_is_measured_again(
    wrap: Wrap, tmp_path: Path, sessions: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    space = wrap((3, 8, 8), convolutions)
    quick(space, cache=str(tmp_path)).estimate(ONLY)
    (file,) = tmp_path.rglob("*.json")
    for content in ("{", "[]", json.dumps({"value": "fast"}), "\udcff"):
        file.write_bytes(content.encode(errors="surrogateescape"))
        with caplog.at_level(logging.WARNING):
            measurement = quick(space, cache=str(tmp_path)).measurement(ONLY)
        assert "does not hold a measurement" in caplog.text
        caplog.clear()
        assert quick(space, cache=str(tmp_path)).measurement(ONLY) == measurement
    assert len(sessions) == 5


def test_the_folder_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert LatencyCache().folder == user_folder() == tmp_path / "automl_nas" / "latency"
    assert LatencyCache(None).folder is None
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cache: measurements cannot be kept in .*file/x"):
        LatencyCache(str(tmp_path / "file" / "x"))


def test_measurements_go_with_the_run(wrap: Wrap, sessions: list[int]) -> None:
    space = wrap((3, 8, 8), convolutions)
    first, second = quick(space), quick(space)
    value = first.measurement(ONLY)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.measurement(ONLY) == value
    assert sessions == [1]


def test_measure_is_one_session_and_always_measures(sessions: list[int]) -> None:
    model = quick(ToySpace())
    networks = [convolutions(), convolutions(5), convolutions()]
    for _ in range(2):
        measurements = model.measure(networks, (3, 8, 8))
    assert sessions == [3, 3]
    assert len(measurements) == 3
    assert model.measure([], (3, 8, 8)) == []
    with pytest.raises(SpaceError, match="network 1: the network cannot be run"):
        model.measure([networks[0], nn.Linear(2, 2)], (3, 8, 8))


# --- By module ------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(16, 16, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.relu(self.convolution(x)) + x)  # type: ignore[no-any-return]


def test_time_is_divided_among_modules(wrap: Wrap) -> None:
    """The ReLU is called in two places; the operator fused with the convolution counts for the convolution."""
    space = wrap((16, 12, 12), lambda: nn.Sequential(nn.Sequential(Block(), Block()), Block(), nn.Conv2d(16, 16, 1)))
    model = quick(space)
    parts = model.breakdown(ONLY)
    assert {"0.0.convolution", "0.1.convolution", "1.convolution", "2"} <= set(parts)
    # A node counts for the convolution, the block that adds, its ReLU, or the network (conversions of layout).
    blocks = ("0.0", "0.1", "1")
    assert set(parts) <= {"", "2", *blocks, *(f"{b}.convolution" for b in blocks), *(f"{b}.relu" for b in blocks)}
    # A sum of ten parts of one number rounds at 1e-16 each.
    assert sum(parts.values()) == pytest.approx(model.estimate(ONLY), rel=1e-12)


def test_networks_without_a_shape_and_networks_that_cannot_be_built(wrap: Wrap) -> None:
    def broken() -> nn.Module:
        raise RuntimeError("no memory")

    with pytest.raises(SpaceError, match="no input shape"):
        quick(wrap((), convolutions)).estimate(ONLY)
    with pytest.raises(SpaceError, match="cannot be built: RuntimeError: no memory"):
        quick(wrap((3, 8, 8), broken)).estimate(ONLY)
