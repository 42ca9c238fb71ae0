"""Weights that are damaged, or are not those of the network, are named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from automl_nas.errors import DamagedError
from automl_nas.run.record.artifacts import RunArtifacts, load_into


def saved(folder: Path) -> Path:
    artifacts = RunArtifacts(folder, "final", {"name": "toy"}, "fingerprint", dict)
    artifacts.save(nn.Linear(2, 3).state_dict())
    return folder / "final" / "weights.safetensors"


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path)
    network = nn.Linear(2, 3)
    load_into(network, path)
    assert torch.equal(network.weight, RunArtifacts(tmp_path, "final", {}, "fingerprint", dict).load("final")["weight"])
    with pytest.raises(DamagedError, match=r"weights\.safetensors is not of the network of its run: .*size mismatch"):
        load_into(nn.Linear(2, 4), path)


@pytest.mark.parametrize(
    ("content", "tied", "problem"),
    [
        (b"", {}, "holds no weights: SafetensorError"),
        (b"\xff" * 100, {}, "holds no weights: SafetensorError"),
        ((10**15).to_bytes(8, "little") + b"{}", {}, "holds no weights: SafetensorError"),
        (None, {"other": "missing"}, "holds no weights: KeyError: 'missing'"),
        (None, {"other": 3}, "tied.other must be a string, not a number"),
    ],
)
def test_a_file_with_a_right_digest_that_holds_no_weights_is_named(
    tmp_path: Path, content: bytes | None, tied: object, problem: str
) -> None:
    path = saved(tmp_path)
    if content is not None:
        path.write_bytes(content)
    note = json.loads(path.with_suffix(".json").read_text())
    del note["crc"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({**note, "sha256": digest, "tied": tied}))
    with pytest.raises(DamagedError, match=problem):
        load_into(nn.Linear(2, 3), path)
