"""A package is used as another team uses it: by its files alone."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import automl_nas
from automl_nas.evaluation import Delivery, Exporter, Task, TensorTask
from automl_nas.run.final.delivery import described
from automl_nas.run.final.report import FinalNetwork
from automl_nas.space import Architecture
from automl_nas.testing.exporters import ExporterContract
from automl_nas_export.package import exporter as package_exporter
from automl_nas_export.package.exporter import FILES, PackageExporter
from automl_nas_tabular.csv_task import csv_task
from automl_nas_vision.digits import Digits, read_digits

BLOCKED = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "automl_nas", "onnx", "sklearn", "scipy"):
            raise ModuleNotFoundError("blocked: " + name)
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.process
@pytest.mark.slow
class TestContract(ExporterContract):
    tolerance = 1e-6

    @pytest.fixture(autouse=True)
    def _no_check_in_another_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The check imports torch in a process for each of a dozen exports; the other tests of this file have it.
        monkeypatch.setattr(package_exporter, "check_torch", lambda *_: [])

    def make(self) -> Exporter:
        return PackageExporter()

    def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor]:
        (file,) = (path for path in paths if path.name == "model.onnx")
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


def infer(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run infer.py of a package where neither this framework nor torch can be imported."""
    command = [sys.executable, "-c", BLOCKED, str(folder / "infer.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.anchor)


def predictions(folder: Path, *files: str | Path) -> list[dict[str, Any]]:
    result = infer(folder, "--json", *files)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def delivered(task: Task, network: nn.Module) -> Delivery:
    """Return a network with the description that exporters of a run receive."""
    architecture = Architecture({"block": "a"})
    test, interval = {"accuracy": 0.5}, {"accuracy": (0.25, 0.75)}
    record = FinalNetwork("found", 3, 0, architecture, {"flops": 650.0}, test=test, test_interval=interval)
    config = {
        "final": None,
        "seed": 0,
        "space": {"name": "toy"},
        "task": {"name": "toy", "path": str(Path.home() / "data.npz")},
        "runtime": {"device": "cpu", "threads": 1},
    }
    return described(config, record, network.eval(), task.input_shape, task, "train", {"flops": "multiply-adds"})


def digits_network() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    return nn.Sequential(layers, nn.Linear(512, 10))


def export(delivery: Delivery, folder: Path, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    PackageExporter(**settings).export(delivery, folder)
    return folder / "package"


def outputs_of(delivery: Delivery, x: Tensor) -> Tensor:
    with torch.no_grad():
        return delivery.network(x)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Delivery, Digits]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Digits(augment="none")
        delivery = delivered(task, digits_network())
    return export(delivery, tmp_path_factory.mktemp("digits")), delivery, task


@pytest.mark.process
@pytest.mark.slow
def test_images(digits: tuple[Path, Delivery, Digits], tmp_path: Path) -> None:
    """Inputs from image files equal those of the task, and classes and probabilities those of the network."""
    folder, delivery, task = digits
    (tensors, _), *_ = task.scored_batches("test")
    pixels, _ = read_digits()
    rows = task._splits["test"][:6]  # type: ignore[attr-defined]
    files = []
    for number, row in enumerate(rows):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels[row]).save(files[-1])
    Image.fromarray(pixels[rows[0]]).convert("RGBA").save(tmp_path / "rgba.png")  # opaque: the same image
    Image.fromarray(np.rot90(pixels[rows[0]]).copy()).save(tmp_path / "turned.png", exif=exif(6))
    computed = predictions(folder, *files, tmp_path / "rgba.png", tmp_path / "turned.png")
    expected = outputs_of(delivery, tensors[:6]).double().softmax(1)
    values = torch.tensor([list(each["probabilities"].values()) for each in computed], dtype=torch.float64)
    torch.testing.assert_close(values, torch.cat([expected, expected[:1], expected[:1]]), rtol=0, atol=1e-5)
    assert [each["class"] for each in computed[:6]] == [str(int(k)) for k in expected.argmax(1)]

    plain = infer(folder, files[0])
    assert plain.stdout.startswith(f"{files[0]}: {computed[0]['class']} {computed[0]['probability']:.4f}, ")
    Image.new("L", (9, 8)).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes(files[0].read_bytes()[:40])
    for name, message in {
        "wide.png": "9 x 8 pixels instead of 8 x 8",
        "broken.png": "broken.png: ",
        "absent.png": "No such file",
    }.items():
        result = infer(folder, tmp_path / name)
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.process
@pytest.mark.slow
def test_what_the_folder_says(digits: tuple[Path, Delivery, Digits]) -> None:
    folder, _, task = digits
    assert {path.name for path in folder.iterdir()} == set(FILES) - {"model.onnx.data", "model.int8.onnx"}
    described_inputs = json.loads((folder / "preprocessing.json").read_text())
    pixels, _ = read_digits()
    training = pixels[task._splits["train"]] / 255  # type: ignore[attr-defined]
    assert described_inputs["input"]["mean"] == pytest.approx([training.mean()])
    assert described_inputs["input"]["std"] == pytest.approx([training.std()])
    assert described_inputs["output"]["class_names"] == [str(k) for k in range(10)]
    assert described_inputs["output"]["logits"] is True
    properties = {item.key: item.value for item in onnx.load(folder / "model.onnx").metadata_props}
    assert json.loads(properties["preprocessing"]) == described_inputs
    assert json.loads(properties["architecture"]) == {"block": "a"}
    summary = json.loads((folder / "package.json").read_text())
    assert summary["description"]["test_interval"] == {"accuracy": [0.25, 0.75]}
    assert summary["costs"]["flops"]["value"] == "650 multiply-adds"
    assert summary["source"] == {"file": "network.py", "reason": None}
    page = (folder / "README.md").read_text()
    for part in ("| accuracy | 0.5 | 0.25 to 0.75 |", "650 multiply-adds", "logit (not a probability)", "No licence"):
        assert part in page
    for name in re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE):
        assert (folder / name).is_file()


