"""The settings of a search, checked, and the parts of the search that need no network."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import InitialWeights, Recipe, Runtime, Task, full_batches, learning_rate
from automl_nas.space import SupernetSpace
from automl_nas.strategy import Problem
from automl_nas_dso.gamma.edge_factors import EdgeFactors, FactorSchedule, MacReference, make_factors
from automl_nas_dso.gamma.penalty_shape import HoyerRatio, NodeNorm, PenaltyShape
from automl_nas_dso.gamma.penalty_travel import automatic, check_reach
from automl_nas_dso.gamma.sparsity_controller import SparsityController
from automl_nas_dso.gates import Gates
from automl_nas_dso.live_structure import LiveStructure
from automl_nas_dso.optimiser import Nonnegative

Ranking: TypeAlias = Literal["size", "sensitivity"]
Split: TypeAlias = Literal["search", "train", "train+search"]


@dataclass(frozen=True)
class SearchSetup:
    """The settings of `DSO`, which explains them. All checks that need no network are done here.

    Raises:
        ConfigurationError: a setting is outside its range, contradicts another one, or does not fit the space; gamma
            is too small to remove an edge; a split contains no full batch.
    """

    space: SupernetSpace
    task: Task
    runtime: Runtime
    problem: Problem
    _: KW_ONLY
    train: Recipe
    pretrain_epochs: int
    weight_steps: int
    weight_split: Split
    lambda_split: Split
    lambda_learning_rate: float | None
    lambda_momentum: float
    gamma: float | Literal["auto"]
    gamma_schedule: FactorSchedule
    gamma_every: int
    mac_reference: MacReference
    latency: str
    sparsity: dict[str, float] | None
    penalty: PenaltyShape
    ranking: Ranking
    lambda_weight_decay: float
    keep_norm: bool
    nonnegative: Nonnegative
    clip: float | None
    prune_epochs: int | None
    iterations_per_step: int

    def __post_init__(self) -> None:
        self._check_ranges()
        self.train.refuse("dso", "accumulate", "average", "mixup", "cutmix", "patience")
        if self.runtime.precision == "float16":
            raise ConfigurationError("dso does not scale its losses, as float16 needs; set runtime.precision: bfloat16")
        if self.space.exclusions:
            raise ConfigurationError(
                "dso computes the options of all decisions at once, and the space excludes combinations of options; "
                "use a strategy that trains single paths, such as single_path"
            )
        full_batches(self.task, self.lambda_split)
        # Each of these raises an error if the settings it is computed from do not fit.
        _ = self.gates, self.factors, self.first_gamma

    def _check_ranges(self) -> None:
        counts = {
            "gamma_every": self.gamma_every,
            "prune_epochs": self.prune_epochs,
            "iterations_per_step": self.iterations_per_step,
            "weight_steps": self.weight_steps,
        }
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ConfigurationError(f"must be at least 1, not {value}", path=name)
        if not 0 <= self.pretrain_epochs < self.train.epochs:
            raise ConfigurationError(
                f"must be at least 0 and smaller than train.epochs ({self.train.epochs}), since lambda is trained in "
                f"the remaining epochs, not {self.pretrain_epochs}",
                path="pretrain_epochs",
            )
        for name, number in (("lambda_learning_rate", self.lambda_learning_rate), ("clip", self.clip)):
            if number is not None and not number > 0:
                raise ConfigurationError(f"must be positive, not {number}", path=name)
        if not 0 <= self.lambda_weight_decay < math.inf:
            raise ConfigurationError(
                f"must be finite and at least 0, not {self.lambda_weight_decay}", path="lambda_weight_decay"
            )
        if self.ranking == "sensitivity" and self.sparsity is None:
            raise ConfigurationError(
                "sensitivity orders the edges that a sparsity target removes: set sparsity, such as {flops: 0.4}",
                path="ranking",
            )
        if self.ranking == "sensitivity" and self.penalty != "l1":
            raise ConfigurationError("ranking: sensitivity has no penalty: remove the setting penalty", path="penalty")
        if self.keep_norm and self.lambda_weight_decay:
            raise ConfigurationError(
                "keep_norm undoes what weight decay does to the norm of lambda: remove one of both", path="keep_norm"
            )
        if not 0 <= self.lambda_momentum < 1:
            raise ConfigurationError(
                f"must be at least 0 and below 1, not {self.lambda_momentum}", path="lambda_momentum"
            )

    @cached_property
    def gates(self) -> Gates:
        """Lambda, on the runtime's device."""
        return Gates(self.space.decisions, self.runtime.device)

    @cached_property
    def ratio(self) -> HoyerRatio | None:
        """The penalty of relative sizes; None: the L1 norm."""
        return None if self.penalty == "l1" else HoyerRatio(self._nodes, self.runtime.device)

    @cached_property
    def node_norm(self) -> NodeNorm | None:
        """What sets lambda back to its norm after a step; None: nothing does."""
        return NodeNorm(self._nodes, self.runtime.device) if self.keep_norm else None

    @cached_property
    def _nodes(self) -> list[int]:
        """The number of each edge's node."""
        numbers = {name: number for number, name in enumerate(self.space.decisions)}
        return [numbers[name] for name, _ in self.gates.edges]

    @cached_property
    def structure(self) -> LiveStructure:
        """Counts the live edges."""
        return LiveStructure(self.space)

    @cached_property
    def factors(self) -> EdgeFactors:
        """The penalty of each edge relative to gamma."""
        return make_factors(
            self.gamma_schedule,
            self.gates,
            self.structure,
            reference=self.mac_reference,
            latency=self.latency,
            models=self.problem.cost_models,
        )

    @cached_property
    def per_epoch(self) -> int:
        """Iterations (steps of the weights) in an epoch."""
        return full_batches(self.task, self.weight_split)

    @cached_property
    def rates(self) -> list[float]:
        """The learning rate of lambda at each of its steps."""
        first, last = self.pretrain_epochs * self.per_epoch, self.train.epochs * self.per_epoch
        constant, every = self.lambda_learning_rate, self.weight_steps
        rates = [
            learning_rate(self.train, iteration, self.per_epoch) if constant is None else constant
            for iteration in range(first + every - 1, last, every)
        ]
        if not rates:
            raise ConfigurationError(
                f"lambda would have no step: one step follows {every} steps of the weights, and the phase of lambda "
                f"has {last - first} iterations; set weight_steps to at most {last - first}",
                path="weight_steps",
            )
        return rates

    @cached_property
    def controller(self) -> SparsityController | None:
        """What sets gamma; None unless ``sparsity`` is set."""
        if self.sparsity is None:
            return None
        if self.gamma != "auto":
            raise ConfigurationError("sparsity sets gamma itself: remove the setting gamma", path="gamma")
        controller = SparsityController(self.sparsity, steps=len(self.rates), momentum=self.lambda_momentum)
        if controller.measure not in self.structure.measures:
            raise ConfigurationError(
                f"this space does not know its {controller.measure}; set a share of edges", path="sparsity"
            )
        return controller

    @cached_property
    def first_gamma(self) -> float:
        """Gamma at the first step of lambda; only a controller changes it."""
        largest = self.factors.largest
        if self.controller is not None:
            return self.controller.first(self.rates[0]) / largest
        if self.gamma == "auto":
            return automatic(self.rates, self.lambda_momentum, largest)
        check_reach(self.gamma, self.rates, self.lambda_momentum, largest)
        return self.gamma


@dataclass(frozen=True)
class CheckedSetup(SearchSetup):
    """The settings of a search whose initial weights were loaded into a supernet. `DSO.checker` returns this class.

    Raises:
        ConfigurationError: also if the initial weights do not fit the supernet.
    """

    _: KW_ONLY
    initial_weights: InitialWeights | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_weights is not None:
            self.initial_weights.load_into(self.space.build_supernet())
