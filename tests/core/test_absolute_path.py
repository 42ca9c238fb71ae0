"""The form in which paths are recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl_nas.absolute_path import absolute_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``real/inside``, and ``link``, which leads to it."""
    (tmp_path / "real" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "inside")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "real"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.npz", "data.npz"),
        ("./real/../data.npz", "data.npz"),
        ("real/inside/../../missing/../x", "x"),
        ("link/data.npz", "link/data.npz"),
        ("link/../data.npz", "link/../data.npz"),
        ("~/data.npz", "real/data.npz"),
    ],
)
def test_a_path_is_absolute_and_keeps_links(folder: Path, text: str, expected: str) -> None:
    path = absolute_path(text)
    assert str(path) == f"{folder}/{expected}"
    assert path.resolve() == Path(text).expanduser().resolve()
