"""Networks that cannot be exported: the error names the cause and the module, and nothing is printed."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import RunFailedError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas.space import Architecture
from automl_nas_export import traced_exporter
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.pt2 import Pt2Exporter
from automl_nas_export.quiet import quiet_tracing

SHAPE = (1, 8, 8)
EXPORTERS: dict[str, Callable[[], Exporter]] = {"onnx": OnnxExporter, "pt2": Pt2Exporter}


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Looping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[i].mean((1, 2)) for i in range(x.shape[0])])


class ForTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1) if x.shape[0] == 2 else x.reshape(x.shape[0], -1)


class OfTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(2, 1, 8, 8)


class Counting(nn.Module):
    """Python's int of the batch size, which a trace of the running network fixes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(int(x.shape[0]), -1)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("\x1b[31mno weights\x1b[0m\nand more")


@torch.library.custom_op("automl_nas_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return 2 * x


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.automl_nas_tests.twice(x)  # type: ignore[no-any-return]


def within(module: nn.Module) -> Delivery:
    """Deliver a network that has the module under the path ``features.3.pool``."""
    block = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 1, 1), pool=module))
    features = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Identity(), block)
    return Delivery(nn.Sequential(OrderedDict(features=features)).eval(), Architecture({}), SHAPE)


def error_of(name: str, module: nn.Module, folder: Path) -> str:
    with pytest.raises(RunFailedError) as caught:
        EXPORTERS[name]().export(within(module), folder)
    assert list(folder.iterdir()) == []
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Branching(), ["the forward of features.3.pool: Branching depends on the values of tensors"]),
        (Looping(), ["the batch size became fixed at 2", "the forward of features.3.pool: Looping"]),
        (ForTwo(), ["the batch size became fixed at 2", "the forward of features.3.pool: ForTwo"]),
        (OfTwo(), ["the network itself cannot be run at batch size 3", "the forward of features.3.pool: OfTwo"]),
        (
            Broken(),
            ["the network itself cannot be run at batch size 1: ValueError: no weights (", "features.3.pool: Broken"],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_cause_and_the_module_are_named(
    name: str, module: nn.Module, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error = error_of(name, module, tmp_path)
    assert [part for part in words if part not in error] == [], error
    assert ("values" in error) == isinstance(module, Branching)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("module", "operator"),
    [
        (nn.AdaptiveMaxPool2d(3), "aten.adaptive_max_pool2d (features.3.pool: AdaptiveMaxPool2d)"),
        (Custom(), "automl_nas_tests.twice (features.3.pool: Custom)"),
    ],
    ids=["pool", "custom"],
)
def test_operators_that_onnx_lacks_are_named(
    module: nn.Module, operator: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error = error_of("onnx", module, tmp_path)
    assert f"the operator {operator} has no translation to ONNX in torch {torch.__version__}" in error
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_torch_lacks_is_named(tmp_path: Path) -> None:
    error = error_of("pt2", Custom(), tmp_path)
    assert "the operator automl_nas_tests.twice (features.3.pool: Custom) is not one of torch" in error


def test_an_opset_that_lacks_an_operator_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """GELU has no conversion from opset 18 to 26; torch only logs that, and writes opset 18."""
    delivery = Delivery(nn.GELU().eval(), Architecture({}), SHAPE)
    with pytest.raises(RunFailedError, match=r"could not convert the model from opset 18 to 26"):
        OnnxExporter(opset=26).export(delivery, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_pooling_that_onnx_lacks_is_no_fault_in_pt2(tmp_path: Path) -> None:
    delivery = within(nn.AdaptiveMaxPool2d(3))
    (file,) = Pt2Exporter().export(delivery, tmp_path)
    x = torch.randn(5, *SHAPE)
    with torch.no_grad():
        assert torch.equal(torch.export.load(file).module()(x), delivery.network(x))


def test_int_of_the_batch_size_is_no_fault(tmp_path: Path) -> None:
    delivery = within(Counting())
    x = torch.randn(5, *SHAPE)
    with torch.no_grad():
        expected = delivery.network(x)
    (program,) = Pt2Exporter().export(delivery, tmp_path)
    torch.testing.assert_close(torch.export.load(program).module()(x), expected)
    (file,) = OnnxExporter().export(delivery, tmp_path)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), expected)


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_tracer_that_changes_the_network_is_compared_with_the_unchanged_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = traced_exporter.trace

    def zeroing(network: nn.Module, example: Tensor, **settings: bool) -> torch.export.ExportedProgram:
        for parameter in network.parameters():
            parameter.zero_()
        return original(network, example, **settings)

    monkeypatch.setattr(traced_exporter, "trace", zeroing)
    network = nn.Linear(3, 2).eval()
    with pytest.raises(RunFailedError, match="differs from the network"):
        EXPORTERS[name]().export(Delivery(network, Architecture({}), (3,)), tmp_path)
    assert network.weight.abs().min() > 0
    assert list(tmp_path.iterdir()) == []


def test_only_this_thread_and_only_libraries_are_quiet(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def other_thread() -> None:
        print("progress", file=sys.stderr)
        logging.getLogger("torch.onnx").error("of another thread")

    with quiet_tracing():
        print("dump")
        print("dump", file=sys.stderr)
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        logging.getLogger("torch.export").error("library")
        logging.getLogger("automl_nas_export").warning("ours")
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    print("afterwards")
    logging.getLogger("onnxscript").error("afterwards")
    output, errors = capsys.readouterr()
    assert output == "afterwards\n"
    # Some versions of torch print what its loggers record: of the two threads, only what the other one logged.
    assert errors.splitlines()[0] == "progress"
    assert all(line.endswith("of another thread") for line in errors.splitlines()[1:])
    assert caplog.messages == ["ours", "of another thread", "afterwards"]


def test_debugging_shows_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_NAS_DEBUG", "1")
    with quiet_tracing():
        print("dump")
    assert capsys.readouterr().out == "dump\n"