@pytest.mark.process
@pytest.mark.slow
def test_no_path_of_this_machine(digits: tuple[Path, Delivery, Digits], tmp_path: Path) -> None:
    folder, _, _ = digits
    places = [Path.home(), Path.cwd(), folder.parent, sys.prefix, tempfile.gettempdir(), Path(torch.__file__).parent]
    places += [Path(automl_nas.__file__).parents[1], Path(__file__).parents[3]]
    strings = {str(place).encode() for place in places} | {socket.gethostname().encode()}
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        archive.extractall(tmp_path)
    for path in (*folder.iterdir(), *(path for path in tmp_path.rglob("*") if path.is_file())):
        content = path.read_bytes()
        assert not [text for text in strings if text in content and len(text) > 3], path.name


@pytest.mark.process
@pytest.mark.slow
def test_baked_in(digits: tuple[Path, Delivery, Digits], tmp_path: Path) -> None:
    """The model takes pixels from 0 to 255 and returns probabilities; infer.py predicts the same as without."""
    folder, delivery, task = digits
    baked = export(delivery, tmp_path, normalization=True, softmax=True)
    pixels, _ = read_digits()
    row = int(task._splits["test"][0])  # type: ignore[attr-defined]
    session = onnxruntime.InferenceSession(baked / "model.onnx", providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"input": pixels[row][None, None].astype(np.float32)})
    (tensors, _), *_ = task.scored_batches("test")
    expected = outputs_of(delivery, tensors[:1]).softmax(1)
    np.testing.assert_allclose(values, expected.numpy(), rtol=0, atol=1e-5)
    file = tmp_path / "image.png"
    Image.fromarray(pixels[row]).save(file)
    (one,), (other,) = predictions(folder, file), predictions(baked, file)
    assert one["class"] == other["class"]
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert json.loads((baked / "preprocessing.json").read_text())["output"]["logits"] is False


