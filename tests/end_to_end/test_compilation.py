"""The final stage with networks that `torch.compile` compiles, by backends that need no compiler."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from end_to_end.runs import record
from end_to_end.test_final_beginnings import config

import automl_nas
from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.plugin import NumbersLogged

FINAL: dict[str, Any] = {"train": {"epochs": 2, "average": 0.9}, "seeds": 2, "baselines": ["random"]}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "artifacts" / "final" / "weights.safetensors")


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training_and_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """The backends `eager` and `counting` run torch's own operations in their order, so numbers are the same bits."""
    plain = automl_nas.search(config(**FINAL), out=tmp_path / "plain")
    eager = automl_nas.search(config(**FINAL, compile="eager"), out=tmp_path / "eager")
    assert plain.final is not None and eager.final is not None
    assert [network.to_json() for network in eager.final.networks] == [
        network.to_json() for network in plain.final.networks
    ]
    assert weights(tmp_path / "eager").keys() == weights(tmp_path / "plain").keys()
    assert all(
        torch.equal(tensor, weights(tmp_path / "plain")[name]) for name, tensor in weights(tmp_path / "eager").items()
    )
    assert type(eager.load_trained()) is type(plain.load_trained())

    graphs: list[int] = []
    compiled = config(**FINAL, compile=counting_backend(graphs))
    automl_nas.search(compiled, out=tmp_path / "whole")
    assert len(graphs) > 4  # four trainings of the found and the random network, and the check before the run

    def interrupt(event: NumbersLogged) -> None:
        raise KeyboardInterrupt

    stopped = 0
    while True:
        handlers = {NumbersLogged: interrupt} if stopped < 3 else None
        try:
            automl_nas.search(compiled, out=tmp_path / "parts", resume=True, handlers=handlers)
            break
        except RunInterrupted:
            stopped += 1
    assert record(tmp_path / "parts") == record(tmp_path / "whole")


def counting_backend(graphs: list[int]) -> str:
    """Register a backend that counts the graphs it is given and runs them as they are; return its name."""

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    torch._dynamo.register_backend(backend, name="counting")  # type: ignore[attr-defined, no-untyped-call]
    return "counting"


def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
    raise OSError("there is no compiler here\nsecond line")


@pytest.mark.slow
def test_without_a_compiler_the_run_does_not_begin(tmp_path: Path) -> None:
    torch._dynamo.register_backend(broken, name="broken")  # type: ignore[attr-defined, no-untyped-call]
    for backend, message in {
        "inducktor": "no backend 'inducktor'; did you mean 'inductor'?",
        "broken": "cannot compile with the backend 'broken' on cpu: .*there is no compiler here",
    }.items():
        with pytest.raises(ConfigurationError, match=re.compile(message, re.DOTALL)) as caught:
            automl_nas.search(config(compile=backend), out=tmp_path / "run")
        assert caught.value.path == "final.compile"
        assert "second line" not in str(caught.value) and "raised" not in str(caught.value)
        assert not (tmp_path / "run").exists()
