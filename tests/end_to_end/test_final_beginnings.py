"""The final stage with a teacher and with initial weights."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from end_to_end.runs import record
from torch import nn

import automl_nas
from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.evaluation import Distillation
from automl_nas.plugin import NumbersLogged
from automl_nas.run.configuration.final_section import DistillSettings
from automl_nas.run.final.teacher import load_teacher
from automl_nas.space.operators import enumerate_all
from automl_nas.testing.toys import ToyCost, ToyEvaluator, ToySpace, ToyTask


def config(**final: Any) -> dict[str, Any]:
    return {
        "space": ToySpace(blocks=3),
        "task": ToyTask(train=64, search=32, test=32, batch_size=8),
        "problem": {"costs": {"toy_cost": ToyCost}, "constraints": {"toy_cost": "<= 2"}},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [
            {"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "budget": {"trials": 4}},
        ],
        "final": {"train": {"epochs": 2}, "iterations_per_step": 3, "export": [], **final},
        "checkpoint_seconds": 0.0,
    }


def test_the_largest_network_is_trained_first_and_teaches(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"distill": {"weight": 0.9}, "baselines": ["random"], "seeds": 2}
    result = automl_nas.search(config(**settings), out=tmp_path / "taught")
    plain = automl_nas.search(config(baselines=["largest"], seeds=2), out=tmp_path / "plain")
    assert result.final is not None and plain.final is not None
    assert [network.role for network in result.final.networks] == ["teacher", "found", "found", "random", "random"]
    teacher = result.final.networks[0]
    assert teacher.costs["toy_cost"] > 2  # the limit is one of the delivered network
    assert teacher.costs["toy_cost"] == max(
        ToyCost(ToySpace(blocks=3)).estimate(architecture)
        for architecture in enumerate_all(ToySpace(blocks=3).decisions)
    )
    assert result.final.delivered.role == "found"
    assert result.final.comparisons[0].role == "teacher"
    taught, alone = (
        safetensors.torch.load_file(tmp_path / run / "artifacts" / "final" / "weights.safetensors")
        for run in ("taught", "plain")
    )
    assert any(not torch.equal(tensor, alone[name]) for name, tensor in taught.items())

    def interrupt(event: NumbersLogged) -> None:
        signal.raise_signal(signal.SIGTERM)

    interrupted = 0
    for _ in range(100):
        try:
            automl_nas.search(
                config(**settings), out=tmp_path / "parts", resume=True, handlers={NumbersLogged: interrupt}
            )
            break
        except RunInterrupted:
            interrupted += 1
    assert interrupted > 10
    assert record(tmp_path / "parts") == record(tmp_path / "taught")


def test_the_largest_network_teaches_as_it_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers: list[dict[str, torch.Tensor]] = []
    build = ToySpace.build

    def taught(self: Distillation, inputs: torch.Tensor) -> torch.Tensor:
        teachers.append({name: tensor.clone() for name, tensor in self.teacher.state_dict().items()})
        return outputs(self, inputs)

    outputs = Distillation.outputs
    monkeypatch.setattr(Distillation, "outputs", taught)
    monkeypatch.setattr(ToySpace, "build", lambda space, architecture: filled(build(space, architecture)))
    result = automl_nas.search(config(distill={"teacher": "built"}), out=tmp_path / "run")
    assert result.final is not None
    assert [network.role for network in result.final.networks] == ["found"]  # the teacher is neither trained nor tested
    space = ToySpace(blocks=3)
    largest = max(enumerate_all(space.decisions), key=ToyCost(space).estimate)
    expected = filled(space.build(largest)).state_dict()
    assert teachers
    for each in teachers:
        assert each.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in each.items())


def filled(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    return network


def five_classes() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5))


def three_classes() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def colours() -> nn.Module:
    return nn.Conv2d(3, 3, 1)


def test_a_run_or_a_function_gives_the_teacher(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    safetensors.torch.save_file(three_classes().state_dict(), file)
    distill = {"teacher": f"{__name__}:three_classes", "weights": str(file)}
    result = automl_nas.search(config(distill=distill), out=tmp_path / "run")
    assert result.final is not None
    assert [network.role for network in result.final.networks] == ["found"]
    objects = {"space": ToySpace(blocks=3), "task": ToyTask(), "evaluator": ToyEvaluator, "cost_model": ToyCost}
    with pytest.raises(ConfigurationError, match=r"names '.*:three_classes'.*If you trust the run directory"):
        _ = automl_nas.open_run(tmp_path / "run", **objects).plan
    # A run whose space is a Python object cannot be opened without the object.
    with pytest.raises(ConfigurationError, match="no teacher can be loaded from this run") as caught:
        automl_nas.search(config(distill={"teacher": str(tmp_path / "run")}), out=tmp_path / "other")
    assert caught.value.path == "final.distill.teacher"


def test_the_delivered_network_of_a_run_is_the_teacher(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{x},{y},{'ab'[x * y % 2]}" for x in range(12) for y in range(12)]
    table.write_text("\n".join(["x,y,z", *rows]))
    raw: dict[str, Any] = {
        "task": {"name": "csv", "path": str(table), "target": "z", "batch_size": 16},
        "space": "mlp",
        "problem": {"costs": ["params"], "objectives": {"params": "minimize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": "random", "budget": {"trials": 2}}],
        "final": {"train": {"epochs": 1}, "export": []},
    }
    first = automl_nas.search(raw, out=tmp_path / "first")
    teacher = load_teacher(DistillSettings(teacher=str(tmp_path / "first")))
    trained = first.load_trained().state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in teacher.state_dict().items())
    raw["final"]["distill"] = {"teacher": str(tmp_path / "first")}
    assert automl_nas.search(raw, out=tmp_path / "second").final is not None
    # The classes are called b and c: class 0 of the task is class 1 of the teacher.
    table.write_text(table.read_text().replace(",a\n", ",c\n"))
    with pytest.raises(
        ConfigurationError, match=r"with other names: class 0 is 'a', and that of the task 'b'"
    ) as caught:
        automl_nas.search(raw, out=tmp_path / "third")
    assert caught.value.path == "final.distill.teacher" and not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("final", "path", "message"),
    [
        ({"distill": {"teacher": f"{__name__}:five_classes"}}, "teacher", r"\(2, 5\).*\(2, 3\)"),
        ({"distill": {"teacher": f"{__name__}:colours"}}, "teacher", "does not accept samples of the task"),
        ({"distill": {"teacher": f"{__name__}:missing"}}, "teacher", "cannot import the teacher"),
        ({"distill": {"teacher": "nowhere"}}, "teacher", "is not a run directory"),
        ({"distill": {"weight": 0.0}}, "weight", "above 0"),
        ({"distill": {"temperature": 0.0}}, "temperature", "positive"),
        ({"distill": {"weights": "file"}}, "weights", "only a teacher that a function returns"),
        ({"initial_weights": {"file": "nowhere.safetensors"}}, "", "cannot read"),
    ],
)
def test_teachers_and_weights_that_do_not_fit_are_refused_before_the_run(
    final: dict[str, Any], path: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=re.compile(message, re.DOTALL)) as caught:
        automl_nas.search(config(**final), out=tmp_path / "run")
    assert caught.value.path == (f"final.distill.{path}" if path else "final.initial_weights")
    assert not (tmp_path / "run").exists()


def test_the_final_networks_begin_with_the_initial_weights(tmp_path: Path) -> None:
    """Without a learning rate to speak of, they are also what is delivered."""
    automl_nas.search(config(), out=tmp_path / "first")
    weights = tmp_path / "first" / "artifacts" / "final" / "weights.safetensors"
    frozen = {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0, "momentum": 0.0}
    initial = {"file": str(weights), "strict": False}
    automl_nas.search(config(train=frozen, initial_weights=initial), out=tmp_path / "second")
    first, second = (
        safetensors.torch.load_file(tmp_path / run / "artifacts" / "final" / "weights.safetensors")
        for run in ("first", "second")
    )
    assert first.keys() == second.keys()
    assert all(
        torch.equal(tensor, second[name])
        for name, tensor in first.items()
        if tensor.is_floating_point() and "running" not in name
    )
    with pytest.raises(ConfigurationError, match="which are other weights to begin with"):
        automl_nas.search(config(weights="inherited", initial_weights=initial), out=tmp_path / "third")


def test_a_batch_of_the_final_stage_may_be_larger_than_the_training_split_of_the_search(tmp_path: Path) -> None:
    """64 samples are trained on in the search, and 96 in the final stage."""

    def task(batch_size: int) -> ToyTask:
        return ToyTask(train=64, search=32, test=32, batch_size=batch_size)

    result = automl_nas.search(config(task=task(80)), out=tmp_path / "run")
    assert result.final is not None and result.final.delivered.test
    for changes in ({"task": task(97)}, {"task": task(80), "data": "train"}):
        with pytest.raises(ConfigurationError, match="has no full batch; use a smaller batch size") as caught:
            automl_nas.search(config(**changes), out=tmp_path / "other")
        assert caught.value.path == "final.task.batch_size"
        assert not (tmp_path / "other").exists()
