"""``automl-nas init``: the configuration it writes for data of each kind is valid, and its smoke run passes."""

from __future__ import annotations

import os
import resource
import shlex
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import automl_nas.run
from automl_nas.cli import cli
from automl_nas.evaluation import full_batches
from automl_nas.plugin import Registry
from automl_nas.run import complete_manager, make_plan, parse_yaml, smoke_run


def _init(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["init", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


_written: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the plan that the command makes, for `_plan`: building networks a second time would check nothing."""
    _written.clear()

    def kept(config: Mapping[str, Any], registry: Registry) -> Any:
        plan = make_plan(config, registry)
        _written.update(config=config, plan=plan)
        return plan

    monkeypatch.setattr(automl_nas.run, "make_plan", kept)


@pytest.fixture
def task_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Construct only the task of a configuration, where others of the same kind of data are planned as a whole."""

    def plan(config: Mapping[str, Any], registry: Registry) -> Any:
        task = registry.construct("tasks", config["task"], path="task")
        _written.update(config=config, plan=SimpleNamespace(task=task, config=config))
        return _written["plan"]

    monkeypatch.setattr(automl_nas.run, "make_plan", plan)


def _plan(file: Path) -> Any:
    """Return the plan of the written configuration."""
    assert parse_yaml(file.read_text(), str(file)).value == _written["config"]
    return _written["plan"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _photographs(folder: Path, *, side: int, classes: int = 2, count: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class {label}").mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(0, 256, (side, side + 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class {label}" / f"{k}.png")
    return folder


@pytest.mark.parametrize(("side", "size"), [(8, 8), (30, 28), (200, 64)])
def test_the_image_size_follows_the_files(folder: Path, side: int, size: int) -> None:
    _init(_photographs(folder / "photos", side=side))
    plan = _plan(folder / "photos.yaml")
    assert plan.task.input_shape == (3, size, size)
    assert plan.task.num_classes == 2
    # At least 4 pixels are left after all strides: each halving rounds up.
    space = plan.config["space"]
    for stride in (space["stem_stride"], *space["strides"]):
        size = -(-size // stride)
    assert size >= 4


@pytest.mark.usefixtures("task_alone")
@pytest.mark.parametrize(("shape", "augment"), [((8, 8, 3), "shift"), ((28, 28), "shift"), ((28, 28, 3), "crop_flip")])
def test_image_files_are_augmented_as_arrays_are(folder: Path, shape: tuple[int, ...], augment: str) -> None:
    for k in range(24):
        file = folder / "photos" / f"class {k % 2}" / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(shape, 10 * k, np.uint8)).save(file)
    _init("photos")
    assert _plan(folder / "photos.yaml").config["task"]["augment"] == augment


def test_an_npz_file_with_the_names_of_keras(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 256, (count, 12, 12), dtype=np.uint8) for name, count in (("x_train", 60), ("x_test", 20))
    }
    np.savez(folder / "data.npz", y_train=np.arange(60) % 3, y_test=np.arange(20) % 3, **arrays)
    _init("data.npz")
    plan = _plan(folder / "data.yaml")
    assert (plan.task.input_shape, plan.task.num_classes, plan.task.size("test")) == ((1, 12, 12), 3, 20)


@pytest.mark.usefixtures("task_alone")
@pytest.mark.parametrize(
    ("shape", "augment"), [((60, 28, 28), "shift"), ((60, 32, 32, 3), "crop_flip"), ((60, 8, 8, 3), "shift")]
)
def test_only_coloured_images_that_are_not_small_are_mirrored(
    folder: Path, shape: tuple[int, ...], augment: str
) -> None:
    np.savez(folder / "data.npz", train_images=np.zeros(shape, np.uint8), train_labels=np.arange(60) % 3)
    _init("data.npz")
    assert _plan(folder / "data.yaml").config["task"]["augment"] == augment


@pytest.mark.parametrize(
    ("shape", "integers", "space"),
    [
        ((60, 5), False, "mlp"),
        ((60, 12), True, "token_cnn"),
        ((60, 2, 40), False, "signal_cnn"),
        ((60, 3, 16, 16), False, "shufflenet_v2"),
    ],
)
def test_arrays_x_and_y(folder: Path, shape: tuple[int, ...], integers: bool, space: str) -> None:
    x = np.random.default_rng(0).integers(0, 9, shape) if integers else np.random.default_rng(0).normal(size=shape)
    np.savez(folder / "data.npz", x=x, y=np.arange(60) % 3)
    _init("data.npz")
    plan = _plan(folder / "data.yaml")
    assert (plan.config["space"]["name"], plan.task.input_shape) == (space, shape[1:])
    # What the comments say about the lengths is what the run does.
    text = " ".join(line.lstrip("# ") for line in (folder / "data.yaml").read_text().splitlines())
    strategy, final = plan.config["stages"][0]["strategy"], plan.final.settings
    for split, epochs, words in (
        ("train", strategy["train"]["epochs"], "trained for {} iterations of"),
        (final.split, final.train.epochs, "trained from scratch for {} iterations,"),
    ):
        assert words.format(f"{epochs * full_batches(plan.final_task, split):,}") in text


@pytest.mark.usefixtures("task_alone")
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ((60, 3, 8, 9), [0, 1, 2], "Images of 3 channels, 8 x 9 pixels, 3 classes; metrics: accuracy, "),
        ((60, 1), [0, 1], "Tables of 1 feature, 2 classes; metrics: accuracy, "),
        ((60, 2, 40), [0.5, 1.5], "Signals of 2 x 40 (channels x length), one number to predict; metrics: rmse, "),
        ((60, 4), [[0.5, 1], [1.5, 2]], "Tables of 4 features, 2 numbers to predict; metrics: rmse, "),
    ],
)
def test_what_the_data_are_taken_as_is_printed(folder: Path, x: tuple[int, ...], y: Any, words: str) -> None:
    values = np.array(y)
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=x), y=values[np.arange(60) % len(values)])
    output = _init("data.npz").output
    assert f"data.npz: {words}" in output and "samples: 38 train, 10 search, 12 test; space: " in output


