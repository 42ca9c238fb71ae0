"""Formats that cannot hold the networks of a space are refused before the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import automl_nas
from automl_nas import ModuleSpace, OneOf
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.final.rehearsal import MAX_NETWORKS, covering, rehearse_export
from automl_nas.space import Architecture, Choice, Decision, Ordinal, SearchSpace, Subset
from automl_nas.testing import ToySpace


class Decisions(SearchSpace):
    """A space of given decisions; its networks are not needed."""

    def __init__(self, **decisions: Decision) -> None:
        self._decisions = decisions

    @property
    def decisions(self) -> dict[str, Decision]:
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3,)

    def build(self, architecture: Architecture) -> nn.Module:
        raise NotImplementedError


FOUR = ("conv3", "conv5", "pool", "skip")


@pytest.mark.parametrize(
    ("decisions", "count"),
    [
        ({f"layer{n}": Choice(FOUR) for n in range(20)}, 1),
        ({f"layer{n}": Choice(FOUR) for n in range(3)}, 2),
        ({"one": Choice(FOUR), "other": Choice(("a", "b"))}, 4),
        ({"edges": Subset(("a", "b", "c", "d", "e"), max=2)}, 3),
        ({"edges": Subset(("a", "b", "c"))}, 1),
        ({"width": Ordinal(tuple(range(1, 101)))}, MAX_NETWORKS),
    ],
)
def test_every_option_occurs_in_one_of_few_networks(decisions: dict[str, Decision], count: int) -> None:
    architectures = covering(Decisions(**decisions))
    assert len(architectures) == count
    # Alike decisions share their options, so the options are those of a group of equal decisions.
    for decision in decisions.values():
        group = [name for name, other in decisions.items() if repr(other) == repr(decision)]
        chosen: set[object] = set()
        for value in (architecture[name] for architecture in architectures for name in group):
            chosen |= set(value) if isinstance(value, tuple) else {value}
        if isinstance(decision, Ordinal):  # of too many values the smallest, the largest and some between
            assert {1, 100} <= chosen and len(chosen) == MAX_NETWORKS
        else:
            assert chosen == set(decision.options)


def test_a_space_of_the_core_is_covered() -> None:
    space = ToySpace()
    assert all(space.validate(architecture) == architecture for architecture in covering(space))


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.pool(x), scale_factor=2)


def space(*, options: Sequence[str] = ("conv", "pool")) -> ModuleSpace:
    modules = {"conv": lambda: nn.Conv2d(1, 1, 3), "pool": Pooled, "skip": lambda: nn.AvgPool2d(3, stride=1)}

    def network() -> nn.Module:
        return nn.Sequential(OneOf({name: modules[name]() for name in options}), nn.Flatten(), nn.Linear(36, 10))

    return ModuleSpace(network, input_shape=(1, 8, 8))


def config(**changes: Any) -> dict[str, Any]:
    final = {"train": {"epochs": 1}, **changes.pop("final")}
    return {
        "seed": 1,
        "space": space(),
        "task": {"name": "digits", "batch_size": 256},
        "problem": {"objectives": {"params": "minimize"}, "costs": ["params"]},  # the pool has fewer parameters
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": {"name": "random"}, "budget": {"trials": 2}}],
        "final": final,
        **changes,
    }


@pytest.mark.slow
def test_an_operator_that_onnx_lacks_is_an_error_before_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        automl_nas.search(config(final={"export": ["safetensors", "onnx"]}), out=tmp_path / "run")
    assert caught.value.path == "final.export[1]"
    for words in (
        "the exporter 'onnx' of plugin 'export' (distribution 'automl-nas'",
        "the operator aten.adaptive_max_pool2d (0.pool: AdaptiveMaxPool2d) has no translation to ONNX",
        'with {"0": "pool"}',
        "final.rehearse: false",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert capfd.readouterr() == ("", "")


class Watching(Exporter):
    """Remembers what it received, and refuses networks with a pool."""

    received: list[Delivery] = []  # noqa: RUF012 - of the class: a run constructs the exporter more than once
    refuses = True

    def __init__(self, *, file: str = "model.txt") -> None:
        self.file = file

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        self.received.append(delivery)
        if self.refuses and any(isinstance(part, Pooled) for part in delivery.network.modules()):
            raise NotImplementedError("\x1b[31mno pools\x1b[0m\nand pages of advice") from ValueError("no \x1b[1mpools")
        (folder / self.file).write_text(str(folder))
        return [folder / self.file]


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    Watching.received.clear()
    Watching.refuses = True


def test_all_formats_that_fail_are_named_at_once(tmp_path: Path) -> None:
    formats = [{"name": Watching}, "safetensors", {"name": Watching, "file": "other.txt"}]
    with pytest.raises(
        ConfigurationError, match=r"^final\.export\[0\]: .*ValueError: no pools \(.*; final\.export\[2\]: "
    ):
        automl_nas.search(config(final={"export": formats}), out=tmp_path / "run")


def test_without_rehearsal_the_failure_is_reported_with_its_place(tmp_path: Path) -> None:
    settings = config(final={"export": ["safetensors", {"name": Watching}], "rehearse": False})
    result = automl_nas.search(settings, out=tmp_path / "run")
    assert [delivery.rehearsal for delivery in Watching.received] == [False]
    (failure,) = result.data["final"]["not_exported"]
    assert failure["error"].startswith("final.export[1]: the exporter ")
    assert failure["error"].endswith("Watching: ValueError: no pools")


def test_the_rehearsal_sees_real_samples_and_changes_nothing(tmp_path: Path) -> None:
    Watching.refuses = False
    settings = config(final={"export": [{"name": Watching}]})
    random = torch.get_rng_state()
    result = automl_nas.search(settings, out=tmp_path / "run")
    assert torch.equal(random, torch.get_rng_state())
    *rehearsed, delivered = Watching.received
    assert [delivery.architecture["0"] for delivery in rehearsed] == ["conv", "pool"]
    assert all(delivery.rehearsal and not delivered.rehearsal for delivery in rehearsed)
    assert delivered.samples is not None
    for delivery in rehearsed:
        assert delivery.samples is not None and torch.equal(delivery.samples, delivered.samples)
        assert not any(part.training for part in delivery.network.modules())
    # Their folder is gone, and the run has the numbers that it has without a rehearsal.
    folder = Path((tmp_path / "run" / "export" / "model.txt").read_text())
    assert folder.parent == tmp_path / "run" / "export" and not folder.exists()
    other = automl_nas.search(
        config(final={"export": [{"name": Watching}], "rehearse": False}), out=tmp_path / "without"
    )
    pairs = [{key: value for key, value in r.data["final"].items() if key != "settings"} for r in (result, other)]
    assert pairs[0] == pairs[1]


def test_architectures_that_cannot_run_are_left_out() -> None:
    class Explodes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 0

    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), OneOf({"a": Explodes(), "b": Explodes()}))

    settings = config(final={"export": ["safetensors"]}, space=ModuleSpace(network, input_shape=(1, 8, 8)))
    plan = make_plan(settings, complete_manager().registry, checked=True)
    messages: list[str] = []
    warnings: list[str] = []
    rehearse_export(plan, messages.append, warnings.append)
    assert messages == ["rehearsing the export of 2 networks with fresh weights (safetensors)"]
    (warning,) = warnings
    assert warning.startswith("the export could not be rehearsed: RunFailedError: the outputs of the network")


def test_a_resumed_run_rehearses_again_only_with_other_versions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Watching.refuses = False
    settings = config(final={"export": [{"name": Watching}]})
    run = tmp_path / "run"
    automl_nas.search(settings, out=run)

    def again() -> list[bool]:
        Watching.received.clear()
        (run / "result.json").unlink()
        automl_nas.search(settings, out=run, resume=True)
        return [delivery.rehearsal for delivery in Watching.received]

    assert True not in again()
    recorded = json.loads((run / "environment.json").read_text())
    recorded.pop("crc", None)  # of the content before the edit
    (run / "environment.json").write_text(json.dumps({**recorded, "torch": "1.0"}))
    assert again()[:2] == [True, True]
    Watching.refuses = True
    assert True in again()
    assert "final.export[0]" in caplog.text and "The run continues. Changed since it began: torch 1.0 ->" in caplog.text
