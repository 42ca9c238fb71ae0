"""GDAS: one option of every decision is computed, drawn with Gumbel noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, final

from automl_nas.evaluation import Artifacts, Recipe, Runtime, Task
from automl_nas.space import SupernetSpace
from automl_nas.strategy import Problem
from automl_nas_gradient.collapse import CollapseSettings
from automl_nas_gradient.deriving import DeriveSettings
from automl_nas_gradient.estimators import StraightThroughGumbel
from automl_nas_gradient.strategy.base import GradientStrategy
from automl_nas_gradient.strategy.darts import check_temperatures
from automl_nas_gradient.strategy.setup import GradientSetup, Split
from automl_nas_gradient.training.alternation import Optimisation
from automl_nas_gradient.training.settings import AlphaRecipe, CostTerm, temperature


@final
@dataclass(frozen=True)
class GdasSetup(GradientSetup):
    """The settings of `Gdas`, checked."""

    owner: ClassVar[str] = "gdas"

    _: KW_ONLY
    computed: Literal["sampled", "all"]
    temperature: float
    final_temperature: float | None

    def _check(self) -> None:
        check_temperatures(self.temperature, self.final_temperature)

    def temperature_of(self, epoch: int) -> float:
        """Return the temperature of an epoch."""
        return temperature(epoch, self.train.epochs, self.temperature, self.final_temperature)


@final
class Gdas(GradientStrategy):
    """GDAS (Dong and Yang 2019, arXiv 1910.04465).

    Each step draws one option of every decision from ``softmax(alpha)``, by Gumbel noise, and computes it alone. The
    gradient of alpha is that of ``softmax((log p + G) / temperature)`` (straight-through).

    Args:
        space: the space whose supernet is trained; its decisions are choices.
        task: images and loss; its split ``search`` is used for alpha.
        runtime: where the training runs.
        artifacts: the weights and alpha are saved in it.
        problem: its limits on costs are met by the derived network.
        seed: of weights, alpha, batches and draws.
        train: the recipe of the weights (defaults: the authors' for NAS-Bench-201).
        alpha: the recipe of alpha.
        optimisation: ``bilevel``: alpha is trained on ``alpha_split``, in turn with the weights; ``joint``: weights and
            alpha are trained on the same images and loss, in the same pass.
        computed: ``sampled``: a step computes the drawn option alone, as the paper describes; ``all``: it computes all
            options, so that the gradient of alpha knows how the loss depends on each of them.
        temperature: of the relaxation in the first epoch.
        final_temperature: in the last epoch, reached linearly; null: the temperature is constant.
        pretrain_epochs: epochs at the beginning in which alpha is not trained; a part of ``train.epochs``.
        weight_steps: steps of the weights for each step of alpha.
        weight_split: the split on which the weights are trained.
        alpha_split: the split on which alpha is trained.
        cost: an expected cost in the loss of alpha; its weights are the probabilities, not the draws.
        derive: how networks are derived.
        collapse: what is observed of a collapse to skip connections, and when the search ends early.
        iterations_per_step: iterations between two points at which a checkpoint can be written or the run
            interrupted; a step should take well under a minute.

    Raises:
        ConfigurationError: a setting is outside its range, or does not fit the space or the task.
        InfeasibleError: no architecture meets the limits.
        DivergedError: a loss or alpha became NaN or infinite.
    """

    def __init__(
        self,
        space: SupernetSpace,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        problem: Problem,
        *,
        seed: int,
        train: Recipe = Recipe(  # noqa: B008 - frozen
            epochs=250,
            learning_rate=0.025,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            schedule="cosine",
            clip_norm=5.0,
        ),
        alpha: AlphaRecipe = AlphaRecipe(),  # noqa: B008 - frozen
        optimisation: Optimisation = "bilevel",
        computed: Literal["sampled", "all"] = "sampled",
        temperature: float = 10.0,
        final_temperature: float | None = 0.1,
        pretrain_epochs: int = 0,
        weight_steps: int = 1,
        weight_split: Split = "train",
        alpha_split: Split = "search",
        cost: CostTerm = CostTerm(),  # noqa: B008 - frozen
        derive: DeriveSettings = DeriveSettings(),  # noqa: B008 - frozen
        collapse: CollapseSettings = CollapseSettings(),  # noqa: B008 - frozen
        iterations_per_step: int = 20,
    ) -> None:
        setup = GdasSetup(
            space,
            task,
            runtime,
            problem,
            train=train,
            alpha=alpha,
            cost=cost,
            derive=derive,
            collapse=collapse,
            optimisation=optimisation,
            pretrain_epochs=pretrain_epochs,
            weight_steps=weight_steps,
            weight_split=weight_split,
            alpha_split=alpha_split,
            iterations_per_step=iterations_per_step,
            computed=computed,
            temperature=temperature,
            final_temperature=final_temperature,
        )
        estimator = StraightThroughGumbel(setup.parameters(), dict(space.decisions), computed)
        super().__init__(setup, estimator, artifacts, seed)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class that checks all settings."""
        return GdasSetup
