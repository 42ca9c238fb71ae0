"""`compress`: a smaller network from a trained one, under limits, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from automl_nas.cli import table
from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Task, report
from automl_nas.run import Result, complete_manager, search
from automl_nas_elastic.space import ElasticSpace


@dataclass(frozen=True)
class ComparedNetwork:
    """A row of the final table.

    Attributes:
        name: ``original``, or the role of a network of the final stage: ``found``, or that of a baseline.
        metrics: metric -> value on the test split.
        intervals: metric -> 95 % interval of the value, where the task computes one.
        costs: cost -> value.
    """

    name: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Compression:
    """What `compress` returns.

    Attributes:
        result: of the run; ``result.load_trained()`` is the smaller network.
        networks: the original, and those that were trained, as far as they were tested.
    """

    result: Result
    networks: tuple[ComparedNetwork, ...]

    @property
    def network(self) -> nn.Module:
        """The smaller network with its trained weights, in evaluation mode."""
        return self.result.load_trained().eval()

    def __str__(self) -> str:
        metrics = list(dict.fromkeys(name for each in self.networks for name in each.metrics))
        costs = list(dict.fromkeys(name for each in self.networks for name in each.costs))
        rows = []
        for each in self.networks:
            cells = [_metric(each, name) for name in metrics]
            rows.append([each.name, *cells, *(_number(each.costs.get(name)) for name in costs)])
        return "\n".join(table(["network", *metrics, *costs], rows))


def compress(
    model: nn.Module | str,
    task: Task | Mapping[str, Any] | str,
    *,
    limits: Mapping[str, str],
    space: Mapping[str, Any] | None = None,
    supernet_epochs: int = 10,
    trials: int = 100,
    final_epochs: int = 20,
    learning_rate: float = 0.01,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Any = "auto",
    sections: Mapping[str, Any] | None = None,
) -> Compression:
    """Search, train and test a smaller network of a trained one; the original is the first row of the table.

    Three stages: the model and narrower networks in it are trained together (sandwich rule; the narrower networks learn
    the outputs of the whole one, where outputs are logits of classes); a search guided by a surrogate finds the best
    network under the limits, with inherited weights; that network is trained further and packaged.

    Args:
        model: a module with trained weights, or the name of a model; see `from_model`.
        task: a task, or its configuration.
        limits: cost -> limit, such as ``{"flops": "<= 0.5 * largest", "latency_ms": "<= 3"}``.
        space: settings of the space, such as ``{"exclude": ["*.kernel"]}``; see `from_model`.
        supernet_epochs: of the first stage.
        trials: networks that the search scores.
        final_epochs: of the last stage.
        learning_rate: of both trainings.
        seed: of the run.
        out: the run directory; None: a temporary one.
        resume: whether a run in ``out`` with the same arguments is continued.
        progress: what is shown; see `automl_nas.search`.
        sections: sections of the configuration in place of the chosen ones; see `automl_nas.search`.

    Raises:
        UserError: an argument is invalid, nothing can vary in the model, or no network meets the limits.
        RunFailedError: the run cannot reach a result.
        RunInterrupted: the run was stopped; call again with ``resume=True``.
    """
    raw = configuration(
        model,
        task,
        limits=limits,
        space=space,
        supernet_epochs=supernet_epochs,
        trials=trials,
        final_epochs=final_epochs,
        learning_rate=learning_rate,
        seed=seed,
    )
    return run(raw | dict(sections or {}), out=out, resume=resume, progress=progress)


def configuration(
    model: nn.Module | str,
    task: Task | Mapping[str, Any] | str,
    *,
    limits: Mapping[str, str],
    space: Mapping[str, Any] | None = None,
    supernet_epochs: int = 10,
    trials: int = 100,
    final_epochs: int = 20,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the configuration of the run of `compress`, which has the same arguments.

    Raises:
        ConfigurationError: there is no limit, or the task cannot be constructed.
    """
    if not limits:
        raise ConfigurationError("give a limit, such as flops: <= 0.5 * largest: without one, the largest network wins")
    own_task: Task = task if isinstance(task, Task) else complete_manager().registry.construct("tasks", task, seed=seed)
    settings = dict(space or {})
    if isinstance(model, nn.Module):
        settings.setdefault("input_shape", own_task.input_shape)
        of_model: Any = ElasticSpace(model, **settings)
    else:
        of_model = {"name": "from_model", "model": model, **settings}
    classes = (own_task.outputs() or {"kind": "classes"}).get("kind") == "classes"
    train = {"learning_rate": learning_rate}
    return {
        "seed": seed,
        "task": task,
        "space": of_model,
        "problem": {"constraints": dict(limits)},
        "stages": [
            {
                "name": "supernet",
                "strategy": {
                    "name": "single_path",
                    "paths": "sandwich",
                    "distill": classes,
                    "train": {"epochs": supernet_epochs, **train},
                },
            },
            {
                "name": "search",
                "strategy": "surrogate",
                "evaluator": {"name": "supernet_weights", "weights": "supernet"},
                "budget": {"trials": trials},
            },
        ],
        "final": {"weights": "inherited", "train": {"epochs": final_epochs, **train}, "export": ["package"]},
    }


def run(
    raw: Mapping[str, Any], *, out: str | os.PathLike[str] | None, resume: bool = False, progress: Any = "auto"
) -> Compression:
    """Do the run of a configuration and add the original to its table.

    Raises:
        ConfigurationError: the configuration has another space than one of a model.
        RunFailedError: the run cannot reach a result, or has no final stage.
    """
    result = search(raw, out=out, resume=resume, progress=progress)
    if result.final is None:
        raise RunFailedError("the run has no final stage, so no network was trained; leave final in sections")
    return Compression(result, (original(result), *trained(result)))


def original(result: Result) -> ComparedNetwork:
    """Return the row of the model itself, with the weights that it had before the run.

    Raises:
        ConfigurationError: the space of the run is not one of a model.
    """
    plan = result.plan
    space, task, runtime = plan.space, plan.final_task or plan.task, plan.runtime
    if not isinstance(space, ElasticSpace):
        raise ConfigurationError(f"the space of the run is a {type(space).__name__}, not one of a model", path="space")
    assert task is not None  # the run has a final stage
    with runtime.seeded(plan.seed, "original"):
        scores = report(runtime.place(space.build(space.largest)), task, runtime, "test")
    models = plan.result_stage.problem.cost_models
    costs = {name: model.estimate(space.largest) for name, model in models.items()}
    return ComparedNetwork("original", scores.metrics, scores.intervals, costs)


def trained(result: Result) -> list[ComparedNetwork]:
    """Return the rows of the networks that the final stage trained and tested."""
    assert result.final is not None
    return [
        ComparedNetwork(each.role, each.test, each.test_interval, each.costs)
        for each in result.final.networks
        if each.test is not None
    ]


def _metric(network: ComparedNetwork, name: str) -> str:
    if name not in network.metrics:
        return "-"
    interval = network.intervals.get(name)
    text = f"{network.metrics[name]:.4f}"
    return text if interval is None else f"{text} [{interval[0]:.4f}, {interval[1]:.4f}]"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
