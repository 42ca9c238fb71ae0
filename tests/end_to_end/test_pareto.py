"""``final: {choose: pareto}``: several networks of one search are retrained, tested, exported and listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from end_to_end.runs import config, record
from safetensors.torch import load_file

import automl_nas
from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas_report.run_page import run_page

NETWORKS = 3


def settings(**final: Any) -> dict[str, Any]:
    """Return a search that measures costs only; most parameters with fewest operations is a trade-off."""
    return config(
        problem={
            "objectives": {"params": "maximize", "flops": "minimize"},
            "constraints": {"flops": "<= 0.9 * largest"},
        },
        stages=[{"name": "search", "strategy": "random", "budget": {"trials": 20}}],
        final={"choose": "pareto", "networks": NETWORKS, "train": {"epochs": 1}, "baselines": ["random"], **final},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> automl_nas.Result:
    return automl_nas.search(settings(), out=tmp_path_factory.mktemp("pareto") / "run")


def test_each_network_is_trained_tested_and_exported_to_a_folder_of_its_own(run: automl_nas.Result) -> None:
    final = run.final
    assert final is not None
    assert [each.network for each in final.deliveries] == [0, 1, 2]
    numbers = [trial.number for trial in run.pareto]
    assert len(numbers) > NETWORKS
    # The ends of the front come first.
    assert [network.trial for network in final.networks[:2]] == [numbers[0], numbers[-1]]
    assert all(network.test is not None for network in final.networks)
    for each in final.deliveries:
        files = [run.directory / name for name in each.files]
        assert [file.parent for file in files] == [run.export_folder(each.network)] * 2
        architecture = json.loads(files[1].read_text())["architecture"]
        assert architecture == final.networks[each.network].architecture.to_dict()
        trained = run.load_trained(each.network)
        exported = load_file(files[0])
        assert all(torch.equal(tensor, exported[name]) for name, tensor in trained.state_dict().items())
        (check,) = each.limits
        assert check.met and check.predicted == final.networks[each.network].costs["flops"]
    assert len(run.files) == 2 * NETWORKS
    assert run.architecture == final.networks[0].architecture
    assert json.dumps(final.to_json()) == json.dumps(run.data["final"])


def test_they_are_listed(run: automl_nas.Result) -> None:
    shown = CliRunner().invoke(cli, ["show", str(run.directory)]).output
    page = run_page(run.directory)
    for number in range(NETWORKS):
        assert f"{number}: found, trial" in shown
        assert f"network {number}, exported:" in shown
        assert f"Exported files of network {number}" in page
    assert "* delivered; the main one: 0" in shown
    assert page.count("(delivered") == NETWORKS
    assert run._repr_html_().count("exported") == 2 * NETWORKS


def test_any_of_them_is_exported_later(run: automl_nas.Result, tmp_path: Path) -> None:
    (path, _) = run.export("safetensors", out=tmp_path / "later", network=2)
    assert path.read_bytes() == (run.export_folder(2) / "model.safetensors").read_bytes()
    (again, _) = run.export("safetensors", network=2)  # the same files, so nothing is replaced
    assert again == run.export_folder(2) / "model.safetensors"
    with pytest.raises(RunFailedError, match=r"trained no network 7; it trained the networks 0, 1, 2, 3"):
        run.load_trained(7)


class Interrupts(Exporter):
    """Is interrupted at the second network until a file exists."""

    def __init__(self, *, go_on: str) -> None:
        self._go_on = Path(go_on)

    def export(self, delivery: Delivery, folder: Path) -> list[Path]:
        # The folder is empty and inside of that of the network, which is beside those of the networks before it.
        if len(list(folder.parents[1].iterdir())) == 2 and not self._go_on.exists():
            (folder / "half").touch()
            raise KeyboardInterrupt
        path = folder / "shapes.txt"
        path.write_text(str([tuple(value.shape) for value in delivery.network.state_dict().values()]))
        return [path]


@pytest.mark.slow
def test_a_run_that_is_interrupted_between_two_networks_ends_the_same(tmp_path: Path) -> None:
    mark = tmp_path / "go_on"
    raw = settings(
        export=[{"name": Interrupts, "go_on": str(mark)}],
        rehearse=False,
        networks=2,
        seeds=2,
        data="train",
        baselines=[],
    )
    with pytest.raises(automl_nas.errors.RunInterrupted):
        automl_nas.search(raw, out=tmp_path / "run")
    mark.touch()
    resumed = automl_nas.search(raw, out=tmp_path / "run", resume=True)
    undisturbed = automl_nas.search(raw, out=tmp_path / "other")
    assert record(resumed.directory) == record(undisturbed.directory)
    assert resumed.final is not None
    deliveries, networks = resumed.final.deliveries, resumed.final.networks
    assert [path.parent.name for path in resumed.files] == [f"network-{each.network}" for each in deliveries]
    # Of two trainings of a network the better one on the search split is delivered.
    for each in deliveries:
        own = networks[each.network]
        alike = [n.search for n in networks if n.role == "found" and n.architecture == own.architecture]
        accuracies = [scores["accuracy"] for scores in alike if scores is not None]
        assert len(accuracies) == 2
        assert own.search is not None and own.search["accuracy"] == max(accuracies)


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"top_k": 2}, "final.top_k", "networks limits their number"),
        ({"networks": 0}, "final.networks", "must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], path: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        automl_nas.search(settings(**changes), out=tmp_path / "run")
    assert caught.value.path == path


def test_a_front_needs_two_objectives(tmp_path: Path) -> None:
    raw = {**settings(), "problem": {"objectives": {"flops": "minimize"}}}
    with pytest.raises(ConfigurationError, match=r"needs two objectives or more, and the stage 'search' has one"):
        automl_nas.search(raw, out=tmp_path / "run")


def test_the_front_of_a_complete_run_is_retrained_later(run: automl_nas.Result, tmp_path: Path) -> None:
    """A search that delivered one network delivers several without a new search, and the other way round."""
    raw = {"choose": "best", "networks": 5, "train": {"epochs": 1}, "baselines": []}
    space = config()["space"]
    best = automl_nas.retrain(run.directory, out=tmp_path / "best", final=raw, space=space)
    assert best.final is not None and best.final.others == ()
    assert best.architecture == run.architecture
