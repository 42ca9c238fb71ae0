"""DARTS: a softmax over the options of every decision, trained by gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Artifacts, Recipe, Runtime, Task
from automl_nas.space import Subset, SupernetSpace
from automl_nas.strategy import Problem
from automl_nas_gradient.collapse import CollapseSettings
from automl_nas_gradient.deriving import DeriveSettings
from automl_nas_gradient.estimators import Softmax
from automl_nas_gradient.parameters import Form
from automl_nas_gradient.strategy.base import GradientStrategy
from automl_nas_gradient.strategy.setup import GradientSetup, Split
from automl_nas_gradient.training.alternation import Optimisation
from automl_nas_gradient.training.settings import AlphaRecipe, CostTerm, temperature
from automl_nas_gradient.training.unrolled import Hessian


@final
@dataclass(frozen=True)
class DartsSetup(GradientSetup):
    """The settings of `Darts`, checked."""

    owner: ClassVar[str] = "darts"
    alpha_first: ClassVar[bool] = True

    _: KW_ONLY
    order: Literal["first", "second"]
    hessian: Hessian
    edge_weights: bool
    temperature: float
    final_temperature: float | None

    def _check(self) -> None:
        check_temperatures(self.temperature, self.final_temperature)
        if self.order == "second" and self.optimisation == "joint":
            raise ConfigurationError(
                "joint optimisation has no virtual step of the weights; set order: first", path="order"
            )
        if self.order == "second" and self.train.optimizer != "sgd":
            raise ConfigurationError(
                f"the virtual step of the second order is that of sgd, not of {self.train.optimizer}", path="order"
            )

    def form(self, name: str) -> Form:
        """Return a softmax for subsets of one size, otherwise a sigmoid for each element."""
        decision = self.space.decisions[name]
        assert isinstance(decision, Subset)
        if not self.edge_weights:
            return super().form(name)
        return "softmax" if 0 < decision.min == decision.largest else "sigmoid"

    def temperature_of(self, epoch: int) -> float:
        """Return the temperature of an epoch."""
        return temperature(epoch, self.train.epochs, self.temperature, self.final_temperature)

    @property
    def second_order(self) -> Hessian | None:
        """How the second-order term is computed."""
        return self.hessian if self.order == "second" else None


def check_temperatures(start: float, end: float | None) -> None:
    """Check that temperatures are positive.

    Raises:
        ConfigurationError: one is not.
    """
    for name, value in (("temperature", start), ("final_temperature", end)):
        if value is not None and not value > 0:
            raise ConfigurationError(f"must be positive, not {value}", path=name)


@final
class Darts(GradientStrategy):
    """DARTS (Liu, Simonyan, Yang 2019, arXiv 1806.09055).

    All options of a decision are computed and weighted by ``softmax(alpha / temperature)``. Steps of alpha, on images
    held out of the training of the weights, and steps of the weights alternate. The derived network has the largest
    sum of log-probabilities among all that meet the limits on costs.

    Elements of a `Subset` are weighted by a softmax over the elements if all its values have the same size (the edge
    weights of PC-DARTS, Xu et al. 2020, arXiv 1907.05737), otherwise by a sigmoid for each (FairDARTS, Chu et al. 2020,
    arXiv 1911.12126).

    Args:
        space: the space whose supernet is trained.
        task: images and loss; its split ``search`` is used for alpha.
        runtime: where the training runs.
        artifacts: the weights and alpha are saved in it.
        problem: its limits on costs are met by the derived network.
        seed: of weights, alpha and batches.
        train: the recipe of the weights (defaults: the paper's for CIFAR-10).
        alpha: the recipe of alpha.
        optimisation: ``bilevel``: alpha is trained on ``alpha_split``, in turn with the weights; ``joint``: weights and
            alpha are trained on the same images and loss, in the same pass.
        order: ``first``: the gradient of alpha with the present weights; ``second``: with the weights after one virtual
            step, which depend on alpha.
        hessian: how the second-order term is computed: ``finite_difference`` (paper), or ``exact``.
        edge_weights: whether elements of a `Subset` have weights; if not, a space must derive them with other decisions
            (as ``darts_cells`` does).
        temperature: of the softmax in the first epoch.
        final_temperature: in the last epoch, reached linearly; null: the temperature is constant.
        pretrain_epochs: epochs at the beginning in which alpha is not trained; a part of ``train.epochs``.
        weight_steps: steps of the weights for each step of alpha.
        weight_split: the split on which the weights are trained.
        alpha_split: the split on which alpha is trained.
        cost: an expected cost in the loss of alpha.
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
            epochs=50, learning_rate=0.025, momentum=0.9, weight_decay=3e-4, schedule="cosine", clip_norm=5.0
        ),
        alpha: AlphaRecipe = AlphaRecipe(),  # noqa: B008 - frozen
        optimisation: Optimisation = "bilevel",
        order: Literal["first", "second"] = "first",
        hessian: Hessian = "finite_difference",
        edge_weights: bool = False,
        temperature: float = 1.0,
        final_temperature: float | None = None,
        pretrain_epochs: int = 0,
        weight_steps: int = 1,
        weight_split: Split = "train",
        alpha_split: Split = "search",
        cost: CostTerm = CostTerm(),  # noqa: B008 - frozen
        derive: DeriveSettings = DeriveSettings(),  # noqa: B008 - frozen
        collapse: CollapseSettings = CollapseSettings(),  # noqa: B008 - frozen
        iterations_per_step: int = 20,
    ) -> None:
        setup = DartsSetup(
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
            order=order,
            hessian=hessian,
            edge_weights=edge_weights,
            temperature=temperature,
            final_temperature=final_temperature,
        )
        super().__init__(setup, Softmax(setup.parameters()), artifacts, seed)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class that checks all settings."""
        return DartsSetup
