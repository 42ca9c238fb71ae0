"""Files of object storage: fsspec's memory and local file systems, s3 by moto's server, and what can fail."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from core.cli.test_show import CONFIG
from torch import nn

from automl_nas.cli.show import show
from automl_nas.errors import ConfigurationError, DamagedError
from automl_nas.evaluation.training.initial_weights import InitialWeights
from automl_nas.object_storage import RemoteFolder, copied_run, is_url, local_file, local_run
from automl_nas.run.configuration.weight_files import weight_files
from automl_nas.run.record.artifacts import RunArtifacts
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'automl-nas[storage]'")

URL = "memory://bucket/runs/first"


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """fsspec's file system of this process, empty, with an empty folder of copies."""
    monkeypatch.setenv("AUTOML_NAS_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")

    def clear() -> None:
        files.store.clear()
        files.pseudo_dirs[:] = [""]

    clear()
    yield files
    clear()


def opened(files: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the names of the objects are appended that are downloaded from now on."""
    names: list[str] = []
    original = type(files).open

    def counted(self: Any, path: str, *arguments: Any, **keywords: Any) -> Any:
        names.append(path)
        return original(self, path, *arguments, **keywords)

    monkeypatch.setattr(type(files), "open", counted)
    return names


def test_a_copy_is_made_once_and_again_when_the_object_changed(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/bucket/runs/first/a.bin", b"one")
    downloads = opened(memory, monkeypatch)
    copy = local_file(f"{URL}/a.bin")
    assert copy.read_bytes() == b"one"
    assert local_file(f"{URL}/a.bin") == copy
    assert len(downloads) == 1
    memory.pipe("/bucket/runs/first/a.bin", b"two")  # of the same length
    assert local_file(f"{URL}/a.bin").read_bytes() == b"two"
    copy.write_bytes(b"cut")
    assert local_file(f"{URL}/a.bin").read_bytes() == b"cut", "a copy of the same version is not read again"
    copy.write_bytes(b"torn file")
    assert local_file(f"{URL}/a.bin").read_bytes() == b"two", "a copy of another size is"


def test_paths_and_local_urls_are_used_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"one")
    assert local_file(str(tmp_path / "a.bin")) == tmp_path / "a.bin"
    assert local_file(f"file://{tmp_path}/a.bin") == tmp_path / "a.bin"
    assert not (tmp_path / "cache").exists()
    assert [is_url(text) for text in ("runs/a", "s3://b/c", "C:/x", "memory://x", 7)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_download_that_ends_early_is_an_error_and_leaves_no_copy(
    memory: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memory.pipe("/bucket/runs/first/a.bin", b"one")
    info = type(memory).info
    monkeypatch.setattr(type(memory), "info", lambda self, path, **kw: {**info(self, path, **kw), "size": 5000})
    downloads = opened(memory, monkeypatch)
    with pytest.raises(DamagedError, match=rf"the download of {URL}/a.bin ended after 3 of 5,000 bytes, 2 times"):
        local_file(f"{URL}/a.bin")
    assert len(downloads) == 2
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_what_cannot_be_read_is_named(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import known_implementations

    monkeypatch.setitem(known_implementations, "nope", {"class": "nope_fs.Nope", "err": "Install nope_fs"})
    memory.pipe("/bucket/runs/first/folder/a.bin", b"one")
    for url, message in (
        (f"{URL}/b.bin", "there is no such object"),
        (f"{URL}/folder", "is a folder and not an object"),
        ("nope://bucket/a.bin", "the protocol nope needs another package: Install nope_fs"),
        ("s4://bucket/a.bin", "Protocol not known: s4; usual ones are s3, gs"),
        ("simplecache::memory://a/b.bin", "chained URLs"),
        ("memory://a/zip://b.bin::memory://c", "chained URLs"),
        ("reference://a/b.bin", "protocols that wrap others are not read"),
        ("ftp://me:secret@host/b.bin", "contains a password"),
    ):
        if not is_url(url):  # a path with colons
            assert local_file(url) == Path(url)
            continue
        with pytest.raises(ConfigurationError, match=message) as error:
            local_file(url, "final.initial_weights")
        assert error.value.path == "final.initial_weights"
        assert "secret" not in str(error.value)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigurationError, match=r"needs the package fsspec.*pip install 'automl-nas\[storage\]'"):
        local_file(f"{URL}/a.bin")


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../a.bin", "/etc/passwd", "b/../../a.bin"):
        with pytest.raises(ConfigurationError, match="leads out of its folder"):
            RemoteFolder(URL).copied([name])
    assert not list(tmp_path.rglob("a.bin"))


def test_a_url_that_was_made_a_path_is_named() -> None:
    with pytest.raises(ConfigurationError, match="s3:/bucket/run was a URL before it was made a Path"):
        local_run(Path("s3://bucket/run"))
    assert local_run("runs/first") == Path("runs/first")


def artifacts(folder: Path, **changes: str) -> RunArtifacts:
    return RunArtifacts(folder, "supernet", {"name": "toy"}, changes.get("fingerprint", "same"), dict)


@pytest.fixture
def saved(tmp_path: Path, memory: Any) -> dict[str, torch.Tensor]:
    """Weights of a run in object storage."""
    tensors = dict(nn.Linear(2, 3).state_dict())
    artifacts(tmp_path / "run" / "artifacts").save(tensors)
    memory.put(str(tmp_path / "run"), "/bucket/runs/first", recursive=True)
    return tensors


def test_artifacts_of_a_run_in_object_storage_are_loaded(saved: dict[str, torch.Tensor], tmp_path: Path) -> None:
    here = artifacts(tmp_path / "other")
    loaded = here.load(f"{URL}:supernet")
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    with pytest.raises(ConfigurationError, match=rf"the run {URL} has no weights 'supernett'.*'supernet'"):
        here.load(f"{URL}:supernett")
    with pytest.raises(ConfigurationError, match="belong to another search space"):
        artifacts(tmp_path / "other", fingerprint="another").load(f"{URL}:supernet")
    with pytest.raises(ConfigurationError, match=rf"name a stage of the run: '{URL}:STAGE'"):
        here.load(f"{URL}:")


@pytest.mark.parametrize("change", ["flipped", "cut"])
def test_weights_that_do_not_match_their_digest_are_refused(
    saved: dict[str, torch.Tensor], memory: Any, tmp_path: Path, change: str
) -> None:
    path = "/bucket/runs/first/artifacts/supernet/weights.safetensors"
    content = bytearray(memory.cat(path))
    content[-1] ^= 1
    memory.pipe(path, bytes(content) if change == "flipped" else bytes(content[:-10]))
    with pytest.raises(DamagedError, match="does not match its digest"):
        artifacts(tmp_path / "other").load(f"{URL}:supernet")


def test_initial_weights_are_read_and_recorded_by_their_digest(saved: dict[str, torch.Tensor], memory: Any) -> None:
    file = f"{URL}/artifacts/supernet/weights.safetensors"
    network = nn.Linear(2, 3)
    InitialWeights(file).load_into(network)
    assert torch.equal(network.weight, saved["weight"])
    content = memory.cat("/bucket/runs/first/artifacts/supernet/weights.safetensors")
    config = {"stages": [{"strategy": {"initial_weights": {"file": file}}}]}
    assert weight_files(config) == {file: hashlib.sha256(content).hexdigest()}
    memory.pipe("/bucket/runs/first/x.safetensors", b"\x80\x04pickled")
    with pytest.raises(ConfigurationError, match="as safetensors"):
        InitialWeights(f"{URL}/x.safetensors").load_into(network)


def test_a_copied_run_has_its_record_without_checkpoints(memory: Any) -> None:
    for name in ("config.yaml", "result.json", "checkpoints/1.pt", "scratch/3/x", "lock", ".a.1.part", "export/m.onnx"):
        memory.pipe(f"/bucket/runs/first/{name}", name.encode())
    folder = copied_run(URL)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "config.yaml",
        "export/m.onnx",
        "result.json",
    ]
    with pytest.raises(ConfigurationError, match=r"is not a run directory: it holds no config\.yaml"):
        copied_run("memory://bucket/runs/first/export")
    with pytest.raises(ConfigurationError, match=r"no such object or folder|no config\.yaml"):
        copied_run("memory://bucket/nothing")


def test_show_reads_a_run_in_object_storage(memory: Any, tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "killed", CONFIG)
    directory.unlock()
    ledger = Ledger(directory.trials, writable=True)
    ledger.finished([Trial(0, Architecture({"a": 1}), {"error": 0.5}, {"flops": 1.0}, stage="search")])
    ledger.close()
    memory.put(str(directory.path), "/bucket/runs/first", recursive=True)
    here, there = (json.loads(CliRunner().invoke(show, [at, "--json"]).output) for at in (str(directory.path), URL))
    for state in (here, there):
        del state["directory"], state["idle_seconds"]
    assert there == here
    assert [trial["metrics"] for trial in there["history"]] == [{"error": 0.5}]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An s3 server of this process, with a bucket."""
    server_module = pytest.importorskip("moto.server", reason="the mock of s3 is not installed: pip install moto flask")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
    ):
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3")
    files.mkdir("bucket")
    yield files
    server.stop()
    type(files).clear_instance_cache()


@pytest.mark.filterwarnings("ignore")  # of botocore
def test_s3(s3: Any, tmp_path: Path) -> None:
    tensors = dict(nn.Linear(2, 3).state_dict())
    artifacts(tmp_path / "run" / "artifacts").save(tensors)
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    s3.put(str(tmp_path / "run"), "bucket/first", recursive=True)
    here = artifacts(tmp_path / "other")
    assert torch.equal(here.load("s3://bucket/first:supernet")["weight"], tensors["weight"])
    assert (copied_run("s3://bucket/first") / "config.yaml").read_text() == "seed: 0\n"
    with pytest.raises(ConfigurationError, match=r"there is no such object"):
        local_file("s3://bucket/first/other.bin")
    with pytest.raises(ConfigurationError, match=r"the run s3://bucket/second has no weights"):
        here.load("s3://bucket/second:supernet")
    s3.pipe("bucket/first/artifacts/supernet/weights.safetensors", b"other")
    with pytest.raises(DamagedError, match="does not match its digest"):
        here.load("s3://bucket/first:supernet")
