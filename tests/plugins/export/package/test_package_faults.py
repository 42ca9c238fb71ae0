"""What is wrong is named, and nothing is half-written or lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from automl_nas.errors import RunFailedError
from automl_nas.evaluation import Delivery
from automl_nas.space import Architecture
from automl_nas_export.package import checks, exporter
from automl_nas_export.package.exporter import PackageExporter, check_no_places
from automl_nas_export.package.interface import Interface
from automl_nas_vision.digits import Digits


def delivery(**changes: Any) -> Delivery:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    task = Digits()
    values: dict[str, Any] = {
        "preprocessing": task.preprocessing(),
        "outputs": task.outputs(),
        "class_names": task.class_names,
        "held_out": next(iter(task.scored_batches("test")))[0][:3],
    }
    return Delivery(network, Architecture({"a": 1}), (1, 8, 8), **{**values, **changes})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The formats and the processes that check them are tested elsewhere."""

    def write(self: PackageExporter, delivery: Delivery, interface: Interface, folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"new")

    monkeypatch.setattr(PackageExporter, "_write_network", write)
    monkeypatch.setattr(exporter, "check_torch", lambda *_: [])
    monkeypatch.setattr(exporter, "check_infer", lambda *_: "")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("quick")
def test_an_older_package_is_replaced_as_a_whole(tmp_path: Path) -> None:
    old = tmp_path / "package"
    (old / "__pycache__").mkdir(parents=True)
    (old / "network.py").write_text("of another network")
    files = PackageExporter().export(delivery(), tmp_path)
    assert not (old / "network.py").exists()
    assert {path.name for path in files} == {"README.md", "model.onnx", "package.json"}
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["file of another", "file", "link"])
def test_what_is_not_a_package_stays(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "package"
    if kind == "file":
        target.write_text("mine")
    else:
        folder = tmp_path / "elsewhere" if kind == "link" else target
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
        if kind == "link":
            target.symlink_to(folder)
    before = contents(tmp_path)
    with pytest.raises(RunFailedError, match=r"package (contains notes\.txt|exists and is not a folder).*move"):
        PackageExporter().export(delivery(), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("quick")
def test_an_older_package_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "package"
    old.mkdir()
    (old / "model.onnx").write_bytes(b"old")
    before = contents(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PackageExporter, "_describe", full)
    with pytest.raises(OSError, match="No space left"):
        PackageExporter().export(delivery(), tmp_path)
    assert contents(tmp_path) == before
    monkeypatch.undo()


@pytest.mark.usefixtures("quick")
def test_an_older_package_gets_its_name_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new one cannot be renamed, after the old one was moved away."""
    old = tmp_path / "package"
    old.mkdir()
    (old / "model.onnx").write_bytes(b"old")
    before, replace = contents(tmp_path), Path.replace

    def fails_once(self: Path, target: Path) -> Path:
        if target == old and self.name == "package":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails_once)
    with pytest.raises(OSError, match="No space left"):
        PackageExporter().export(delivery(), tmp_path)
    assert contents(tmp_path) == before


def wrong(**changes: Any) -> Delivery:
    rule: dict[str, Any] = dict(Digits().preprocessing())
    return delivery(preprocessing={**rule, **changes})


@pytest.mark.parametrize(
    "changes", [{"std": [0.31]}, {"mean": [0.4]}, {"value_range": [-1.0, 1.0]}, {"value_range": [0.0, 255.0]}]
)
def test_preprocessing_that_is_not_that_of_the_task(changes: dict[str, Any]) -> None:
    item = wrong(**changes)
    interface = Interface.of(item, torch.float32, normalization=False, softmax=False)
    assert item.held_out is not None
    with pytest.raises(RunFailedError, match="otherwise than its preprocessing"):
        interface.pixels(item.held_out)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda: delivery(preprocessing=None), {"normalization": True}, "normalization: true needs a task of images"),
        (lambda: delivery(outputs={"kind": "numbers", "logits": False}), {"softmax": True}, "softmax: true needs"),
    ],
)
def test_options_that_do_not_fit(
    make: Callable[[], Delivery], settings: dict[str, bool], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RunFailedError, match=message):
        PackageExporter(**settings).export(make(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_path_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.onnx").write_bytes(b"\0" + str(Path(torch.__file__).parents[1]).encode() + b"\0")
    with pytest.raises(RunFailedError, match=r"model\.onnx contains .*, which concerns this machine only"):
        check_no_places(tmp_path / "package", tmp_path)


@pytest.mark.process
def test_a_package_that_needs_the_framework_is_refused(tmp_path: Path) -> None:
    (tmp_path / "infer.py").write_text("import automl_nas\n")
    item = delivery(preprocessing=None)
    interface = Interface.of(item, torch.float32, normalization=False, softmax=False)
    assert item.held_out is not None
    with pytest.raises(RunFailedError, match="without this framework: ModuleNotFoundError: blocked: automl_nas"):
        checks.check_infer(tmp_path, item.network, interface, item.held_out, 1e-4)


@pytest.mark.process
@pytest.mark.slow
def test_other_weights_are_found(tmp_path: Path) -> None:
    item = delivery()
    PackageExporter().export(item, tmp_path)
    other = dataclasses.replace(item, network=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval())
    interface = Interface.of(item, torch.float32, normalization=False, softmax=False)
    assert item.held_out is not None
    with pytest.raises(RunFailedError, match=r"network\.py: differs from the network by"):
        checks.check_torch(tmp_path / "package", other.network, [item.held_out], 1e-5)
    with pytest.raises(RunFailedError, match=r"infer\.py: differs from the network by"):
        checks.check_infer(tmp_path / "package", other.network, interface, item.held_out, 1e-4)


@pytest.mark.process
@pytest.mark.slow
def test_a_rehearsal_starts_processes_for_its_first_network_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    run = checks._run

    def counted(script: str, *arguments: Any) -> None:
        started.append("infer" if "infer" in script else "torch")
        run(script, *arguments)

    monkeypatch.setattr(checks, "_run", counted)
    package, first = PackageExporter(), delivery(rehearsal=True)
    second = dataclasses.replace(first, network=nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU()).eval())
    for item, expected in ((first, ["torch", "infer"]), (second, [])):
        started.clear()
        files = package.export(item, tmp_path)
        assert started == expected
        assert "network.py" in {path.name for path in files}
        assert "`network.py` on 3 inputs" in (tmp_path / "package" / "README.md").read_text()

    write, source = PackageExporter._write_network, tmp_path / "source.py"
    source.write_text((tmp_path / "package" / "network.py").read_text().replace("ReLU()", "Tanh()"))

    def wrong(self: PackageExporter, delivery: Delivery, interface: Interface, folder: Path) -> str | None:
        reason = write(self, delivery, interface, folder)
        (folder / "network.py").write_text(source.read_text())
        return reason

    monkeypatch.setattr(PackageExporter, "_write_network", wrong)
    with pytest.raises(RunFailedError, match=r"network\.py: differs from the network by"):
        package.export(second, tmp_path)
    source.write_text("def load(file): raise KeyError('no such layer')")
    with pytest.raises(RunFailedError, match=r"network\.py cannot be run: KeyError: 'no such layer'"):
        package.export(second, tmp_path)
    assert started == []

    # Another interface is checked, and so is the network that is delivered.
    monkeypatch.setattr(PackageExporter, "_write_network", lambda *_: None)
    monkeypatch.setattr(exporter, "check_torch", lambda *_: started.append("torch") or [])
    monkeypatch.setattr(exporter, "check_infer", lambda *_: started.append("infer") or "")
    package.export(dataclasses.replace(second, class_names=tuple("abcdefghij")), tmp_path)
    package.export(dataclasses.replace(second, rehearsal=False), tmp_path)
    assert started == 2 * ["torch", "infer"]
