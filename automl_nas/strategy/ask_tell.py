"""Black-box search: `AskTellStrategy`, a strategy that implements `ask` and `tell`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from automl_nas.errors import PluginError
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.trial import Proposal, Trial


@final
@dataclass(frozen=True)
class Preparation:
    """How far the work is that precedes the first proposal.

    Attributes:
        done: what is done, at least 0 and less than ``total``.
        total: all of it.
        unit: what is counted, in the plural.
    """

    done: int
    total: int
    unit: str


class AskTellStrategy(Strategy):
    """A strategy that proposes candidates and learns from their trials.

    It also works without a run, in any loop that calls `ask` and `tell`. In a run, a stage starts by asking for
    ``ahead`` proposals. Then each step tells the next ``batch`` trials, *in the order in which they were proposed*, and
    asks for as many new proposals (``ahead`` and ``batch`` are settings of the stage, see `Services`). So the proposals
    depend neither on timing nor on the number of workers.

    A subclass implements `ask`, `tell`, `search_state` and `load_search_state`. It overrides `checker` if its
    constructor builds networks, reads large files or writes anything, and `prepare` if its first proposal takes long;
    all other methods are final.
    """

    _exhausted = False

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class: it is constructed once when the configuration is checked; see `Strategy.checker`."""
        return cls

    def prepare(self) -> Preparation | None:
        """Do a part of the work that precedes the first proposal; return how far it is, or None: all is done.

        By default there is no such work. In a run each part is a step, so it is shown as progress and is not lost if
        the run is interrupted: a part takes well under a minute, and `search_state` has what was done. A wrapper calls
        that of the strategy it wraps. `ask` does what is left, since it may be called without it.
        """
        return None

    @abstractmethod
    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates.

        Fewer than n proposals mean: wait for outstanding trials; or, with no trial outstanding, the search is done.
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from finished trials: complete, pruned, failed or infeasible, also trials it did not propose."""

    @abstractmethod
    def search_state(self) -> dict[str, Any]:
        """Return everything that a new instance needs to continue: tensors and JSON-like values only."""

    @abstractmethod
    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned."""

    @final
    def step(self, services: Services) -> None:
        """Tell the next ``batch`` trials, in the order in which they were proposed, and ask for as many proposals.

        Before the first proposal a step is a part of the preparation.
        """
        if not self._queue:
            if (preparation := self.prepare()) is not None:
                services.progress(preparation.done, preparation.total, preparation.unit)
                return
            self._ask(services)
        numbers = self._queue[: services.batch]
        if numbers:
            trials = services.results(numbers)
            self._waiting = self._queue[len(numbers) :]
            self.tell(trials)
            self._ask(services)

    @final
    @property
    def done(self) -> bool:
        """Whether no trial is outstanding and the last `ask` returned no proposal."""
        return self._exhausted and not self._queue

    @final
    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of the outstanding trials and the search's own state."""
        return {"waiting": list(self._queue), "exhausted": self._exhausted, "search": self.search_state()}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `state_dict` returned."""
        self._waiting = list(state["waiting"])
        self._exhausted = state["exhausted"]
        self.load_search_state(state["search"])

    @property
    def _queue(self) -> list[int]:
        # Not set in a constructor, so that subclasses need not call super().__init__().
        queue: list[int] = self.__dict__.setdefault("_waiting", [])
        return queue

    def _ask(self, services: Services) -> None:
        queue, remaining = self._queue, services.remaining
        count = services.ahead - len(queue)
        if remaining is not None:
            count = min(count, remaining)
        proposals = self.ask(count) if count > 0 else []
        if not isinstance(proposals, Sequence):
            raise PluginError(
                f"{type(self).__name__}.ask({count}) returned {proposals!r}, a {type(proposals).__name__}; it must "
                "return a list of Proposal(architecture), an empty one when there is nothing to propose"
            )
        if len(proposals) > count:
            raise PluginError(
                f"{type(self).__name__}.ask({count}) returned {len(proposals)} proposals; it must return at most "
                f"{count}, and keep the others for its next calls"
            )
        self._waiting = queue + services.submit(proposals)
        self._exhausted = not self._waiting
