from __future__ import annotations

import copy
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import automl_nas
from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.space.architecture import Architecture
from automl_nas.testing.exporters import ExporterContract
from automl_nas_export import traced_exporter, tracing
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.pt2 import Pt2Exporter

Deliver = Callable[[str], Delivery]


class TestContract(ExporterContract):
    # The program runs the same kernels in the same order on the same machine.
    tolerance = 0.0

    def make(self) -> Exporter:
        return Pt2Exporter()

    def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor]:
        return torch.export.load(paths[0]).module()


def test_formats_share_the_traced_program_of_equal_networks(
    deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order, each file has the bytes that it has alone; another network is traced anew."""
    traced: list[nn.Module] = []

    def trace(network: nn.Module, example: Tensor, **options: bool) -> torch.export.ExportedProgram:
        traced.append(network)
        return tracing.trace(network, example, **options)

    def written(delivery: Delivery, *exporters: Exporter) -> dict[str, bytes]:
        # Each exporter receives a copy of the network, as in a run.
        files = [
            path
            for exporter in exporters
            for path in exporter.export(replace(delivery, network=copy.deepcopy(delivery.network)), tmp_path)
        ]
        return {path.name: path.read_bytes() for path in files}

    monkeypatch.setattr(traced_exporter, "trace", trace)
    base = deliver("shuffled")
    alone = written(replace(base, shared={}), Pt2Exporter()) | written(replace(base, shared={}), OnnxExporter())
    assert len(traced) == 2
    for order in ((Pt2Exporter(), OnnxExporter()), (OnnxExporter(), Pt2Exporter())):
        assert written(replace(base, shared={}), *order) == alone
    assert len(traced) == 4
    Pt2Exporter().export(base, tmp_path)
    other = copy.deepcopy(base.network)
    next(module for module in other.modules() if isinstance(module, nn.Conv2d)).weight.data.add_(1.0)
    Pt2Exporter().export(replace(base, network=other), tmp_path)
    assert len(traced) == 6


ALONE = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("automl_nas"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
import torch
from safetensors.torch import load_file, save_file
try:
    import automl_nas
    raise SystemExit("automl_nas could be imported")
except ImportError:
    pass
with torch.no_grad():
    y = torch.export.load(sys.argv[1]).module()(load_file(sys.argv[2])["x"])
save_file({"y": y}, sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.process
def test_it_runs_where_automl_nas_cannot_be_imported(deliver: Deliver, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    delivery = deliver("shuffled")
    (program,) = Pt2Exporter().export(delivery, tmp_path)
    x = torch.randn(5, *delivery.input_shape)
    save_file({"x": x}, tmp_path / "x")
    command = [sys.executable, "-c", ALONE, str(program), str(tmp_path / "x"), str(tmp_path / "y")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert torch.equal(load_file(tmp_path / "y")["y"], delivery.network(x))


@pytest.mark.parametrize("name", ["tied", "graph_module", "several"])
def test_hard_networks(deliver: Deliver, name: str, tmp_path: Path) -> None:
    delivery = deliver(name)
    (program,) = Pt2Exporter().export(delivery, tmp_path)
    loaded = torch.export.load(program).module()
    x = torch.randn(7, *delivery.input_shape)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), delivery.network(x), rtol=0, atol=0)


def test_it_holds_no_pickle_of_the_example_and_no_place_of_this_machine(deliver: Deliver, tmp_path: Path) -> None:
    (program,) = Pt2Exporter().export(deliver("shuffled"), tmp_path)
    with zipfile.ZipFile(program) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert sum(map(len, content.values())) > 1000
    folders = [str(Path(__file__).parent), str(Path(automl_nas.__file__).parent), str(Path(torch.__file__).parent)]
    assert not [name for name, data in content.items() if any(place.encode() in data for place in folders)]
    assert not [name for name, data in content.items() if data[:1] == b"\x80" or b"data.pkl" in data]


def test_a_program_that_computes_something_else_is_refused(
    deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = deliver("graph_module")
    original = traced_exporter.trace

    def off(network: nn.Module, example: Tensor, **settings: bool) -> torch.export.ExportedProgram:
        program = original(network, example, **settings)
        program.state_dict["3.bias"] = nn.Parameter(program.state_dict["3.bias"] + 0.25)
        return program

    monkeypatch.setattr(traced_exporter, "trace", off)
    with pytest.raises(RunFailedError, match=r"model\.pt2, batch size 1, output: differs .* by up to 0\.25 \("):
        Pt2Exporter().export(delivery, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_tolerances_that_make_no_sense(tolerance: float) -> None:
    with pytest.raises(ConfigurationError, match="tolerance"):
        Pt2Exporter(tolerance=tolerance)


def test_a_network_of_tokens(tmp_path: Path) -> None:
    """Its inputs are integers below 7, as the task's samples are; normal numbers would be no tokens."""
    network = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3)).eval()
    samples = torch.arange(15).view(3, 5) % 7
    (file,) = Pt2Exporter().export(Delivery(network, Architecture({}), (5,), samples=samples), tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(file).module()(samples), network(samples), rtol=1e-5, atol=1e-6)