@pytest.mark.process
@pytest.mark.slow
def test_any_height_and_width(tmp_path: Path) -> None:
    """infer.py brings images to the size that a user names, and computes what PyTorch computes for them."""
    task = Digits(augment="none")
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    delivery = dataclasses.replace(
        delivered(task, network), preprocessing={**dict(task.preprocessing()), "resize": "squash"}
    )
    folder = export(delivery, tmp_path / "out", dynamic_size=True, normalization=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))
    image.save(tmp_path / "image.png")
    result = infer(folder, "--json", "--size", "11", "23", tmp_path / "image.png")
    assert result.returncode == 0, result.stderr
    (computed,) = json.loads(result.stdout)
    rule = task.preprocessing()
    pixels = torch.from_numpy(np.asarray(image.resize((23, 11), Image.Resampling.BILINEAR)).copy())
    inputs = (pixels[None, None] / 255 - rule["mean"][0]) / rule["std"][0]
    expected = outputs_of(delivery, inputs.float()).double().softmax(1)[0]
    assert list(computed["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert "images of 16 x 24, 9 x 11, 6 x 8: outputs differ" in (folder / "README.md").read_text()
    assert "height and width must be at least 1" in infer(folder, "--size", "0", "8", "x.png").stderr


@pytest.mark.process
@pytest.mark.slow
def test_one_size_only(digits: tuple[Path, Delivery, Digits], tmp_path: Path) -> None:
    folder, _, _ = digits
    result = infer(folder, "--size", "16", "16", "image.png")
    assert (result.returncode, result.stdout) == (2, "")
    assert "the network accepts inputs of one size only" in result.stderr


@pytest.mark.process
@pytest.mark.slow
def test_a_broken_file_costs_no_other(digits: tuple[Path, Delivery, Digits], tmp_path: Path) -> None:
    folder, _, _ = digits
    files = [tmp_path / f"{k}.png" for k in range(3)]
    for file in files:
        Image.new("L", (8, 8), 70).save(file)
    files[1].write_bytes(b"")
    result = infer(folder, *files)
    assert result.returncode == 2
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == [str(files[0]), str(files[2])]
    assert str(files[1]) in result.stderr and "Traceback" not in result.stderr
    as_json = infer(folder, "--json", *files)
    assert as_json.returncode == 2
    assert [each["file"] for each in json.loads(as_json.stdout)] == [str(files[0]), str(files[2])]


@pytest.mark.process
@pytest.mark.slow
def test_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["size;colour;weight;kind"]
    for k in range(90):
        weight = "?" if k % 9 == 0 else f"{rng.normal(5, 2):.4f}"
        lines.append(f"{rng.normal():.4f};{['red', 'blue', 'green'][k % 3]};{weight};{'ab'[k % 2]}")
    (tmp_path / "data.csv").write_text("\n".join(lines))
    settings: dict[str, Any] = {
        "target": "kind",
        "kind": "classification",
        "separator": ";",
        "missing": "impute",
        "batch_size": 8,
    }
    task = csv_task(path=tmp_path / "data.csv", **settings)
    delivery = delivered(task, nn.Sequential(nn.Linear(*task.input_shape, 8), nn.ReLU(), nn.Linear(8, 2)))
    folder = export(delivery, tmp_path / "out")
    # New rows, in another order of columns, without the target.
    new = [line.split(";") for line in lines[1:9]]
    text = "weight;size;colour\n" + "\n".join(f"{row[2]};{row[0]};{row[1]}" for row in new)
    (tmp_path / "new.csv").write_text(text)
    computed = predictions(folder, tmp_path / "new.csv")
    features = task.preprocessing()["features"]  # type: ignore[index]
    names = [each["column"] for each in features]
    size, colour, weight = (features[names.index(name)] for name in ("size", "colour", "weight"))
    rows = []
    for row in new:
        value = 0.0 if row[2] == "?" else (float(row[2]) - weight["mean"]) / weight["deviation"]
        hot = [float(row[1] == each) for each in colour["categories"]]
        rows.append([(float(row[0]) - size["mean"]) / size["deviation"], *hot, value, float(row[2] == "?")])
    expected = outputs_of(delivery, torch.tensor(rows)).double().softmax(1)
    values = torch.tensor([list(each["probabilities"].values()) for each in computed], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-5)
    assert {each["class"] for each in computed} <= {"a", "b"}
    (tmp_path / "less.csv").write_text("size;colour\n1;red")
    assert "the column 'weight' is missing" in infer(folder, tmp_path / "less.csv").stderr
    # What the training refuses, and a number that is too large for the network; a cell of missing_values is missing.
    cells = ["NAN", "inf", "-Infinity", "1_000", "1e60", "x", "nan"]
    for number, cell in enumerate(cells):
        (tmp_path / f"{number}.csv").write_text(f"size;colour;weight\n\n1;red;1\n1;red;{cell}\n")
    (tmp_path / "twice.csv").write_text("size;colour;weight;size\n1;red;2;3")
    result = infer(folder, "--json", *(tmp_path / f"{number}.csv" for number in range(7)), tmp_path / "twice.csv")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    *errors, twice = result.stderr.splitlines()
    assert errors == [
        f"infer.py: {tmp_path / f'{number}.csv'}, line 4, column 'weight': {cell!r} is not a finite number"
        for number, cell in enumerate(cells[:-1])
    ]
    assert "the header has the column 'size' twice" in twice
    assert [Path(each["file"]).name for each in json.loads(result.stdout)] == ["6.csv", "6.csv"]
    # A colour of which the training knows nothing is not used, and that is said; none was missing in the training.
    (tmp_path / "pink.csv").write_text("size;colour;weight\n1;pink;1\n1;red;1\n1;Red;1")
    (tmp_path / "empty.csv").write_text("size;colour;weight\n1;?;1")
    result = infer(folder, "--json", tmp_path / "pink.csv", tmp_path / "empty.csv")
    pink, empty = result.stderr.splitlines()
    assert pink == (
        f"infer.py: warning: {tmp_path / 'pink.csv'}, column 'colour', line 2: 'pink', and 1 more: not in the training "
        "data, so the prediction is made without this value"
    )
    assert empty.endswith("line 2, column 'colour': the value is missing, and was never missing in the training data")
    rows = [[(1 - size["mean"]) / size["deviation"], 0.0, 0.0, 0.0, (1 - weight["mean"]) / weight["deviation"], 0.0]]
    values = torch.tensor([list(json.loads(result.stdout)[0]["probabilities"].values())], dtype=torch.float64)
    expected = outputs_of(delivery, torch.tensor(rows)).double().softmax(1)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-5)


def tokens() -> tuple[Task, nn.Module]:
    x, y = torch.randint(0, 7, (60, 5)), torch.randint(0, 3, (60,))
    return TensorTask(x, y, batch_size=8), nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3))


