"""infer.py reads image files as the task image_folder does, odd ones included."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from automl_nas_export.package.card import TEMPLATES
from automl_nas_vision.image_folder import ImageFolder

INPUT_TOLERANCE = 1e-6


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)

    def picture(width: int, height: int, channels: int = 3) -> Image.Image:
        rough = rng.integers(0, 256, (5, 4, channels), dtype=np.uint8)
        image = Image.fromarray(rough[:, :, 0] if channels == 1 else rough)
        return image.resize((width, height), Image.Resampling.BICUBIC)

    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            picture(30 + 7 * number, 25, 3).save(folder / name / f"plain{number}.png")
    picture(31, 20, 1).save(folder / "cat" / "grey.png")
    picture(40, 17, 4).save(folder / "cat" / "alpha.png")
    picture(20, 33).convert("P").save(folder / "cat" / "palette.png", transparency=3)
    picture(9, 50).save(folder / "cat" / "turned.jpg", exif=exif(6))
    picture(21, 20).convert("CMYK").save(folder / "dog" / "cmyk.jpg")
    picture(22, 40, 1).convert("LA").save(folder / "dog" / "grey_alpha.png")
    deep = rng.integers(0, 65536, (24, 19), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "dog" / "sixteen.png")
    picture(18, 14).save(folder / "dog" / "size.png")


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_inputs_equal_those_of_the_task(resize: Any, colour: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    settings: dict[str, Any] = {"fill": 40, "background": 90, "batch_size": 2, "search_fraction": 0.3}
    task = ImageFolder(path=tmp_path / "data", size=(14, 18), resize=resize, colour=colour, augment="none", **settings)
    rule = dict(task.preprocessing() or {})
    model_class = runpy.run_path(str(TEMPLATES / "infer.py"))["Model"]
    model = object.__new__(model_class)
    model.input = {**rule, "kind": rule["input"], "shape": list(task.input_shape), "dtype": "float32"}
    compared = set()
    for split in ("train", "search", "test"):
        tensors = torch.cat([inputs for inputs, _ in task.scored_batches(split)])
        files = task.files(split)
        assert len(files) == len(tensors)
        for file, expected in zip(files, tensors, strict=True):
            (computed,) = model.inputs(file)
            np.testing.assert_allclose(computed, expected.numpy(), rtol=0, atol=INPUT_TOLERANCE, err_msg=file)
            compared.add(file)
    assert len(compared) == 14


@pytest.mark.parametrize(
    ("rule", "model", "text"),
    [
        ("{", b"", "preprocessing.json is missing, damaged"),
        ("[]", b"", "preprocessing.json is missing, damaged"),
        ('{"input": {}}', b"", "preprocessing.json is missing, damaged"),
        (None, b"", "preprocessing.json is missing, damaged"),
        ('{"input": {"kind": "image"}, "output": {}}', b"half of a model", "model.onnx is missing, damaged"),
        ('{"input": {"kind": "image"}, "output": {}}', None, "model.onnx is not in"),
    ],
)
def test_a_damaged_package_is_named(
    rule: str | None, model: bytes | None, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy that broke off is said in a sentence with exit code 2, not shown as a traceback."""
    shutil.copy(TEMPLATES / "infer.py", tmp_path)
    if rule is not None:
        (tmp_path / "preprocessing.json").write_text(rule)
    if model is not None:
        (tmp_path / "model.onnx").write_bytes(model)
    assert runpy.run_path(str(tmp_path / "infer.py"))["main"](["photo.jpg"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("infer.py: ") and text in output.err


def test_images_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = runpy.run_path(str(TEMPLATES / "infer.py"))
    model = object.__new__(names["Model"])
    model.input = {"kind": "image"}
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(names["InputError"], match=r"photo\.jpg: images are read with Pillow, .*pip install pillow"):
        model.inputs(tmp_path / "photo.jpg")
