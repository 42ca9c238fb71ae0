"""FBNet: relaxed one-hot weights with Gumbel noise, and the expected cost in the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Artifacts, Recipe, Runtime, Task
from automl_nas.space import SupernetSpace
from automl_nas.strategy import Problem
from automl_nas_gradient.collapse import CollapseSettings
from automl_nas_gradient.deriving import DeriveSettings
from automl_nas_gradient.estimators import GumbelSoftmax
from automl_nas_gradient.strategy.base import GradientStrategy
from automl_nas_gradient.strategy.darts import check_temperatures
from automl_nas_gradient.strategy.setup import GradientSetup, Split
from automl_nas_gradient.training.alternation import Optimisation
from automl_nas_gradient.training.settings import AlphaRecipe, CostTerm


@final
@dataclass(frozen=True)
class FbnetSetup(GradientSetup):
    """The settings of `Fbnet`, checked."""

    owner: ClassVar[str] = "fbnet"

    _: KW_ONLY
    temperature: float
    temperature_factor: float

    def _check(self) -> None:
        check_temperatures(self.temperature, None)
        if not 0 < self.temperature_factor <= 1:
            raise ConfigurationError(
                f"must be above 0 and at most 1, not {self.temperature_factor}", path="temperature_factor"
            )

    def temperature_of(self, epoch: int) -> float:
        """Return the temperature of an epoch."""
        return self.temperature * self.temperature_factor**epoch


@final
class Fbnet(GradientStrategy):
    """FBNet (Wu et al. 2019, arXiv 1812.03443).

    All options of a decision are computed, weighted by ``softmax((alpha + G) / temperature)`` with Gumbel noise G, both
    in steps of the weights and in steps of alpha. The loss of alpha is ``L * weight * ln(E)^exponent``, E the expected
    cost under the drawn weights. With ``optimisation: joint`` and ``cost.form: expected`` this is SNAS (Xie et al.
    2019, arXiv 1812.09926).

    Args:
        space: the space whose supernet is trained; its decisions are choices.
        task: images and loss; its split ``search`` is used for alpha.
        runtime: where the training runs.
        artifacts: the weights and alpha are saved in it.
        problem: its limits on costs are met by the derived network.
        seed: of weights, alpha, batches and draws.
        train: the recipe of the weights (defaults: the paper's for 100 classes of ImageNet).
        alpha: the recipe of alpha.
        optimisation: ``bilevel``: alpha is trained on ``alpha_split``, in turn with the weights; ``joint``: weights and
            alpha are trained on the same images and loss, in the same pass.
        temperature: of the relaxation in the first epoch.
        temperature_factor: by which the temperature is multiplied after each epoch.
        pretrain_epochs: epochs at the beginning in which alpha is not trained; a part of ``train.epochs``.
        weight_steps: steps of the weights for each step of alpha.
        weight_split: the split on which the weights are trained.
        alpha_split: the split on which alpha is trained.
        cost: an expected cost in the loss of alpha, under the drawn weights; name its ``metric``.
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
            epochs=90, learning_rate=0.1, momentum=0.9, weight_decay=1e-4, schedule="cosine"
        ),
        alpha: AlphaRecipe = AlphaRecipe(learning_rate=1e-2, beta1=0.9, weight_decay=5e-4),  # noqa: B008 - frozen
        optimisation: Optimisation = "bilevel",
        temperature: float = 5.0,
        temperature_factor: float = 0.956,
        pretrain_epochs: int = 10,
        weight_steps: int = 4,
        weight_split: Split = "train",
        alpha_split: Split = "search",
        cost: CostTerm = CostTerm(form="log", weight=0.2, exponent=0.6),  # noqa: B008 - frozen
        derive: DeriveSettings = DeriveSettings(),  # noqa: B008 - frozen
        collapse: CollapseSettings = CollapseSettings(),  # noqa: B008 - frozen
        iterations_per_step: int = 20,
    ) -> None:
        setup = FbnetSetup(
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
            temperature=temperature,
            temperature_factor=temperature_factor,
        )
        super().__init__(setup, GumbelSoftmax(setup.parameters()), artifacts, seed)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class that checks all settings."""
        return FbnetSetup
