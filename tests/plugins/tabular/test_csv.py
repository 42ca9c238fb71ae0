"""The task `csv`: what is inferred, standardised and refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

import automl_nas
from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import Task
from automl_nas.testing import TaskContract
from automl_nas_tabular.csv_task import csv_task


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def write_wine(folder: Path) -> Path:
    x, y = load_wine(return_X_y=True)
    names = [*(f"f{k}" for k in range(x.shape[1])), "kind"]
    rows = [",".join([*map(repr, row.tolist()), f"wine {label}"]) for row, label in zip(x, y, strict=True)]
    return write(folder, "\n".join([",".join(names), *rows]))


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wine(tmp_path_factory.mktemp("data"))


class TestCsv(TaskContract):
    def make_task(self) -> Task:
        return csv_task(path=write_wine(self.folder()), target="kind", kind="classification", batch_size=16)


def test_numbers_are_standardised_by_the_training_split_as_scikit_learn_does(wine: Path) -> None:
    task = csv_task(path=wine, target="kind", kind="classification")
    x, y = load_wine(return_X_y=True)
    parts = {split: next(task.scored_batches(split)) for split in ("train", "search", "test")}
    described = task.report(lambda inputs: torch.zeros(len(inputs), 3), "test").details["preprocessing"]
    assert described == task.preprocessing() and described["input"] == "table" and task.class_names is not None
    features = described["features"]
    mean, deviation = (np.array([feature[key] for feature in features]) for key in ("mean", "deviation"))
    raw = parts["train"][0].numpy() * deviation + mean
    scaler = StandardScaler().fit(raw)
    assert scaler.mean_ == pytest.approx(mean, rel=1e-4) and scaler.scale_ == pytest.approx(deviation, rel=1e-4)
    everything = np.concatenate([part[0].numpy() for part in parts.values()]) * deviation + mean
    order = np.lexsort(everything.T.round(2)), np.lexsort(x.T.round(2))
    assert everything[order[0]] == pytest.approx(x[order[1]], rel=1e-3)
    labels = np.concatenate([part[1].numpy() for part in parts.values()])
    assert np.bincount(labels).tolist() == np.bincount(y).tolist()


@pytest.mark.parametrize("value", [0.1, 123.456, -7.0])
def test_a_constant_column_becomes_0_and_another_number_stays_small(tmp_path: Path, value: float) -> None:
    rows = [[str(value), str(row), "ab"[row % 2]] for row in range(201)]

    def make() -> tuple[Task, Any]:
        text = "\n".join(map(",".join, [["rate", "row", "kind"], *rows]))
        task = csv_task(path=write(tmp_path, text), target="kind", kind="classification")
        rule = task.preprocessing()
        assert rule is not None
        return task, rule["features"]

    task, (rate, numbered) = make()
    scaler = StandardScaler().fit(np.full((129, 1), value))
    assert rate == {"column": "rate", "mean": value, "deviation": scaler.scale_[0], "missing": False}
    parts = {split: next(task.scored_batches(split))[0] for split in ("train", "search", "test")}
    assert not any(inputs[:, 0].any() for inputs in parts.values())
    # A row of the test split gets another number; splits are the same, since they depend on the classes alone.
    row = round(float(parts["test"][3, 1]) * numbered["deviation"] + numbered["mean"])
    rows[row][0] = str(value + 0.5)
    inputs = next(make()[0].scored_batches("test"))[0]
    assert inputs[3, 0] == pytest.approx(scaler.transform([[value + 0.5]])[0, 0], rel=1e-6)
    assert inputs[:, 0].count_nonzero() == 1


SMALL = "age,job,label,y\n" + "".join(f"{20 + k},{'clerk' if k % 2 else 'cook'},{k % 2},{k * 1.5}\n" for k in range(40))


@pytest.mark.parametrize(
    ("target", "kind", "metric"),
    [
        ("label", "classification", "accuracy"),
        ("job", "classification", "accuracy"),
        ("y", "regression", "rmse"),
        (["y", "age"], "regression", "rmse"),
    ],
)
def test_the_kind_is_inferred_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: Any, kind: str, metric: str
) -> None:
    with caplog.at_level(logging.WARNING):
        task = csv_task(path=write(tmp_path, SMALL), target=target, batch_size=8)
    assert f": {kind}; set kind" in caplog.text
    assert next(iter(task.metrics)) == metric


def test_labels_are_inferred_from_columns_of_0_and_1(tmp_path: Path) -> None:
    text = "a,b,c\n" + "".join(f"{k % 2},{k // 2 % 2},{k}\n" for k in range(40))
    task = csv_task(path=write(tmp_path, text), target=["a", "b"], batch_size=8)
    assert "average_precision" in task.metrics and task.num_classes == 2 and task.input_shape == (1,)


def test_text_is_one_hot_and_missing_values_have_a_feature(tmp_path: Path) -> None:
    text = SMALL.replace("21,clerk", ",clerk").replace("30,cook", "30,?")
    task = csv_task(path=write(tmp_path, text), target="y", kind="regression", missing="impute", ignore=("label",))
    assert task.input_shape == (4,)  # age, age is missing, clerk, cook
    inputs = torch.cat([next(task.scored_batches(split))[0] for split in ("train", "search", "test")])
    assert inputs[:, 1].sum() == 1 and inputs[inputs[:, 1] == 1, 0] == 0
    assert sorted(inputs[:, 2:].sum(1).tolist()) == [0.0] + [1.0] * 39
    dropped = csv_task(path=write(tmp_path, text), target="y", kind="regression", missing="drop")
    assert sum(dropped.size(split) for split in ("train", "search", "test")) == 38


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (SMALL.replace("21,clerk", ",clerk"), {}, r"table.csv, line 3, column 'age': the value is missing"),
        (SMALL.replace("25,clerk", "2S,clerk"), {}, r"line 7, column 'age': '2S' is not a finite number"),
        (SMALL.replace("25,clerk", "inf,clerk"), {}, r"line 7, column 'age': 'inf' is not a finite number"),
        (SMALL.replace("25,clerk", "25,clerk,1"), {}, "line 7: 5 cells, but the header has 4 columns"),
        (SMALL, {"target": "lable"}, "task.target: .* has no column 'lable'; did you mean 'label'"),
        (SMALL, {"ignore": ("x",)}, "task.ignore: .* has no column 'x'"),
        (SMALL.replace("age", "job"), {}, "the header has the column 'job' twice"),
        ("", {}, "0 columns in its first line"),
        ("a,b\n", {"target": "a"}, "has no rows below its header"),
        (SMALL, {"separator": ";"}, r"has 1 columns in its first line.*the line contains ',': set task.separator"),
        ("a,b\n1,x\n2,x\n", {"target": "b"}, "column 'b': every row is 'x', and classification needs two"),
        (SMALL.replace("25,clerk", "25,king"), {"target": "job"}, r"table\.csv, column .job.: class .king. has 1"),
        (SMALL, {"categories": ("age",), "most_categories": 5}, "'age': .. different strings, more than"),
        (SMALL, {"target": "job", "kind": "regression"}, "'job': regression needs numbers, .*'cook' in line 2"),
        (SMALL, {"target": ["y"], "kind": "multilabel"}, "line 3, column 'y': a label must be 0 or 1, not 1.5"),
        (SMALL.replace("0.0\n", "\n"), {"target": "y"}, "line 2, column 'y': the value is missing"),
        ("a,b\n" + "1,9007199254740993\n2,3\n" * 20, {"target": "b"}, "line 2, column 'b': the class 90071992547409"),
        ("a;b\n" + "".join(f"{k},25;{k % 2}\n" for k in range(80)), {"target": "b", "separator": ";"},
         r"'a' is read as text; most cells look like .* decimal comma, such as '0,25' in line 2: write them with"),
        ("a;b\n" + "".join(f"{k};-0,{k}\n" for k in range(80)),
         {"target": "b", "separator": ";", "kind": "regression"},
         r"'b': regression needs numbers, .*'-0,0' in line 2; most cells look like numbers with a decimal comma"),
        (SMALL, {"target": ["age", "job", "label", "y"]}, "has no columns besides target"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_refused_with_line_and_column(
    tmp_path: Path, text: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        csv_task(**{"path": write(tmp_path, text), "target": "label", "kind": "classification", **settings})


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["1000002", "1000001"], ("1000001", "1000002")),
        (["0.1234567", "0.1234568", "-2.0"], ("-2", "0.1234567", "0.1234568")),
        (["1e6", "1000001"], ("1000000", "1000001")),
        (["01", "1"], ("1",)),
    ],
)
def test_classes_that_are_numbers_have_different_names(
    tmp_path: Path, cells: list[str], names: tuple[str, ...]
) -> None:
    labels = [cells[k % len(cells)] for k in range(60)] + ["3"] * 20
    path = write(tmp_path, "a,y\n" + "".join(f"{k},{label}\n" for k, label in enumerate(labels)))
    task = csv_task(path=path, target="y", kind="classification", batch_size=8)
    assert task.class_names is not None and sorted(task.class_names) == sorted([*names, "3"])
    # As numbers, the names are what NumPy reads from the file, in the order of the classes.
    read = np.loadtxt(path, delimiter=",", skiprows=1)[:, 1]
    assert [float(name) for name in task.class_names] == np.unique(read).tolist()
    exact = csv_task(path=path, target="y", kind="classification", categories=("y",), batch_size=8)
    assert exact.class_names == tuple(sorted({*cells, "3"}))


def test_rows_that_are_left_out_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = SMALL.splitlines()
    lines[17], lines[30], lines[5] = "36,clerk,1,", "49,cook,0,?", ",clerk,0,6.0"
    path = write(tmp_path, "\n".join(lines))
    for missing, count, place in (("impute", 2, "line 18, column 'y'"), ("drop", 3, "line 6, column 'age'")):
        caplog.clear()
        task = csv_task(path=path, target="y", kind="regression", missing=missing)  # type: ignore[arg-type]
        assert f"{count} of 40 rows of {path} are left out" in caplog.text and f"first is {place}" in caplog.text
        assert sum(task.size(split) for split in ("train", "search", "test")) == 40 - count
    caplog.clear()
    csv_task(path=write(tmp_path, SMALL), target="y", kind="regression", missing="drop")
    assert not caplog.text


def test_few_strings_with_a_decimal_comma_are_categories_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "a;b\n" + "".join(f"{k % 4},5;{k % 2}\n" for k in range(80)))
    settings: dict[str, Any] = {"path": path, "target": "b", "kind": "classification", "separator": ";"}
    assert csv_task(**settings).input_shape == (4,)
    assert "column 'a' is read as text, with 4 categories; most cells look like numbers with a dec" in caplog.text
    caplog.clear()
    csv_task(**settings, categories=("a",))
    assert not caplog.text


def test_a_missing_file_and_binary_content_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv does not exist; set path to a CSV file"):
        csv_task(path=tmp_path / "none.csv", target="a")
    os.mkfifo(tmp_path / "pipe.csv")  # whoever opens it waits for ever
    with pytest.raises(DataError, match=r"pipe\.csv is not an ordinary file"):
        csv_task(path=tmp_path / "pipe.csv", target="a")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00\x01" * 20)
    with pytest.raises(DataError, match="cannot be read as a CSV file"):
        csv_task(path=tmp_path / "table.csv", target="a")
    with pytest.raises(ConfigurationError, match="separator one character"):
        csv_task(path=write(tmp_path, SMALL), target="label", separator=", ")


@pytest.mark.slow
def test_a_table_is_searched_without_code(tmp_path: Path, wine: Path) -> None:
    result = automl_nas.search(
        task={"name": "csv", "path": str(wine), "target": "kind", "kind": "classification", "batch_size": 16},
        space={"name": "mlp", "width": 16, "blocks": 2},
        stages=[
            {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 3, "learning_rate": 0.05}}},
            {"name": "search", "strategy": "random", "evaluator": "inherited", "budget": {"trials": 3}},
        ],
        final={"train": {"epochs": 20, "learning_rate": 0.05}, "export": ["safetensors"]},
        runtime={"threads": 1},
        out=tmp_path / "run",
    )
    assert result.metrics["accuracy"] > 0.9  # of three classes, the largest is 40 % of the rows
    assert result.final is not None
    details = result.final.delivered.details
    assert details["classes"] == ["wine 0", "wine 1", "wine 2"] and sum(details["support"]) == result.plan.task.size(
        "test"
    )
