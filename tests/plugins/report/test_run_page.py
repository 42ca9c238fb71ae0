"""The report of a run: what it says is what the run recorded; it is safe, small, and exists for every state."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from plugins.report.conftest import log, trial, written_run
from plugins.report.pages import Page

import automl_nas
from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, DamagedError, RunDirectoryError, RunFailedError
from automl_nas.evaluation import State
from automl_nas.space import Architecture
from automl_nas.strategy import Trial
from automl_nas_gradient import DartsSpace, search_finished
from automl_nas_gradient.space import PUBLISHED
from automl_nas_report.pictures import MOST_BYTES, MOST_PICTURES
from automl_nas_report.run_page import run_page
from automl_nas_report.tallies import tally
from automl_nas_report.writing import write_page


def _page(path: Path) -> Page:
    page = Page(run_page(path))
    page.check()
    return page


def test_a_complete_run(complete: Path) -> None:
    result, page = automl_nas.open_run(complete), _page(complete)
    final = result.final
    assert final is not None
    words = page.words
    for network in final.networks:
        assert network.test is not None
        low, high = network.test_interval["accuracy"]
        assert f"{network.test['accuracy']:.4f} [{low:.4f}, {high:.4f}]" in words
    assert "minimize flops; minimize params; flops <= 0.9 * largest" in words
    for heading in (
        "What was asked",
        "What was found",
        "Confusion matrix",
        "Curves",
        "How to reproduce",
        "Environment",
    ):
        assert heading in words
    assert "export/model.safetensors" in words
    assert f"automl-nas run {complete / 'config.yaml'} --out NEW" in words
    assert "12" in words and "flops (multiply-adds)" in words
    matrix = final.delivered.details["confusion_matrix"]
    assert sum(map(sum, matrix)) == 360  # the test images of scikit-learn's digits
    cells = [attrs for tag, attrs in page.tags if tag == "td" and "rgba" in (attrs.get("style") or "")]
    assert len(cells) == 100
    # Every convolution and the classifier of the delivered network is a layer of the drawing.
    network = result.build()
    import torch

    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    drawn = page.count("rect", "layer conv") + page.count("rect", "layer linear")
    assert drawn == len(layers)


def test_the_report_is_a_file_and_the_run_is_unchanged(complete: Path, tmp_path: Path) -> None:
    def state() -> dict[str, str]:
        files = (file for file in sorted(complete.rglob("*")) if file.is_file())
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    before = state()
    out = tmp_path / "page.html"
    outcome = CliRunner().invoke(cli, ["report", str(complete), "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output == f"report: {out}\n"
    assert state() == before
    Page(out.read_text(encoding="utf-8")).check()
    copy = tmp_path / "copy"
    shutil.copytree(complete, copy)
    assert CliRunner().invoke(cli, ["report", str(copy)]).exit_code == 0
    assert (copy / "report.html").is_file()
    assert automl_nas.open_run(copy).found


def test_an_interrupted_run(tmp_path: Path) -> None:
    trials = [trial(0, 0.5, 4), trial(1, 0.7, 9, violations={"size <= 5": 0.8}), trial(2, 0.6, 3, "b")]
    path = written_run(tmp_path / "run", trials)
    page = _page(path)
    assert "interrupted at stage “search”" in page.words
    assert f"automl-nas resume {path}" in page.words
    assert "3 of 10" in page.words and "1 infeasible" in page.words
    assert "0.6000 accuracy of the best trial" in page.words  # trial 1 is better but misses its limit
    assert page.count("circle", "missed") == 2  # in both charts
    assert "Confusion matrix" not in page.words


def test_runs_with_nothing_to_show(tmp_path: Path) -> None:
    assert "No feasible network was found so far" in _page(written_run(tmp_path / "none", [])).words
    failed = [
        Trial(k, Architecture({"op": "a"}), state=State.FAILED, stage="search", error="out of memory") for k in range(3)
    ]
    page = _page(written_run(tmp_path / "failed", failed))
    assert "3 \u00d7 out of memory" in page.words
    odd = [trial(0, math.nan, math.inf), trial(1, math.inf, math.nan), trial(2, 1e308, 1e-320), trial(3, -1e308, 0.0)]
    _page(written_run(tmp_path / "odd", odd))
    _page(written_run(tmp_path / "single", [trial(0, 0.5, 1.0)]))


HOSTILE = "</title></svg><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}{% raw %}\x00\u2028"


def test_derived_cells_are_drawn(tmp_path: Path) -> None:
    """The page holds the files themselves, which name every operation of the published cells."""
    path = written_run(tmp_path / "run", [trial(0, 0.5, 1.0)])
    genotype = PUBLISHED["DARTS_V2"]
    best = SimpleNamespace(architecture=DartsSpace().architecture(genotype))
    run = SimpleNamespace(directory=path, config={"space": {"name": "darts_cells"}})
    search_finished(run, SimpleNamespace(best=best))  # type: ignore[arg-type]
    images = [attrs for tag, attrs in _page(path).tags if tag == "img"]
    assert [attrs["alt"] for attrs in images] == ["cells/normal.svg", "cells/reduce.svg"]
    for attrs, plan in zip(images, (genotype.normal, genotype.reduce), strict=True):
        content = base64.b64decode(str(attrs["src"]).partition(",")[2])
        assert content == (path / str(attrs["alt"])).read_bytes()
        assert all(f">{name}<" in content.decode() for node in plan.nodes for name, _ in node)


def test_pictures_are_limited(tmp_path: Path) -> None:
    path = written_run(tmp_path / "run", [trial(0, 0.5, 1.0)])
    assert "Pictures" not in _page(path).words
    (path / "lambda" / "a.svg").mkdir(parents=True)
    (path / "lambda" / "b.svg").write_bytes(b" " * (MOST_BYTES + 1))
    for number in range(MOST_PICTURES + 1):
        (path / "lambda" / f"c{number}<script>.svg").write_text("<svg><script>alert(1)</script></svg>")
    page = _page(path)
    assert page.count("img") == MOST_PICTURES
    assert "3 more pictures are left out" in page.words
    assert "alert" not in page.html


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    problem = {"objectives": {HOSTILE: "maximize"}, "constraints": {HOSTILE + "2": "<= 5"}}
    trials = [
        Trial(
            number,
            Architecture({HOSTILE: HOSTILE}),
            {HOSTILE: 0.1 * number},
            {HOSTILE + "2": float(number)},
            stage=HOSTILE,
        )
        for number in range(3)
    ]
    trials.append(Trial(3, Architecture({HOSTILE: HOSTILE}), state=State.FAILED, stage=HOSTILE, error=HOSTILE))
    clean = HOSTILE.replace("\x00", "")
    path = written_run(
        tmp_path / "<script>alert(2)<" / "script>",
        trials,
        problem=problem,
        stages=[{"name": HOSTILE, "strategy": {"name": clean}}],
    )
    log(path, [{"stage": HOSTILE, "step": step, HOSTILE: 0.5 * step} for step in range(3)])
    page = _page(path)
    assert page.html.count("alert(") > 10
    assert "{{ 7 * 7 }}" in page.words and "49}" not in page.words
    assert page.count("script") == page.count("img") == 0


def test_forged_details_are_not_shown_as_a_matrix(tmp_path: Path, complete: Path) -> None:
    forgeries = [
        {"confusion_matrix": [[1, 2], [3]], "classes": ["a", "b"]},
        {"confusion_matrix": [["<b>", 1], [1, 1]], "classes": ["a", "b"]},
        {"confusion_matrix": [[1, 1], [1, 1]], "classes": "ab"},
        {"confusion_matrix": {"a": 1}, "classes": ["a"], "support": {"a": 1}, "recall": [None]},
        {"classes": ["a", 5], "recall": ["<script>", None], "more": {"<script>": "x" * 100_000}},
    ]
    for number, details in enumerate(forgeries):
        copy = tmp_path / str(number)
        shutil.copytree(complete, copy)
        content = json.loads((copy / "result.json").read_text())
        del content["crc"]
        content["final"]["networks"][content["final"]["chosen"]]["details"] = details
        (copy / "result.json").write_text(json.dumps(content))
        page = _page(copy)
        assert not any("rgba" in (attrs.get("style") or "") for _, attrs in page.tags)
        assert len(page.html) < 400_000


@pytest.mark.slow
def test_thousands_of_trials_make_a_small_page(tmp_path: Path) -> None:
    count = 4_000
    trials = [
        Trial(
            number,
            Architecture({f"layer{k}": (number * (k + 3)) % 7 for k in range(70)}),
            {"accuracy": math.sin(number) / 2 + number / count},
            {"size": float(number % 997), "time": math.cos(number)},
            stage="search",
        )
        for number in range(count)
    ]
    page = _page(written_run(tmp_path / "run", trials))
    assert len(page.html) < 1_500_000
    assert "4,000 trials are drawn" in page.words
    assert "10 more decisions are left out" in page.words


def test_what_is_not_a_run_or_is_damaged(tmp_path: Path, complete: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        run_page(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(complete, copy)
    (copy / "environment.json").write_text("{")
    assert "Environment" not in _page(copy).words
    weights = copy / "artifacts" / "final" / "weights.safetensors"
    weights.write_bytes(b"nonsense")
    _page(copy)
    (copy / "result.json").write_text("[]")
    with pytest.raises(DamagedError, match=r"result\.json"):
        run_page(copy)


def test_a_space_that_is_not_registered_is_not_imported(tmp_path: Path, complete: Path) -> None:
    """The drawing then shows the saved tensors."""
    copy = tmp_path / "copy"
    shutil.copytree(complete, copy)
    config = (copy / "config.yaml").read_text()
    lines = [line for line in config.splitlines() if not line.startswith("# crc")]
    (copy / "config.yaml").write_text("\n".join(lines).replace("name: shufflenet_v2", "name: evil_module:Evil") + "\n")
    page = _page(copy)
    assert "The network cannot be constructed here" in page.words
    assert page.count("rect", "layer conv") > 3


def test_where_the_file_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        write_page(tmp_path, "")
    with pytest.raises(ConfigurationError, match="does not exist; create it first"):
        write_page(tmp_path / "no" / "page.html", "")
    generator = '<meta name="generator" content="automl_nas report">'
    write_page(tmp_path / "page.html", generator)
    write_page(tmp_path / "page.html", f"{generator}caf\udce9")
    assert (tmp_path / "page.html").read_text() == f"{generator}caf?"

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("automl_nas.run.record.atomic_files.os.fsync", full)
    with pytest.raises(RunFailedError, match=r"the disk is full; free some space, or write to another disk with --out"):
        write_page(tmp_path / "page.html", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("page.html", f"{generator}caf?")]
    (tmp_path / "page.html").write_text("<html>my own page</html>")
    with pytest.raises(ConfigurationError, match="exists and is not a report"):
        write_page(tmp_path / "page.html", generator)
    assert (tmp_path / "page.html").read_text() == "<html>my own page</html>"


def test_tallies_are_counts_and_means() -> None:
    trials = [trial(0, 0.25, 1, "a"), trial(1, 0.75, 1, "a"), trial(2, 0.6, 1, "b"), trial(3, math.nan, 1, "c")]
    trials.append(Trial(4, Architecture({"op": "b", "edges": ("x", "y")}), {"accuracy": 0.2}, stage="search"))
    options, more = tally(trials, "accuracy", "maximize", {"op": "b"})
    assert more == 0
    assert [(o.option, o.drawn, o.mean, o.delivered) for o in options["op"]] == [
        ("a", 2, 0.5, False),
        ("b", 2, 0.4, True),
        ("c", 1, None, False),
    ]
    assert [(o.option, o.drawn) for o in options["edges"]] == [("x", 1), ("y", 1)]
    assert [o.option for o in tally(trials, "accuracy", "minimize")[0]["op"]] == ["b", "a", "c"]
