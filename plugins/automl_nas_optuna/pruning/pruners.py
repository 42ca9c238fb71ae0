"""The pruners of Optuna as components, with the settings of their constructors."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Pruner
from automl_nas.plugin import import_reference
from automl_nas.strategy import Problem
from automl_nas_optuna.pruning.base import OptunaPruner

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


@final
class Median(OptunaPruner):
    """Stop a trial whose best value so far is worse than the median of the others at the same step.

    `optuna.pruners.MedianPruner`; the rule is that of Google Vizier (Golovin et al. 2017).

    Args:
        problem: its first objective is the value that evaluations report.
        n_startup_trials: number of complete trials before any is stopped.
        n_warmup_steps: no trial is stopped before this step.
        interval_steps: steps between two decisions.
        n_min_trials: number of complete trials with a value at a step that are needed there.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        n_min_trials: int = 1,
    ) -> None:
        self._settings = (n_startup_trials, n_warmup_steps, interval_steps)
        self._n_min_trials = n_min_trials
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        from optuna.pruners import MedianPruner

        return MedianPruner(*self._settings, n_min_trials=self._n_min_trials)


@final
class Percentile(OptunaPruner):
    """Stop a trial whose best value so far is not among the best per cent of the others at the same step.

    `optuna.pruners.PercentilePruner`.

    Args:
        problem: its first objective is the value that evaluations report.
        percentile: per cent of the trials that are kept, 0 to 100.
        n_startup_trials: number of complete trials before any is stopped.
        n_warmup_steps: no trial is stopped before this step.
        interval_steps: steps between two decisions.
        n_min_trials: number of complete trials with a value at a step that are needed there.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        percentile: float,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        n_min_trials: int = 1,
    ) -> None:
        self._settings = (percentile, n_startup_trials, n_warmup_steps, interval_steps)
        self._n_min_trials = n_min_trials
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        from optuna.pruners import PercentilePruner

        return PercentilePruner(*self._settings, n_min_trials=self._n_min_trials)


@final
class SuccessiveHalving(OptunaPruner):
    """Stop a trial at a rung unless it is among the best of those that reached the rung.

    `optuna.pruners.SuccessiveHalvingPruner`: asynchronous successive halving, Li et al. 2020, arXiv 1810.05934.

    Args:
        problem: its first objective is the value that evaluations report.
        min_resource: the step of the first rung; null: a hundredth of the last step of the complete trials.
        reduction_factor: one in this number passes a rung, and the next rung is at as many times more steps.
        min_early_stopping_rate: the first rung is at ``min_resource * reduction_factor ** min_early_stopping_rate``.
        bootstrap_count: number of trials at a rung that is needed to pass it.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        min_resource: int | None = 1,
        reduction_factor: int = 4,
        min_early_stopping_rate: int = 0,
        bootstrap_count: int = 0,
    ) -> None:
        first: int | str = "auto" if min_resource is None else min_resource
        self._settings: tuple[Any, ...] = (first, reduction_factor, min_early_stopping_rate, bootstrap_count)
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(*self._settings)


@final
class Hyperband(OptunaPruner):
    """Successive halving with several brackets, each of which begins to stop trials at another step.

    `optuna.pruners.HyperbandPruner`; Li et al. 2018, arXiv 1603.06560. The bracket of a trial depends on its number.
    The strategy of the stage learns from the trials of all brackets. (The strategy ``hyperband`` is another one: it
    promotes candidates between fidelities.)

    Args:
        problem: its first objective is the value that evaluations report.
        min_resource: the step of the first rung of the first bracket.
        max_resource: the last step of an evaluation; null: that of the complete trials.
        reduction_factor: see `successive_halving`.
        bootstrap_count: see `successive_halving`.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        min_resource: int = 1,
        max_resource: int | None = None,
        reduction_factor: int = 3,
        bootstrap_count: int = 0,
    ) -> None:
        if min_resource < 1:
            raise ConfigurationError(f"must be at least 1, not {min_resource}", path="min_resource")
        if max_resource is not None and max_resource < min_resource:
            raise ConfigurationError(
                f"must be at least min_resource ({min_resource}), not {max_resource}", path="max_resource"
            )
        if reduction_factor < 2:
            raise ConfigurationError(f"must be at least 2, not {reduction_factor}", path="reduction_factor")
        if bootstrap_count < 0:
            raise ConfigurationError(f"must not be negative, but is {bootstrap_count}", path="bootstrap_count")
        last: int | str = "auto" if max_resource is None else max_resource
        self._settings: tuple[Any, ...] = (min_resource, last, reduction_factor, bootstrap_count)
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(*self._settings)


@final
class Threshold(OptunaPruner):
    """Stop a trial with a value outside of limits.

    `optuna.pruners.ThresholdPruner`. Other trials have no influence.

    Args:
        problem: its first objective is the value that evaluations report.
        lower: smallest value; null: none.
        upper: largest value; null: none.
        n_warmup_steps: no trial is stopped before this step.
        interval_steps: steps between two decisions.

    Raises:
        ConfigurationError: a setting is outside its range, or there is no limit.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        lower: float | None = None,
        upper: float | None = None,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
    ) -> None:
        self._settings = (lower, upper, n_warmup_steps, interval_steps)
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        from optuna.pruners import ThresholdPruner

        return ThresholdPruner(*self._settings)


