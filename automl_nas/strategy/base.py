"""How a search advances: `Strategy`, and the `Services` that the driver offers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from automl_nas.evaluation.checker import unchecked
from automl_nas.evaluation.evaluator import State
from automl_nas.evaluation.shortened import Shortened
from automl_nas.evaluation.task import Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.trial import Proposal, Trial


class Services(ABC):
    """What the driver offers a strategy during a step."""

    @abstractmethod
    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """Number the proposals, have them evaluated in the background, and return their numbers in order.

        Raises:
            ReplayError: the ledger of a resumed run contains another proposal under the next number.
        """

    @abstractmethod
    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """Wait for trials, including those submitted before the run was resumed.

        The trials are returned in the order of ``numbers``.
        """

    def evaluate(self, proposals: Sequence[Proposal]) -> list[Trial]:
        """Submit proposals, wait, and return their trials in the order of the proposals."""
        return self.results(self.submit(proposals))

    @abstractmethod
    def record(self, proposal: Proposal, metrics: Mapping[str, float]) -> Trial:
        """Number and record a candidate that the strategy measured itself; return its trial.

        For strategies that train and measure in one: ENAS measures networks with shared weights that are still in
        training, so that no evaluator could measure them again. The trial belongs to the stage, its budget and its
        Pareto set like every other one. It has costs and violations, and it is FAILED if a metric is not finite or if
        one that the problem uses is missing.

        A resumed strategy measures again what it measured since its checkpoint. It receives the trial that is recorded
        under the number, whatever it measured now: decide by the trial that is returned, not by ``metrics``.

        Weights in training change, and with them what a metric means. Only trials of the highest fidelity are compared:
        a strategy that should be judged by its last measurements gives the epoch as ``Proposal.fidelity``.

        Args:
            proposal: the candidate.
            metrics: metric -> value; names as in `Strategy.metric_names`.

        Raises:
            ReplayError: the ledger of a resumed run contains another proposal under the next number.
        """

    @abstractmethod
    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Record and show values that describe the progress (a loss, a learning rate); recorded in metrics.jsonl.

        Args:
            values: name -> number.
            step: the strategy's own count (iterations, generations); it never decreases within a stage.
        """

    @abstractmethod
    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Report how far the stage is, for the progress bar; nothing is recorded."""

    @abstractmethod
    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """Return a read-only view of the ledger, in the order of numbers.

        Args:
            stage: only trials of this stage; None: of all stages.
            state: only trials in this state; None: in any state.
        """

    @property
    @abstractmethod
    def batch(self) -> int:
        """The number of trials that an `AskTellStrategy` receives at once: a stage setting, at least 1."""

    @property
    @abstractmethod
    def ahead(self) -> int:
        """The number of trials that an `AskTellStrategy` keeps outstanding: a stage setting, at least `batch`."""

    @property
    @abstractmethod
    def remaining(self) -> int | None:
        """The number of further trials that the stage's budget allows; None: no limit."""


@dataclass(frozen=True)
class Phase:
    """A part of a stage in which steps take another time than in the others; see `Strategy.phases`.

    Attributes:
        share: of the work of the stage, above 0, at most 1.
        settings: settings of the strategy with which a stage begins with this phase.
    """

    share: float
    settings: Mapping[str, Any] = field(default_factory=dict)


class Strategy(ABC):
    """A search algorithm.

    The driver calls `step` until `done` or until the budget is spent, and writes checkpoints between steps. The
    constructor's parameters before ``*`` are collaborators, supplied by their annotated type (SearchSpace, Problem,
    Task, Runtime, Artifacts), and ``seed: int``, the run's seed for this stage. Parameters after ``*`` are settings.
    The constructor builds networks on their device, so that loading a state works on a GPU.

    Attributes:
        space_type: the type of space that the strategy needs; checked when the configuration is resolved.
    """

    space_type: ClassVar[type[SearchSpace]] = SearchSpace  # type: ignore[type-abstract]

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return a function that checks the constructor's arguments before the run (default: nothing is checked).

        A strategy is constructed when its stage begins, perhaps hours after the start of the run. The checker is called
        when the configuration is checked, before anything is written. It is a function with some of the constructor's
        parameters, with the same names and annotations and without defaults; or the class itself, if constructing it is
        cheap and has no side effects. It raises the errors that the constructor would raise; its result is not used.
        `Artifacts` exist in a run only: a checker that requires them is not called.
        """
        return unchecked

    @classmethod
    def phases(cls, settings: Mapping[str, Any]) -> Sequence[Phase]:
        """Return the parts of a stage whose steps differ in speed, for estimates of the duration (default: one part).

        Args:
            settings: the resolved settings of the strategy.
        """
        return (Phase(1.0),)

    @classmethod
    def fidelities(cls, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the fidelities of which it is known that the strategy asks for them (default: none).

        The stage is refused before the run if its evaluator cannot have one of them (`Evaluator.check_fidelity`).
        Infinity stands for candidates without a fidelity, which have the evaluator's default.

        Args:
            settings: the resolved settings of the strategy.
        """
        return ()

    @classmethod
    def artifact_names(cls, settings: Mapping[str, Any]) -> frozenset[str] | None:
        """Return the names of the artifacts that a stage saves, or None (default: None, not known).

        A stage that is configured to load another artifact is then refused before the run.

        Args:
            settings: the resolved settings of the strategy.
        """
        return None

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        """Return the names of the metrics that it passes to `Services.record`, or None (default: None).

        Objectives and constraints of a stage without an evaluator can be these metrics. None: it records no trials, or
        only metrics of the task.
        """
        return None

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened | None:
        """Return settings with which a stage does at most a share of its work, for runs with a time budget.

        If the share is too small for a result, the settings are those of the least work that has one. A larger share
        never gives less work. By default a stage cannot be shortened. A stage whose work is trials needs no such
        method: its number of trials is limited.

        Args:
            settings: the resolved settings of the strategy.
            share: above 0, at most 1.
        """
        return None

    def expected(self, seed: int) -> Architecture | None:
        """Return an architecture that costs about as much as the one that the strategy will deliver (default: None).

        An estimate of the final stage is measured on it, without a search; by default on a random feasible one.

        Args:
            seed: of random draws.
        """
        return None

    @abstractmethod
    def step(self, services: Services) -> None:
        """Advance by a batch of trials or a fixed number of iterations, never by the clock; in well under a minute."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the search has ended."""

    @property
    def planned(self) -> int | None:
        """The total number of trials it will propose, to show the remaining time (default: None, unknown)."""
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that a new instance needs to continue: tensors and JSON-like values only."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `state_dict` returned."""
