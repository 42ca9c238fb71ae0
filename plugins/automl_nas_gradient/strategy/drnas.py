"""DrNAS: the weights of options are drawn from a Dirichlet distribution."""

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
from automl_nas_gradient.estimators import DirichletWeights
from automl_nas_gradient.strategy.base import GradientStrategy
from automl_nas_gradient.strategy.setup import GradientSetup, Split
from automl_nas_gradient.training.alternation import Optimisation
from automl_nas_gradient.training.settings import AlphaRecipe, CostTerm


@final
@dataclass(frozen=True)
class DrnasSetup(GradientSetup):
    """The settings of `Drnas`, checked."""

    owner: ClassVar[str] = "drnas"
    alpha_first: ClassVar[bool] = True

    _: KW_ONLY
    kl: float

    def _check(self) -> None:
        if not 0 <= self.kl < float("inf"):
            raise ConfigurationError(f"must be at least 0, not {self.kl}", path="kl")


@final
class Drnas(GradientStrategy):
    """DrNAS (Chen et al. 2021, arXiv 2006.10355).

    All options of a decision are computed, with weights drawn from Dir(ELU(alpha) + 1), both in steps of the weights
    and in steps of alpha, which follow the pathwise gradient. The network is derived from the means.

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
        kl: weight of the divergence of the distributions from the uniform one in the loss of alpha (authors: 1e-3,
            instead of the weight decay of alpha).
        pretrain_epochs: epochs at the beginning in which alpha is not trained; a part of ``train.epochs``.
        weight_steps: steps of the weights for each step of alpha.
        weight_split: the split on which the weights are trained.
        alpha_split: the split on which alpha is trained.
        cost: an expected cost in the loss of alpha, under the drawn weights.
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
            epochs=100, learning_rate=0.025, momentum=0.9, weight_decay=3e-4, schedule="cosine", clip_norm=5.0
        ),
        alpha: AlphaRecipe = AlphaRecipe(),  # noqa: B008 - frozen
        optimisation: Optimisation = "bilevel",
        kl: float = 0.0,
        pretrain_epochs: int = 0,
        weight_steps: int = 1,
        weight_split: Split = "train",
        alpha_split: Split = "search",
        cost: CostTerm = CostTerm(),  # noqa: B008 - frozen
        derive: DeriveSettings = DeriveSettings(),  # noqa: B008 - frozen
        collapse: CollapseSettings = CollapseSettings(),  # noqa: B008 - frozen
        iterations_per_step: int = 20,
    ) -> None:
        setup = DrnasSetup(
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
            kl=kl,
        )
        super().__init__(setup, DirichletWeights(setup.parameters(), kl), artifacts, seed)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class that checks all settings."""
        return DrnasSetup
