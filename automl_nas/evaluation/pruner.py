"""Pruners stop evaluations whose intermediate values are poor: `Pruner`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from automl_nas.evaluation.checker import unchecked
from automl_nas.evaluation.evaluator import Earlier


class Judge(ABC):
    """Judges one evaluation by its intermediate values."""

    @abstractmethod
    def prunes(self, step: int, value: float) -> bool:
        """Receive an intermediate value; return whether the evaluation is stopped.

        Args:
            step: as reported, usually a number of epochs.
            value: of the first objective of the stage.
        """

    @property
    def notes(self) -> Mapping[str, object]:
        """JSON values that are recorded with the trial, and that `EarlierTrial` has in later ones (default: none)."""
        return {}


class Pruner(ABC):
    """Decides during evaluations whether they are worth continuing.

    A trial is compared with those that the strategy had received when the trial was proposed. They do not depend on
    timing, so decisions depend neither on the order in which evaluations end nor on the number of workers, and a
    resumed run makes the same ones. A decision is a pure function of `Earlier` and the reported values: a judge may be
    made in any process, and more than once for one trial.

    The constructor receives the `Problem`; settings are keyword-only.
    """

    @abstractmethod
    def judge(self, earlier: Earlier) -> Judge:
        """Return what judges the evaluation of one trial.

        Args:
            earlier: the number of the trial, and the trials that it is compared with.
        """

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return a function that checks constructor arguments; see `automl_nas.strategy.Strategy.checker`."""
        return unchecked
