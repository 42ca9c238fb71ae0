"""`compress`: a smaller network from a trained one, under limits, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import nn

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Runtime, Task
from automl_nas.run import Result, complete_manager, search
from automl_nas_elastic.comparison import ComparedNetwork, compared, text
from automl_nas_elastic.preparation import prepared
from automl_nas_elastic.space import ElasticSpace
from automl_nas_elastic.taylor import loss_products
from automl_nas_elastic.usable import usable

Teacher: TypeAlias = Literal["largest", "original", "none"]
"""Whose outputs narrower networks learn in the first stage; see `compress`."""


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
        return text(self.networks)


def compress(
    model: nn.Module | str,
    task: Task | Mapping[str, Any] | str,
    *,
    limits: Mapping[str, str],
    space: Mapping[str, Any] | None = None,
    supernet_epochs: int = 0,
    trials: int = 100,
    search_steps: int = 20,
    final_epochs: int = 20,
    learning_rate: float = 0.01,
    teacher: Teacher = "largest",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Any = "auto",
    sections: Mapping[str, Any] | None = None,
) -> Compression:
    """Search, train and test a smaller network of a trained one; the original is the first row of the table.

    A search guided by a surrogate finds the best network under the limits, with the weights of the model. It begins
    with uniformly narrower networks (`narrowed_first`), and each network that it looks at is trained for a few batches
    before it is scored. The best one is trained to the end, which begins with the weights of the model again, and
    packaged. With ``supernet_epochs`` the model and narrower networks in it are first trained together (sandwich rule),
    and the search and the network begin with these weights. With ``space={"importance": "taylor"}``, a few batches of
    the task decide which channels are important.

    Args:
        model: a module with trained weights, or the name of a model; see `from_model`.
        task: a task, or its configuration.
        limits: cost -> limit, such as ``{"flops": "<= 0.5 * largest", "latency_ms": "<= 3"}``.
        space: settings of the space, such as ``{"exclude": ["*.kernel"]}``; see `from_model`.
        supernet_epochs: of the training of all networks together before the search; 0: none. In a study with small
            networks the search found better networks without it (docs/results/compression.md).
        trials: networks that the search scores.
        search_steps: batches on which each network of the search is trained before it is scored by its loss; 0: none.
            Where a limit leaves a quarter of a network, scores without
            these batches are near chance, and the networks that are found are worse (docs/results/compression.md).
        final_epochs: of the last stage.
        learning_rate: of all trainings, also of the batches of the search.
        teacher: whose outputs smaller networks learn, where outputs are logits of classes. ``original``: those of the
            model as it was given, beside the targets, in both trainings (``final.distill`` with its defaults).
            ``largest``: in the training before the search those of the whole network in training, and not the targets;
            in the last stage the targets. ``none``: the targets.
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
        search_steps=search_steps,
        final_epochs=final_epochs,
        learning_rate=learning_rate,
        teacher=teacher,
        seed=seed,
    )
    return run(prepared(raw | dict(sections or {}), out), out=out, resume=resume, progress=progress)


def configuration(
    model: nn.Module | str,
    task: Task | Mapping[str, Any] | str,
    *,
    limits: Mapping[str, str],
    space: Mapping[str, Any] | None = None,
    supernet_epochs: int = 0,
    trials: int = 100,
    search_steps: int = 20,
    final_epochs: int = 20,
    learning_rate: float = 0.01,
    teacher: Teacher = "largest",
    seed: int = 0,
) -> dict[str, Any]:
    """Return the configuration of the run of `compress`, which has the same arguments.

    Raises:
        ConfigurationError: there is no limit, ``supernet_epochs`` or ``search_steps`` is negative, or the task cannot
            be constructed.
    """
    if not limits:
        raise ConfigurationError("give a limit, such as flops: <= 0.5 * largest: without one, the largest network wins")
    if supernet_epochs < 0:
        raise ConfigurationError(f"must be at least 0, not {supernet_epochs}", path="supernet_epochs")
    if search_steps < 0:
        raise ConfigurationError(f"must be at least 0, not {search_steps}", path="search_steps")
    own_task: Task = task if isinstance(task, Task) else complete_manager().registry.construct("tasks", task, seed=seed)
    settings = dict(space or {})
    if not isinstance(model, str):
        model = usable(model)
        settings.setdefault("input_shape", own_task.input_shape)
        if settings.get("importance") == "taylor" and "gradients" not in settings:
            settings["gradients"] = loss_products(model, own_task, Runtime(), seed=seed)
        of_model: Any = ElasticSpace(model, **settings)
    else:
        of_model = {"name": "from_model", "model": model, **settings}
    train = {"learning_rate": learning_rate}
    classes = (own_task.outputs() or {"kind": "classes"}).get("kind") == "classes"
    stages: list[dict[str, Any]] = []
    # A space of a model builds its networks with the weights of the model.
    artifact, weights = None, "scratch"
    if supernet_epochs:
        strategy = {
            "name": "single_path",
            "paths": "sandwich",
            "distill": classes and teacher != "none",
            "teacher": "initial" if classes and teacher == "original" else "largest",
            "train": {"epochs": supernet_epochs, **train},
        }
        stages.append({"name": "supernet", "strategy": strategy})
        artifact, weights = "supernet", "inherited"
    final: dict[str, Any] = {"weights": weights, "train": {"epochs": final_epochs, **train}, "export": ["package"]}
    if classes and teacher == "original":
        final["distill"] = {"teacher": "built"}
    evaluator: dict[str, Any] = {"name": "supernet_weights", "weights": artifact}
    if search_steps:
        evaluator |= {"finetune_steps": search_steps, "finetune_rate": learning_rate}
    strategy = {"name": "narrowed_first", "strategy": "surrogate"}
    stages.append({"name": "search", "strategy": strategy, "evaluator": evaluator, "budget": {"trials": trials}})
    return {
        "seed": seed,
        "task": task,
        "space": of_model,
        "problem": {"constraints": dict(limits)},
        "stages": stages,
        "final": final,
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
    return Compression(result, compared(result))
