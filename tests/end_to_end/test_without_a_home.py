"""Users without a home folder, as in many containers: what uses it says so, and what does not need it works."""

from __future__ import annotations

import pwd
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.object_storage import cache_folder
from automl_nas_costs.latency.cache import LatencyCache
from automl_nas_export.package.exporter import check_no_places
from automl_nas_vision import verify
from automl_nas_vision.decode import Format


@pytest.fixture(autouse=True)
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "AUTOML_NAS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()


def test_packages_are_checked_for_the_other_places(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    file = tmp_path / "package" / "README.md"
    file.write_text("nothing of this machine")
    check_no_places(tmp_path / "package", tmp_path / "stage")
    file.write_text(f"python of {sys.prefix}/bin")
    with pytest.raises(RunFailedError, match="concerns this machine only"):
        check_no_places(tmp_path / "package", tmp_path / "stage")


def test_images_are_checked_and_not_remembered(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    checked = verify.check_files(tmp_path, ["a.png", "b.png"], Format((4, 4), 3, "squash", 0, 255), keep=False)
    assert list(checked.broken) == [1]


def test_folders_that_are_needed_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Set another folder, or null for no cache") as caught:
        LatencyCache()
    assert caught.value.path == "cache"
    assert LatencyCache(str(tmp_path)).folder == tmp_path
    with pytest.raises(ConfigurationError, match="Set AUTOML_NAS_CACHE to a folder"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "automl_nas"
    LatencyCache()


@pytest.mark.parametrize("command", [["init", "~/data"], ["workers", "~/queue.journal"]])
def test_commands_name_the_path_in_one_line(command: list[str]) -> None:
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2
    assert command[1] in result.stderr and "Could not determine home directory" in result.stderr
    assert "failed" not in result.stderr and len(result.stderr.splitlines()) == 1
