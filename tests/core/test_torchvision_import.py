"""Importing torchvision where its operators are missing, present, or torchvision is broken: each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKE = """
import torch
{body}
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
"""

OPERATORS = """
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl(name, lambda dets, scores, iou_threshold: dets + 1, "CPU")
"""


def run(code: str, *folders: Path) -> None:
    paths = os.pathsep.join([*map(str, folders), *(path for path in sys.path if path)])
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def fake(folder: Path, body: str) -> Path:
    package = folder / "torchvision" / "transforms" / "v2"
    package.mkdir(parents=True)
    (folder / "torchvision" / "__init__.py").write_text(FAKE.format(body=body))
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("marker = 1")
    return folder


@pytest.mark.slow
@pytest.mark.process
def test_the_installed_torchvision_can_be_used() -> None:
    run(
        "import torch\n"
        "from automl_nas.torchvision_import import import_torchvision\n"
        "v2 = import_torchvision('torchvision.transforms.v2')\n"
        "assert import_torchvision('torchvision.transforms.v2') is v2\n"
        "picture = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)\n"
        "assert torch.equal(v2.RandomHorizontalFlip(p=1.0)(picture), picture.flip(-1))\n"
        "import torchvision"
    )


@pytest.mark.slow
@pytest.mark.process
def test_missing_operators_are_defined(tmp_path: Path) -> None:
    run(
        "import torch\n"
        "from automl_nas.torchvision_import import import_torchvision\n"
        "assert not hasattr(torch.ops.torchvision, 'nms')\n"
        "assert import_torchvision('torchvision.transforms.v2').marker == 1\n"
        "assert hasattr(torch.ops.torchvision, 'nms') and hasattr(torch.ops.torchvision, 'qnms')",
        fake(tmp_path, ""),
    )


@pytest.mark.slow
@pytest.mark.process
def test_present_operators_are_left_alone(tmp_path: Path) -> None:
    run(
        "import torch\n"
        "from automl_nas.torchvision_import import import_torchvision\n"
        "assert import_torchvision('torchvision.transforms.v2').marker == 1\n"
        "ones = torch.ones(2)\n"
        "for operator in (torch.ops.torchvision.nms, torch.ops.torchvision.qnms):\n"
        "    assert torch.equal(operator(ones, ones, 0.5), ones + 1)",
        fake(tmp_path, OPERATORS),
    )


@pytest.mark.slow
@pytest.mark.process
def test_another_failure_is_reported(tmp_path: Path) -> None:
    run(
        "import builtins\n"
        "from automl_nas.errors import PluginError\n"
        "from automl_nas.torchvision_import import import_torchvision\n"
        "for builtins.failure in (ImportError('no such library'), RuntimeError('no such library')):\n"
        "    try:\n"
        "        import_torchvision('torchvision.transforms.v2')\n"
        "    except PluginError as error:\n"
        "        assert error.__cause__ is builtins.failure\n"
        "        assert 'no such library' in str(error) and 'install the torchvision' in str(error)\n"
        "    else:\n"
        "        raise AssertionError('no error')",
        fake(tmp_path, "raise failure"),
    )
