from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from automl_nas import open_run
from automl_nas.errors import RunDirectoryError
from automl_nas.run.final.later_export import check_kept


def test_a_complete_run_in_another_format(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    before = {path.name: path.read_bytes() for path in (directory / "export").iterdir()}
    shown = program("export", directory, "--format", "pt2")
    exported = directory / "export" / "model.pt2"
    assert (shown.stdout, shown.stderr) == (f"{exported}\n", "")
    network = open_run(directory).load_trained()
    images = torch.rand(5, 1, 4, 4)
    with torch.no_grad():
        # The exported program may fuse operations: float32 keeps about seven digits, over layers of a hundred terms.
        torch.testing.assert_close(torch.export.load(exported).module()(images), network(images), rtol=1e-4, atol=1e-5)
    assert {path.name: path.read_bytes() for path in (directory / "export").iterdir() if path != exported} == before


def test_a_folder_of_choice_gets_the_trained_weights(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    shown = program("export", directory, "--format", "safetensors", "--out", "new/place")
    assert sorted(shown.stdout.split()) == ["new/place/architecture.json", "new/place/model.safetensors"]
    weights = load_file(program.folder / "new" / "place" / "model.safetensors")
    trained = open_run(directory).load_trained().state_dict()
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in weights)
    result = json.loads((directory / "result.json").read_text())
    record = json.loads((program.folder / "new" / "place" / "architecture.json").read_text())
    assert record["architecture"] == result["architecture"]
    assert sorted(path.name for path in (program.folder / "new" / "place").iterdir()) == [
        "architecture.json",
        "model.safetensors",
    ]


def test_a_full_disk_leaves_no_folder(
    program: Any, finished: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    directory = finished()
    with monkeypatch.context() as patched:
        patched.setattr("automl_nas_export.staging.os.fsync", full)
        shown = program("export", directory, "--format", "safetensors", "--out", "new/place", code=1)
    assert "cannot write new/place: the disk is full; free some space, or write to another disk" in shown.stderr
    assert not (program.folder / "new").exists()
    program("export", directory, "--format", "safetensors", "--out", "new/place")


def test_nothing_is_replaced_unless_it_is_the_same_or_forced(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    program("export", directory, "--format", "safetensors")  # the run wrote the same
    weights = directory / "export" / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(b"mine")
    shown = program("export", directory, "--format", "safetensors", code=2)
    assert f"would replace {weights}" in shown.stderr
    assert weights.read_bytes() == b"mine"
    program("export", directory, "--format", "safetensors", "--force")
    assert weights.read_bytes() == good


def test_a_folder_of_another_network_is_replaced_as_a_whole_or_kept(tmp_path: Path) -> None:
    new, folder = tmp_path / "new", tmp_path / "export"
    for place, names in ((new, ("model.onnx",)), (folder, ("model.onnx", "network.py"))):
        (place / "package").mkdir(parents=True)
        for name in names:
            (place / "package" / name).write_text("the same")
    (folder / "package" / "__pycache__").mkdir()
    with pytest.raises(RunDirectoryError, match=r"leave files of another network in it: .*package/network\.py; use"):
        check_kept(new, folder, "use another")
    (folder / "package" / "network.py").unlink()
    check_kept(new, folder, "use another")
    (folder / "package" / "model.onnx").write_text("another")
    with pytest.raises(RunDirectoryError, match=r"would replace .*package/model\.onnx; use"):
        check_kept(new, folder, "use another")


@pytest.mark.slow
@pytest.mark.process
def test_force_replaces_a_package_as_a_whole(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    package = program.folder / "out" / "package"
    package.mkdir(parents=True)
    for name in ("network.py", "model.int8.onnx"):
        (package / name).write_text("of another network")
    shown = program("export", directory, "--format", "package", "--out", "out", code=2)
    assert "would replace out/package/network.py and leave files" in shown.stderr
    assert {path.name for path in package.iterdir()} == {"network.py", "model.int8.onnx"}
    program("export", directory, "--format", "package", "--out", "out", "--force")
    assert not (package / "model.int8.onnx").exists() and (package / "infer.py").exists()
    assert "of another network" not in (package / "network.py").read_text()
    (package / "notes.txt").write_text("mine")
    program("export", directory, "--format", "package", "--out", "out", "--force", code=1)
    assert (package / "notes.txt").read_text() == "mine"
    assert [path.name for path in (program.folder / "out").iterdir()] == ["package"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "onx"), "did you mean 'onnx'?"),
        (("--format", "{name: onnx, opest: 18}"), "'onnx' has no setting 'opest'"),
        (("--format", "[onnx"), "not valid YAML"),
    ],
)
def test_formats_are_checked(
    program: Any, finished: Callable[[], Path], options: tuple[str, ...], message: str
) -> None:
    assert message in program("export", finished(), *options, code=2).stderr


@pytest.mark.slow
@pytest.mark.process
def test_all_formats_are_written_where_none_is_named(program: Any, finished: Callable[[], Path]) -> None:
    shown = program("export", finished(), "--out", "all")
    names = {path.name for path in (program.folder / "all").iterdir()}
    weights = {"model.safetensors", "architecture.json"}
    assert names == weights | {"model.pt2", "model.onnx", "package"}
    assert "note: the format 'onnx_quantized' was left out: no layer of the network is quantised" in shown.stdout


def test_runs_that_have_no_trained_network(program: Any) -> None:
    program("run", program.config, "--set", "final=null", "--out", "bare", "--quiet")
    assert "no network was trained" in program("export", "bare", "--format", "pt2", code=1).stderr
    (program.folder / "bare" / "result.json").unlink()
    assert (
        "is not complete; to continue it: automl-nas resume"
        in program("export", "bare", "--format", "pt2", code=2).stderr
    )


def test_a_format_that_fails_keeps_no_other_from_being_written(program: Any, finished: Callable[[], Path]) -> None:
    strict = "{name: pt2, tolerance: 0.0}"
    impossible = "{name: onnx, opset: 18, tolerance: 0.0}"
    shown = program("export", finished(), "--format", impossible, "--format", strict, "--out", "some", code=1)
    assert shown.stdout == "some/model.pt2\n"
    assert "--format onnx: the exporter 'onnx' of plugin 'export' (distribution 'automl-nas'" in shown.stderr
    assert "differs from the network" in shown.stderr
    assert [path.name for path in (program.folder / "some").iterdir()] == ["model.pt2"]