def segmentation() -> tuple[Task, nn.Module]:
    x, y = torch.randn(40, 1, 6, 6), torch.randint(0, 3, (40, 6, 6))
    return TensorTask(x, y, metrics=["mean_iou"], batch_size=8), nn.Conv2d(1, 3, 3, padding=1)


def regression() -> tuple[Task, nn.Module]:
    x = torch.randn(60, 4)
    return TensorTask(
        x, x.sum(1, keepdim=True) * 50 + 7, loss="mse", standardize_targets=True, batch_size=8
    ), nn.Linear(4, 1)


def labels() -> tuple[Task, nn.Module]:
    x = torch.randn(60, 4)
    return TensorTask(x, (x[:, :3] > 0).float(), loss="binary_cross_entropy", batch_size=8), nn.Linear(4, 3)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("make", [tokens, segmentation, regression, labels])
def test_arrays(make: Callable[[], tuple[Task, nn.Module]], tmp_path: Path) -> None:
    task, network = make()
    delivery = delivered(task, network)
    folder = export(delivery, tmp_path / "out")
    assert delivery.held_out is not None
    x = delivery.held_out[:4].flip(0)
    np.save(tmp_path / "new.npy", x.numpy())
    computed = predictions(folder, tmp_path / "new.npy")
    outputs = outputs_of(delivery, x)
    if make is segmentation:
        assert [each["classes"] for each in computed] == outputs.argmax(1).tolist()
        assert sum(computed[0]["shares"].values()) == pytest.approx(1)
        return
    np.savetxt(tmp_path / "new.csv", x.numpy(), delimiter=",", fmt="%.9g")
    assert [{**each, "file": ""} for each in predictions(folder, tmp_path / "new.csv")] == [
        {**each, "file": ""} for each in computed
    ]
    broken = {"nan": np.nan, "infinity": -np.inf, "large": 1e300, "strings": "x"}
    for name, value in broken.items():
        values = x.numpy().astype(object)
        values[2, 1] = value
        np.save(tmp_path / f"{name}.npy", values.astype(str if name == "strings" else np.float64))
    result = infer(folder, "--json", *(tmp_path / f"{name}.npy" for name in broken))
    assert (result.returncode, json.loads(result.stdout)) == (2, [])
    *errors, strings = [line.partition(".npy: ")[2] for line in result.stderr.splitlines()]
    assert errors == [
        f"{value} at the index [2, 1] is not a finite number of type {x.numpy().dtype}"
        for value in ("nan", "-inf", "1e+300")
    ]
    assert re.fullmatch(r"an array of <U\d+ instead of numbers", strings)
    if make is tokens:
        assert [each["class"] for each in computed] == [str(int(k)) for k in outputs.argmax(1)]
        np.save(tmp_path / "fractions.npy", x.numpy() + 0.5)
        assert "the network needs whole numbers" in infer(folder, tmp_path / "fractions.npy").stderr
    elif make is labels:
        assert [each["labels"] for each in computed] == [[str(k) for k in range(3) if row[k] > 0] for row in outputs]
    else:
        scale = task.outputs()["target_scale"]  # type: ignore[index]
        expected = outputs.double() * scale["deviation"][0] + scale["mean"][0]
        np.testing.assert_allclose([each["values"] for each in computed], expected.numpy(), rtol=1e-5)


