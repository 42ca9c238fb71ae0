"""The scripts of examples/estimators run from beginning to end, with short trainings."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from plugins.estimators.fast import fast, small_images

EXAMPLES = Path(__file__).parents[3] / "examples" / "estimators"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("digits").main(tmp_path / "run", sections=small_images(1), progress="none")
    assert "accuracy on 360 new images: 0." in capsys.readouterr().out


def test_a_table_in_a_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("table").main(tmp_path / "run", sections=fast(1, 1), progress="none")
    assert capsys.readouterr().out.count("R2 on 111 new rows") == 2


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    load("folder").main(tmp_path / "images", tmp_path / "run", sections=small_images(1), progress="none")
    assert "held out" in capsys.readouterr().out


def test_every_example_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"digits", "table", "folder"}