@pytest.mark.usefixtures("task_alone")
def test_tokens_are_printed_with_their_vocabulary_and_a_table_of_integers_is_suspected(folder: Path) -> None:
    x = np.random.default_rng(0).integers(0, 49_000, (60, 5))
    x[0, 0] = 49_000
    np.savez(folder / "data.npz", x=x, y=np.arange(60.0) % 3)
    output = _init("data.npz").output
    assert "data.npz: Sequences of 5 tokens, a vocabulary of 49,001, one number to predict; " in output
    assert output.count("warning: task arrays: 'x' holds integers") == 1
    assert output.count("warning: task arrays: 'y' has 3 different values, all whole") == 1


@pytest.mark.usefixtures("task_alone")
def test_the_next_commands_can_be_copied_whatever_the_name(folder: Path) -> None:
    rows = [f"{k / 7:.3f},{k * 1.25},{'ab'[k % 2]}" for k in range(60)]
    (folder / "sp ace's é.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    output = _init("sp ace's é.csv").output
    lines = [line.strip() for line in output.splitlines() if line.startswith("  automl-nas")]
    assert [shlex.split(line) for line in lines] == [
        ["automl-nas", "plan", "sp ace's é.yaml"],
        ["automl-nas", "run", "sp ace's é.yaml", "--smoke"],
        ["automl-nas", "run", "sp ace's é.yaml"],
    ]
    assert "target: c: the column to predict, a guess; other columns: a, b; --target names another one" in output


def test_an_npz_file_with_other_names_is_an_error(folder: Path) -> None:
    np.savez(folder / "data.npz", a=np.zeros(3))
    assert "holds the arrays a;" in _init("data.npz", code=2).output
    assert not (folder / "data.yaml").exists()


@pytest.mark.usefixtures("task_alone")
@pytest.mark.parametrize(
    ("header", "cell", "arguments", "target"),
    [
        ("a,kind,b", "kind", (), "b"),
        ("a,label,b", "label", (), "label"),
        ("a,kind,b", "kind", ("--target", "kind"), "kind"),
        ("a;target;b", "x", (), "target"),
    ],
)
def test_the_target_of_a_table(folder: Path, header: str, cell: str, arguments: tuple[str, ...], target: str) -> None:
    separator = ";" if ";" in header else ","
    rows = [separator.join([f"{k / 7:.3f}", f"{cell}{k % 3}", f"{k * 1.25}"]) for k in range(60)]
    (folder / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    _init("table.csv", *arguments)
    assert _plan(folder / "table.yaml").config["task"]["target"] == target


def test_missing_cells_are_imputed(folder: Path) -> None:
    rows = [f"{'' if k == 5 else k / 7:},{k % 3 + 0.5},{'ab'[k % 2]}" for k in range(60)]
    (folder / "table.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    _init("table.csv")
    assert _plan(folder / "table.yaml").config["task"]["missing"] == "impute"


@pytest.mark.usefixtures("task_alone")
def test_rows_without_a_target_are_dropped_and_nothing_is_said_of_other_cells(folder: Path) -> None:
    rows = [f"{k / 7},{'xy'[k % 2]},{'' if k == 17 else 'ab'[k % 2]}" for k in range(60)]
    (folder / "table.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    output = _init("table.csv").output
    assert "1 of 60 rows" in output and "line 19, column 'c'" in output
    task = _plan(folder / "table.yaml").task
    assert _written["config"]["task"]["missing"] == "drop"
    assert sum(task.size(split) for split in ("train", "search", "test")) == 59
    text = (folder / "table.yaml").read_text()
    assert "rows without a target are left out; no cell of the inputs is empty" in text and "mean" not in text
    # An empty cell of text is one of the inputs.
    rows[3] = rows[3].replace(",y,", ",,")
    (folder / "table.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    _init("table.csv", "--overwrite")
    assert _plan(folder / "table.yaml").config["task"]["missing"] == "impute"


def test_consent_to_leave_broken_files_and_small_classes_out(folder: Path) -> None:
    _photographs(folder / "photos", side=8, count=12)
    (folder / "photos" / "class 0" / "text.png").write_text("x")
    (folder / "photos" / "empty").mkdir()
    os.mkfifo(folder / "photos" / "class 1" / "pipe.png")  # whoever opens it waits for ever
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)  # 3.6 billion pixels, which Pillow refuses
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"0")), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    (folder / "photos" / "class 1" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    output = _init("photos", code=2).output
    assert "pipe.png: it is not an ordinary file" in output and "bomb.png: DecompressionBombError" in output
    assert "task.skip_broken: true" in output and "task.min_class_images: 12" in output
    assert not (folder / "photos.yaml").exists()
    output = _init("photos", "--set", "task.skip_broken=true", "--set", "task.min_class_images=2").output
    assert output.count("text.png: it is not an image") == 1
    config = _plan(folder / "photos.yaml").config
    assert (config["task"]["skip_broken"], config["task"]["min_class_images"]) == (True, 2)
    assert config["final"]["export"][0]["name"] == "package"
    assert "only settings of the task" in _init("photos", "--out", "b.yaml", "--set", "seed=3", code=2).output
    assert (
        "did you mean 'skip_broken'"
        in _init("photos", "--out", "b.yaml", "--set", "task.skip_brokn=true", code=2).output
    )


def _listed(folder: Path, header: str, rows: Callable[[int, str], str], count: int = 24) -> Path:
    """Write images, and a CSV file beside their folder that lists them."""
    _photographs(folder / "data" / "photos", side=8, count=count // 2)
    files = sorted((folder / "data" / "photos").rglob("*.png"))
    lines = [rows(k, str(file.relative_to(folder / "data"))) for k, file in enumerate(files)]
    (folder / "data" / "list.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "data" / "list.csv"


@pytest.mark.usefixtures("task_alone")
@pytest.mark.parametrize(
    ("header", "rows", "arguments", "classes", "labels"),
    [
        ("path,label", lambda k, file: f"{file},{'ab'[k % 2]}", (), ("a", "b"), 1),
        ("id,photo,kind,label", lambda k, file: f"{k},{file},x,{'ab'[k % 2]}", (), ("a", "b"), 1),
        ("id,photo,kind,site", lambda k, file: f"{k},{file},{'ab'[k % 2]},x", ("--target", "kind"), ("a", "b"), 1),
        ("path,flipped,old,label", lambda k, f: f"{f},{k % 2},{k // 2 % 2},{'ab'[k % 2]}", (), ("a", "b"), 1),
        ("file,cat,dog", lambda k, file: f"{file},{k % 2},{(k // 2) % 2}", (), ("cat", "dog"), 2),
        ("file,n,cat,dog", lambda k, f: f"{f},{k},{k % 2},{k // 2 % 2}", ("--target", "dog,cat"), ("dog", "cat"), 2),
        ("file,tags", lambda k, file: f"{file},{('x', 'x;y', 'y')[k % 3]}", (), ("x", "y"), 2),
    ],
)
def test_a_csv_file_of_images_from_any_working_directory(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: str,
    rows: Callable[[int, str], str],
    arguments: tuple[str, ...],
    classes: tuple[str, ...],
    labels: int,
) -> None:
    _listed(folder, header, rows)
    _init("data/list.csv", *arguments)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    config = parse_yaml((folder / "list.yaml").read_text(), "list.yaml").value
    task = complete_manager().registry.construct("tasks", config["task"], path="task")
    assert task.class_names == classes
    _, targets = next(task.scored_batches("test"))
    assert targets.dim() == labels
    assert sum(task.size(split) for split in ("train", "search", "test")) == 24


@pytest.mark.usefixtures("task_alone")
def test_a_guessed_column_of_classes_is_printed(folder: Path) -> None:
    file = _listed(folder, "path,flipped,old,label", lambda k, name: f"{name},{k % 2},{k // 2 % 2},{'ab'[k % 2]}")
    assert "label_columns: label: a guess; not used: flipped, old; --target names another one" in _init(file).output
    assert "a guess" not in _init(file, "--target", "flipped,old", "--overwrite").output


@pytest.mark.usefixtures("task_alone")
def test_paths_that_start_at_the_working_directory(folder: Path) -> None:
    file = _listed(folder, "path,label", lambda k, name: f"data/{name},{'ab'[k % 2]}")
    _init(file)
    assert _plan(folder / "list.yaml").config["task"]["images"] == str(folder)


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        ("path;label\na.png;x\nb.png;y\n", (), "with commas only"),
        ("path\na.png\nb.png\n", (), "at least two columns"),
        ("path,label\na.png,x\nb.png,y\n", (), "2 of 2 files cannot be read"),
        ("path,label\na.png,x\nb.png,y\n", ("--target", "kind"), "has no column 'kind'; it has label"),
    ],
)
def test_csv_files_of_images_that_cannot_be_used(
    folder: Path, text: str, arguments: tuple[str, ...], reason: str
) -> None:
    (folder / "list.csv").write_text(text)
    assert reason in _init("list.csv", *arguments, code=2).output
    assert not (folder / "list.yaml").exists()


@pytest.mark.slow
@pytest.mark.process
def test_the_smoke_run_of_a_written_configuration_passes(folder: Path) -> None:
    rows = [f"{k / 7:.3f},{k % 5},{'ab'[k % 2]}" for k in range(80)]
    (folder / "table.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    _init("table.csv")
    smoke = smoke_run(folder / "table.yaml")
    assert list(smoke.stages) == ["supernet", "search", "final"]
    assert "export/package/model.onnx" in smoke.exports


@pytest.mark.usefixtures("task_alone")
def test_an_existing_file_is_kept(folder: Path) -> None:
    (folder / "digits.yaml").write_text("mine")
    assert "digits.yaml exists" in _init(code=2).output
    assert (folder / "digits.yaml").read_text() == "mine"
    _init("--overwrite")
    assert _plan(folder / "digits.yaml").config["task"]["name"] == "digits"


@pytest.mark.usefixtures("task_alone")
def test_a_file_that_cannot_be_written_whole_is_not_there(folder: Path) -> None:
    """Files may have 1,000 bytes, less than the configuration has."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (folder / "old.yaml").write_text("mine")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        outputs = [_init("--out", "new.yaml", code=1).output, _init("--out", "old.yaml", "--overwrite", code=1).output]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot write new.yaml: File too large" in outputs[0] and "cannot write old.yaml" in outputs[1]
    assert [path.name for path in folder.iterdir()] == ["old.yaml"]
    assert (folder / "old.yaml").read_text() == "mine"


@pytest.mark.usefixtures("task_alone")
@pytest.mark.parametrize("line", ["# runtime: {threads: 2}"])
def test_the_commented_settings_are_valid(folder: Path, line: str) -> None:
    """The rest of the configuration for digits is planned with them."""
    _init()
    text = (folder / "digits.yaml").read_text()
    assert text.count(f"\n{line}\n") == 1 and "runtime" not in _written["config"]
    plan = make_plan(parse_yaml(text.replace(line, line[2:]), "digits.yaml").value, complete_manager().registry)
    assert plan.runtime.threads == 2


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "does not exist"),
        ("empty", "holds no images"),
        ("text.txt", "neither a folder"),
        ("bad.npz", "as an npz"),
    ],
)
def test_other_data_are_an_error(folder: Path, path: str, reason: str) -> None:
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("x")
    (folder / "bad.npz").write_text("x")
    assert reason in _init(path, code=2).output
    assert not list(folder.glob("*.yaml"))