class Overflow(nn.Module):
    """Infinite outputs for inputs that are themselves numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1e30


@pytest.mark.process
@pytest.mark.slow
def test_outputs_that_are_not_finite_are_no_predictions(tmp_path: Path) -> None:
    task, _ = regression()
    folder = export(delivered(task, nn.Sequential(Overflow(), nn.Linear(4, 1))), tmp_path / "out")
    values = np.ones((2, 4), np.float32)
    np.save(tmp_path / "right.npy", values)
    values[1] = 1e30
    np.save(tmp_path / "wrong.npy", values)
    result = infer(folder, "--json", tmp_path / "right.npy", tmp_path / "wrong.npy")
    assert result.returncode == 2 and len(json.loads(result.stdout)) == 2
    assert "wrong.npy: the outputs for input 1 (the first is 0) are not finite numbers" in result.stderr


class Branches(nn.Module):
    """Traced by torch.export, which follows a shape as a condition, and not by torch.fx."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.shape[-1] == 4 else x


@pytest.mark.process
@pytest.mark.slow
def test_a_network_without_source(tmp_path: Path) -> None:
    delivery = Delivery(Branches().eval(), Architecture({}), (4,))
    folder = export(delivery, tmp_path)
    assert not (folder / "network.py").exists()
    (note,) = delivery.notes
    assert "no network.py: torch.fx cannot record the forward of the network: Branches" in note
    assert "There is no `network.py`: the network cannot be written" in (folder / "README.md").read_text()
    assert "Branches" in json.loads((folder / "package.json").read_text())["source"]["reason"]
