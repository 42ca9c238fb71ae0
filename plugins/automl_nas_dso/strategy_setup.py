"""What a search by DSO-NAS is made of before there are networks: all that can be refused is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Recipe, Runtime, Task, full_batches
from automl_nas.space import SupernetSpace
from automl_nas.strategy import Problem
from automl_nas_dso.gamma import Schedule as GammaSchedule
from automl_nas_dso.gamma import automatic, check_reach, make_factors
from automl_nas_dso.gamma_control import Controller
from automl_nas_dso.gamma_factors import Factors
from automl_nas_dso.live_structure import LiveStructure
from automl_nas_dso.optimiser import Nonnegative
from automl_nas_dso.strategy_gates import Gates
from automl_nas_dso.strategy_training import Schedule, Split


@dataclass(frozen=True)
class Setup:
    """The parts of a search.

    Attributes:
        schedule: when what is trained.
        rates: the learning rate of each step of lambda.
        gates: lambda.
        anatomy: counts what is alive.
        factors: the penalty of each edge, relative to gamma.
        controller: sets gamma, if there is a target.
        gamma: the first penalty.
    """

    schedule: Schedule
    rates: Sequence[float]
    gates: Gates
    anatomy: LiveStructure
    factors: Factors
    controller: Controller | None
    gamma: float


def set_up(
    space: SupernetSpace,
    task: Task,
    runtime: Runtime,
    problem: Problem,
    *,
    train: Recipe,
    pretrain_epochs: int,
    weight_steps: int,
    weight_split: Split,
    lambda_split: Split,
    lambda_learning_rate: float | None,
    lambda_momentum: float,
    gamma: float | Literal["auto"],
    gamma_schedule: GammaSchedule,
    gamma_every: int,
    mac_reference: Literal["block", "network"],
    latency: str,
    sparsity: dict[str, float] | None,
    nonnegative: Nonnegative,
    clip: float | None,
    prune_epochs: int | None,
    iterations_per_step: int,
) -> Setup:
    """Make the parts of a search from what `DSO` is constructed with.

    Raises:
        ConfigurationError: a setting is out of its range or too small to remove anything, or does not suit the space; a
            split holds no full batch.
    """
    counts = {"gamma_every": gamma_every, "prune_epochs": prune_epochs, "iterations_per_step": iterations_per_step}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigurationError(f"must be at least 1, not {value}", path=name)
    schedule = Schedule(
        train,
        pretrain_epochs,
        weight_steps,
        weight_split,
        lambda_split,
        lambda_learning_rate,
        lambda_momentum,
        nonnegative,
        clip,
    )
    gates, anatomy = Gates(space.decisions, runtime.device), LiveStructure(space)
    factors = make_factors(
        gamma_schedule, gates, anatomy, reference=mac_reference, latency=latency, models=problem.cost_models
    )
    full_batches(task, lambda_split)
    rates = schedule.rates(full_batches(task, weight_split))
    controller = None
    if sparsity is not None:
        if gamma != "auto":
            raise ConfigurationError("sparsity sets gamma: leave gamma out", path="gamma")
        controller = _controller(sparsity, anatomy, steps=len(rates), momentum=lambda_momentum)
        first = controller.first(rates[0])
    elif gamma == "auto":
        first = automatic(rates, lambda_momentum)
    else:
        check_reach(gamma, rates, lambda_momentum)
        first = gamma
    return Setup(schedule, rates, gates, anatomy, factors, controller, first)


def _controller(sparsity: Mapping[str, float], anatomy: LiveStructure, *, steps: int, momentum: float) -> Controller:
    controller = Controller(sparsity, steps=steps, momentum=momentum)
    if controller.measure not in anatomy.measures:
        raise ConfigurationError(
            f"this space does not know its {controller.measure}; give a share of edges", path="sparsity"
        )
    return controller
