from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automl_nas.cli.space_costs import read_architecture
from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.testing.toys import ToySpace

WIDTH, PIXELS, BLOCKS, CLASSES = 4, 16, 3, 3
"""Of `ToySpace` as the configuration makes it: 4x4 images."""


def _flops(*options: int) -> int:
    """Multiply-adds of a toy network by hand: 1x1 convolution, square kernels of 2 i + 1 pixels, linear layer."""
    return WIDTH * PIXELS + sum((2 * i + 1) ** 2 * WIDTH**2 * PIXELS for i in options) + WIDTH * CLASSES


def _params(*options: int) -> int:
    """Weights; of batch normalisation also biases."""
    return WIDTH + sum((2 * i + 1) ** 2 * WIDTH**2 + 2 * WIDTH for i in options) + WIDTH * CLASSES + CLASSES


def _json(program: Any, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(program("cost", *arguments, "--json").stdout)
    return found


def test_extremes_are_exact(program: Any) -> None:
    shown = _json(program, program.config)
    assert shown["size"] == 27
    assert shown["architecture"] is None
    flops, params, toy = (shown["costs"][name] for name in ("flops", "params", "toy_cost"))
    assert (flops["smallest"]["value"], flops["largest"]["value"]) == (_flops(0, 0, 0), _flops(2, 2, 2))
    assert (params["smallest"]["value"], params["largest"]["value"]) == (_params(0, 0, 0), _params(2, 2, 2))
    assert (toy["smallest"]["value"], toy["largest"]["value"]) == (0, 6)
    assert all(cost["exact"] and cost["additive"] for cost in shown["costs"].values())
    assert flops["largest"]["architecture"] == {"d0": 2, "d1": 2, "d2": 2}


@pytest.mark.parametrize(
    "given", ["2,0,1", "[2, 0, 1]", "2 0 1", '{"d0": 2, "d1": 0, "d2": 1}', "@file.json", "@result.json"]
)
def test_an_architecture_in_any_form(program: Any, given: str) -> None:
    program.write("file.json", '{"d2": 1, "d1": 0, "d0": 2}')
    program.write("result.json", '{"status": "complete", "architecture": {"d0": 2, "d1": 0, "d2": 1}}')
    assert read_architecture(given, ToySpace(blocks=BLOCKS)) == Architecture({"d0": 2, "d1": 0, "d2": 1})


def test_the_costs_of_an_architecture(program: Any) -> None:
    shown = _json(program, program.config, "--architecture", "2,0,1")
    assert shown["architecture"] == {"d0": 2, "d1": 0, "d2": 1}
    assert {name: cost["value"] for name, cost in shown["costs"].items() if name != "memory_access"} == {
        "toy_cost": 3,
        "params": _params(2, 0, 1),
        "flops": _flops(2, 0, 1),
    }
    assert shown["constraints"] == {"toy_cost <= 4": True}


def test_the_text_shows_exact_numbers_units_and_summaries(program: Any) -> None:
    text = program("cost", program.config, "--architecture", "2,2,2").stdout
    row = next(line for line in text.splitlines() if line.startswith("flops "))
    assert row.split() == [
        "flops",
        "multiply-adds",
        f"{_flops(2, 2, 2):,}",
        f"{_flops(0, 0, 0):,}",
        f"{_flops(2, 2, 2):,}",
        "exact",
    ]
    assert "flops: Multiply-adds of convolutions" in text
    assert "batch 1; additive over decisions" in text
    assert "MISSES toy_cost <= 4" in text
    assert "space: toy, 3 decisions, 27 architectures" in text


def test_layers_add_up_in_the_order_of_the_network(program: Any) -> None:
    shown = _json(program, program.config, "--by-layer")
    assert shown["architecture"] == {"d0": 2, "d1": 2, "d2": 2}  # the largest, if nothing else is said
    for name in ("flops", "params"):
        cost = shown["costs"][name]
        assert sum(cost["by_layer"].values()) == cost["value"] == cost["largest"]["value"]
    assert shown["costs"]["flops"]["by_layer"]["1"] == 25 * WIDTH**2 * PIXELS
    lines = program("cost", program.config, "--by-layer").stdout.splitlines()
    start = next(position for position, line in enumerate(lines) if line.startswith("module"))
    modules = [line.split()[0] for line in lines[start + 1 :]]
    layers = [name for name in modules if name.isdigit()]
    assert layers == sorted(layers, key=int)  # the network is one nn.Sequential
    assert {"0", "1", "2", "4", "5", "7", "8", "12"} <= set(
        layers
    )  # convolutions, batch normalisation, the linear layer
    assert lines[-1].split()[0] == "total"
    assert f"{_flops(2, 2, 2):,}" in lines[-1]


def test_a_cost_that_is_not_additive_has_a_reason(program: Any) -> None:
    shown = _json(program, program.config, "--set", "problem.costs=[squared]", "--architecture", "largest")
    squared = shown["costs"]["squared"]
    assert not squared["additive"]
    assert "not additive over the decisions" in squared["reason"]
    assert (squared["value"], squared["smallest"]["value"], squared["largest"]["value"]) == (36, 0, 36)
    assert squared["exact"]  # 27 architectures are counted one by one
    text = program("cost", program.config, "--set", "problem.costs=[squared]").stdout
    assert "squared: The square of that sum; not additive (" in text


def test_extremes_of_a_large_space_are_from_a_local_search(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_NAS_DISABLED_PLUGINS", "costs")
    program.forget()
    text = program("cost", program.config, "--set", "problem.costs=[squared]", "--set", "space.blocks=8").stdout
    assert [line.split()[0] for line in text.splitlines() if "by local search" in line] == ["squared"]
    assert "6,561 architectures" in text
    assert not any(line.startswith("flops") for line in text.splitlines())  # not registered, so not shown


def test_without_cost_models_the_command_fails(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_NAS_DISABLED_PLUGINS", "costs")
    program.forget()
    bare = "problem={objectives: {accuracy: maximize}}"
    assert "no cost model is registered" in program("cost", program.config, "--set", bare, code=2).stderr


def test_costs_are_shown_even_if_the_constraints_cannot_be_met(program: Any) -> None:
    shown = program("cost", program.config, "--set", "problem.constraints.toy_cost='>= 9'")
    assert "toy_cost" in shown.stdout
    assert shown.stderr.startswith("warning: problem.constraints.toy_cost: no network can meet")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("2,0", "a code of this space has 3 numbers, but this one has 2"),
        ("2,0,3", "not the position of an option"),
        ("2,0,-1", "not the position of an option"),
        ("2,0,x", "cannot read the architecture"),
        ("[0.5, 0, 1]", "whole numbers"),
        ('{"d0": 2, "d1": 0}', "lacks the decision 'd2'"),
        ('{"d0": 2, "d1": 0, "d2": 7}', "7 is not an option"),
        ("@nothing.json", "cannot read the architecture"),
    ],
)
def test_an_invalid_architecture_is_refused(given: str, told: str) -> None:
    with pytest.raises(SpaceError) as caught:
        read_architecture(given, ToySpace(blocks=BLOCKS))
    assert told in str(caught.value)


def test_a_wrong_architecture_is_bad_input(program: Any) -> None:
    shown = program("cost", program.config, "--architecture", "2,0", code=2)
    assert (shown.stdout, shown.stderr) == ("", "error: a code of this space has 3 numbers, but this one has 2\n")


def test_a_wrong_configuration_is_located(program: Any) -> None:
    program.config.write_text(program.config.read_text().replace("blocks", "blocs"))
    assert "toy.yaml:2" in program("cost", program.config, code=2).stderr


def test_the_network_of_a_run_has_the_costs_in_its_result(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    result = json.loads((directory / "result.json").read_text())
    shown = _json(program, directory / "config.yaml", "--architecture", f"@{directory / 'result.json'}")
    recorded = result["final"]["networks"][result["final"]["chosen"]]["costs"]
    assert {name: shown["costs"][name]["value"] for name in recorded} == recorded
