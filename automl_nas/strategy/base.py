"""How a search advances: `Strategy` and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from automl_nas.evaluation.checker import unchecked
from automl_nas.evaluation.evaluator import State
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.trial import Proposal, Trial


class Services(ABC):
    """What the driver offers a strategy during a step."""

    @abstractmethod
    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """Number the proposals, have them evaluated in the background, and return their numbers in order.

        Raises:
            ReplayError: the record of a resumed run holds another proposal under the next number.
        """

    @abstractmethod
    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """Wait for trials submitted now, or before the run was resumed, and return them in the order given."""

    def evaluate(self, proposals: Sequence[Proposal]) -> list[Trial]:
        """Submit and wait: trials in the order of the proposals."""
        return self.results(self.submit(proposals))

    @abstractmethod
    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Record numbers about the progress (a loss, a learning rate) in metrics.jsonl and show them.

        Args:
            values: name -> number.
            step: the strategy's own count (iterations, generations); it never decreases within a stage.
        """

    @abstractmethod
    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Say how far the stage is, for the progress bar; nothing is recorded."""

    @abstractmethod
    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """Return a read-only view of the ledger, in the order of numbers.

        Args:
            stage: of this stage only; None: of all.
            state: of this state only; None: of any.
        """

    @property
    @abstractmethod
    def batch(self) -> int:
        """How many trials an `AskTellStrategy` is told at once: a setting of the stage, at least 1."""

    @property
    @abstractmethod
    def ahead(self) -> int:
        """How many trials an `AskTellStrategy` keeps outstanding: a setting of the stage, at least `batch`."""

    @property
    @abstractmethod
    def remaining(self) -> int | None:
        """How many more trials the stage's budget allows to submit; None: no limit."""


class Strategy(ABC):
    """One way to search.

    The driver calls `step` until `done` or until the budget is spent, and checkpoints between steps. Collaborators
    (SearchSpace, Problem, Task, Runtime, Artifacts) come to the constructor by annotated type, before ``*``; settings
    after it; ``seed: int`` is the run's seed for this stage. Networks are built on their device in the constructor,
    so that loading a state works on a GPU.

    Attributes:
        space_type: what it needs to search, checked when the configuration is resolved.
    """

    space_type: ClassVar[type[SearchSpace]] = SearchSpace  # type: ignore[type-abstract]

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return what checks the constructor's arguments before there is a run (default: nothing is checked).

        A stage may begin hours after its run, and a constructor is called when its stage begins. The checker is called
        when the configuration is checked, before anything is written. It is a function with some of the constructor's
        parameters, by the same names and annotations, without defaults; or the class itself, where constructing costs
        nothing and leaves nothing behind. It raises what the constructor would raise; what it returns is not used.
        `Artifacts` belong to a run: a checker that cannot do without them is not called.
        """
        return unchecked

    @abstractmethod
    def step(self, services: Services) -> None:
        """Advance by a batch of trials or a fixed number of iterations: never by the clock; well under a minute."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether there is nothing left to do."""

    @property
    def planned(self) -> int | None:
        """How many trials it will propose in all, for showing the time left (default: None, not known)."""
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything a fresh instance needs to continue: tensors and JSON-like values only."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
