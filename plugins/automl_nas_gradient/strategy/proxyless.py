"""ProxylessNAS: binary gates, one path for the weights and two for alpha."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Artifacts, Recipe, Runtime, Task
from automl_nas.space import SupernetSpace
from automl_nas.strategy import Problem
from automl_nas_gradient.collapse import CollapseSettings
from automl_nas_gradient.deriving import DeriveSettings
from automl_nas_gradient.estimators import BinaryGates
from automl_nas_gradient.strategy.base import GradientStrategy
from automl_nas_gradient.strategy.setup import GradientSetup, Split
from automl_nas_gradient.training.alternation import Optimisation
from automl_nas_gradient.training.settings import AlphaRecipe, CostTerm


@final
@dataclass(frozen=True)
class ProxylessSetup(GradientSetup):
    """The settings of `Proxyless`, checked."""

    owner: ClassVar[str] = "proxyless"

    _: KW_ONLY
    computed: Literal["two", "all"]

    def _check(self) -> None:
        if self.optimisation == "joint":
            raise ConfigurationError(
                "proxyless computes one path for the weights and two for alpha, so joint optimisation is not possible; "
                "set optimisation: bilevel",
                path="optimisation",
            )


@final
class Proxyless(GradientStrategy):
    """ProxylessNAS with the gradient of binary gates (Cai, Zhu, Han 2019, arXiv 1812.00332).

    A step of the weights computes one option of every decision, drawn from ``softmax(alpha)``. A step of alpha draws
    two options, computes both, and changes their alphas so that all other probabilities stay as they were.

    Args:
        space: the space whose supernet is trained; its decisions are choices.
        task: images and loss; its split ``search`` is used for alpha.
        runtime: where the training runs.
        artifacts: the weights and alpha are saved in it.
        problem: its limits on costs are met by the derived network.
        seed: of weights, alpha, batches and draws.
        train: the recipe of the weights (defaults: the authors', with the epochs of the warm-up).
        alpha: the recipe of alpha.
        optimisation: ``bilevel``: alpha is trained on ``alpha_split``, in turn with the weights; ``joint`` is not
            possible.
        computed: ``two``: a step of alpha computes two options of every decision; ``all``: it computes all of them.
        pretrain_epochs: epochs at the beginning in which alpha is not trained; a part of ``train.epochs``.
        weight_steps: steps of the weights for each step of alpha.
        weight_split: the split on which the weights are trained.
        alpha_split: the split on which alpha is trained.
        cost: an expected cost in the loss of alpha; with ``computed: two``, of the two options.
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
            epochs=160, learning_rate=0.025, momentum=0.9, nesterov=True, weight_decay=4e-5, schedule="cosine"
        ),
        alpha: AlphaRecipe = AlphaRecipe(learning_rate=1e-3, beta1=0.0, weight_decay=0.0),  # noqa: B008 - frozen
        optimisation: Optimisation = "bilevel",
        computed: Literal["two", "all"] = "two",
        pretrain_epochs: int = 40,
        weight_steps: int = 5,
        weight_split: Split = "train",
        alpha_split: Split = "search",
        cost: CostTerm = CostTerm(),  # noqa: B008 - frozen
        derive: DeriveSettings = DeriveSettings(),  # noqa: B008 - frozen
        collapse: CollapseSettings = CollapseSettings(),  # noqa: B008 - frozen
        iterations_per_step: int = 20,
    ) -> None:
        setup = ProxylessSetup(
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
        )
        estimator = BinaryGates(setup.parameters(), dict(space.decisions), computed)
        super().__init__(setup, estimator, artifacts, seed)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class that checks all settings."""
        return ProxylessSetup
