"""The settings that all strategies share, checked, and the parts of a search that need no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Recipe, Runtime, Task, full_batches
from automl_nas.space import Choice, Subset, SupernetSpace, Value
from automl_nas.strategy import Problem
from automl_nas_gradient.collapse import CollapseSettings
from automl_nas_gradient.deriving import Deriver, DeriveSettings
from automl_nas_gradient.deriving.items import GroupedSpace, uniform_selection
from automl_nas_gradient.parameters import ArchitectureParameters, Form
from automl_nas_gradient.strategy.expectation import expectation_of
from automl_nas_gradient.training.alternation import Optimisation, Plan
from automl_nas_gradient.training.cost_term import CostInLoss, make_cost
from automl_nas_gradient.training.settings import AlphaRecipe, CostTerm
from automl_nas_gradient.training.unrolled import Hessian

Split: TypeAlias = Literal["search", "train", "train+search"]


@dataclass(frozen=True)
class GradientSetup:
    """The settings that all strategies share; `automl_nas_gradient.strategy.darts.Darts` explains them.

    Raises:
        ConfigurationError: a setting is outside its range, contradicts another one, or does not fit the space or the
            task.
        InfeasibleError: no architecture meets the limits.
    """

    owner: ClassVar[str] = "gradient"
    alpha_first: ClassVar[bool] = False

    space: SupernetSpace
    task: Task
    runtime: Runtime
    problem: Problem
    _: KW_ONLY
    train: Recipe
    alpha: AlphaRecipe
    cost: CostTerm
    derive: DeriveSettings
    collapse: CollapseSettings
    optimisation: Optimisation
    pretrain_epochs: int
    weight_steps: int
    weight_split: Split
    alpha_split: Split
    iterations_per_step: int

    def __post_init__(self) -> None:
        self.train.refuse(self.owner, "accumulate", "average", "mixup", "cutmix", "patience")
        for name in ("weight_steps", "iterations_per_step"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"must be at least 1, not {getattr(self, name)}", path=name)
        if not 0 <= self.pretrain_epochs < self.train.epochs:
            raise ConfigurationError(
                f"must be at least 0 and smaller than train.epochs ({self.train.epochs}), since alpha is trained in "
                f"the remaining epochs, not {self.pretrain_epochs}",
                path="pretrain_epochs",
            )
        if self.runtime.precision == "float16":
            raise ConfigurationError(
                f"{self.owner} does not scale its losses, as float16 needs; set runtime.precision: bfloat16"
            )
        searched = (self.train.epochs - self.pretrain_epochs) * full_batches(self.task, self.weight_split)
        full_batches(self.task, self.alpha_split)
        if self.weight_steps > searched:
            raise ConfigurationError(
                f"alpha would have no step: one follows {self.weight_steps} steps of the weights, and there are "
                f"{searched}",
                path="weight_steps",
            )
        self._check()
        self._check_weighable()
        _ = self.deriver, self.cost_in_loss

    def _check_weighable(self) -> None:
        refused = [name for name in self.forms if name not in self.space.weighable]
        if refused:
            more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
            raise ConfigurationError(
                f"{self.owner} weights the outputs of options, but '{refused[0]}'{more} takes values only, as do "
                "depths, widths, options of other shapes and those that change their input in place; search such a "
                "space with single_path and evolution",
                path="space",
            )

    def _check(self) -> None:
        """Check what a strategy has in addition."""

    def form(self, name: str) -> Form:
        """Return how the weights of a `Subset` are made (default: it has none, which only a `GroupedSpace` allows)."""
        if isinstance(self.space, GroupedSpace):
            return "fixed"
        raise ConfigurationError(
            f"{self.owner} has no weights for the decision '{name}', a Subset, so nothing would be derived for it; use "
            "the strategy darts, which weights the elements of a Subset",
            path="space",
        )

    @cached_property
    def forms(self) -> Mapping[str, Form]:
        """Decision -> how its weights are made."""
        return {
            name: self.form(name) if isinstance(decision, Subset) else "softmax"
            for name, decision in self.space.decisions.items()
        }

    @cached_property
    def deriver(self) -> Deriver:
        """Derives networks."""
        return Deriver(self.space, self.problem, self.derive)

    @cached_property
    def cost_in_loss(self) -> CostInLoss | None:
        """The cost in the loss of alpha; None: it has none."""
        expectation = expectation_of(self.space, self.problem, self.deriver)
        return make_cost(self.cost, self.problem, expectation, uniform_selection(self.space.decisions))

    def parameters(self) -> ArchitectureParameters:
        """Return alpha, all 0, on the runtime's device."""
        return ArchitectureParameters(self.space.decisions, self.forms, self.runtime.device)

    def temperature_of(self, epoch: int) -> float:
        """Return the temperature of an epoch, counted from 0 (default: 1)."""
        return 1.0

    @property
    def second_order(self) -> Hessian | None:
        """How the second-order term is computed (default: first order, without one)."""
        return None

    @property
    def plan(self) -> Plan:
        """What the training does."""
        joint = self.optimisation == "joint"
        return Plan(
            self.train,
            self.alpha,
            self.optimisation,
            self.pretrain_epochs,
            self.weight_steps,
            self.weight_split,
            self.weight_split if joint else self.alpha_split,
            self.alpha_first,
            self.second_order,
            self.cost_in_loss,
            self.temperature_of,
        )

    def active(self, architecture: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return the decisions of an architecture that make a difference, as far as the space knows."""
        if isinstance(self.space, GroupedSpace):
            return self.space.active(self.space.validate(architecture))
        return {name: architecture[name] for name, d in self.space.decisions.items() if isinstance(d, Choice | Subset)}