@final
class Patient(OptunaPruner):
    """Stop a trial that does not get better, or have another pruner decide only about such trials.

    `optuna.pruners.PatientPruner`.

    Args:
        problem: its first objective is the value that evaluations report.
        patience: number of reports without an improvement that are tolerated.
        min_delta: improvements below this do not count.
        pruner: decides about trials whose patience is spent; null: all of them are stopped.

    Raises:
        ConfigurationError: a setting is outside its range, or the other pruner is not one of Optuna's.
    """

    def __init__(
        self, problem: Problem, *, patience: int, min_delta: float = 0.0, pruner: Pruner | None = None
    ) -> None:
        if pruner is not None and not isinstance(pruner, OptunaPruner):
            raise ConfigurationError(f"must be a pruner of Optuna, not {type(pruner).__name__}", path="pruner")
        self._inner, self._patience, self._min_delta = pruner, patience, min_delta
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        from optuna.pruners import PatientPruner

        return PatientPruner(None if self._inner is None else self._inner.make(), self._patience, self._min_delta)


@final
class Wilcoxon(OptunaPruner):
    """Stop a trial that a signed-rank test finds worse than the best one, step by step.

    `optuna.pruners.WilcoxonPruner`, for evaluations whose steps are independent, such as the parts of a
    cross-validation; values of a learning curve are not.

    Args:
        problem: its first objective is the value that evaluations report.
        p_threshold: p-value below which a trial is stopped, 0 to 1.
        n_startup_steps: number of steps that both trials need.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(self, problem: Problem, *, p_threshold: float = 0.1, n_startup_steps: int = 2) -> None:
        self._p_threshold, self._n_startup_steps = p_threshold, n_startup_steps
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        from optuna.pruners import WilcoxonPruner

        return WilcoxonPruner(p_threshold=self._p_threshold, n_startup_steps=self._n_startup_steps)


@final
class AnyPruner(OptunaPruner):
    """A pruner of your own: any subclass of `optuna.pruners.BasePruner`.

    A new one is constructed for each trial, so what it learns must be in the study: in values and attributes of trials.

    Args:
        problem: its first objective is the value that evaluations report.
        pruner: its class as ``package.module:Class``.
        settings: arguments of its constructor by name.

    Raises:
        ConfigurationError: the class cannot be imported or is not a pruner, or rejects its settings.
    """

    def __init__(self, problem: Problem, *, pruner: str, settings: dict[str, Any] | None = None) -> None:
        from optuna.pruners import BasePruner

        try:
            pruner_class: Any = import_reference(pruner, path="pruner")
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"cannot import the pruner '{pruner}': {error}", path="pruner") from error
        if not (isinstance(pruner_class, type) and issubclass(pruner_class, BasePruner)) or inspect.isabstract(
            pruner_class
        ):
            raise ConfigurationError(
                f"'{pruner}' is not a pruner: it must be a concrete subclass of optuna.pruners.BasePruner",
                path="pruner",
            )
        self._class, self._settings = pruner_class, dict(settings or {})
        super().__init__(problem)

    def _construct(self) -> BasePruner:
        pruner: BasePruner = self._class(**self._settings)
        return pruner
