"""Black-box search: `AskTellStrategy`, whose author writes `ask` and `tell`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.trial import Proposal, Trial


class AskTellStrategy(Strategy):
    """A strategy that proposes candidates and learns from their trials.

    It also works alone, inside anybody's own loop: call `ask` and `tell`. Inside a run, the next ``batch`` trials *in
    the order they were asked for* are told, and as many are asked for at once; a stage starts by asking for ``ahead``
    (both are settings of the stage, see `Services`). So what is proposed does not depend on timing, nor on the number
    of workers.

    An author implements `ask`, `tell`, `search_state` and `load_search_state`; all else is final, but for `checker`: a
    constructor that builds networks, reads large files or leaves something behind needs one of its own.
    """

    _exhausted = False

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class: one is constructed when the configuration is checked, and dropped."""
        return cls

    @abstractmethod
    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates.

        Fewer than n means: wait, while trials are outstanding; done, when none are.
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from finished trials: complete, pruned, failed or infeasible, also ones it never asked for."""

    @abstractmethod
    def search_state(self) -> dict[str, Any]:
        """Return everything a fresh instance needs to continue: tensors and JSON-like values only."""

    @abstractmethod
    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned."""

    @final
    def step(self, services: Services) -> None:
        """Tell the next ``batch`` trials in the order they were asked for, and ask for as many."""
        if not self._queue:
            self._ask(services)
        told = self._queue[: services.batch]
        if told:
            trials = services.results(told)
            self._waiting = self._queue[len(told) :]
            self.tell(trials)
            self._ask(services)

    @final
    @property
    def done(self) -> bool:
        """Whether nothing is outstanding and `ask` proposed nothing more."""
        return self._exhausted and not self._queue

    @final
    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of the outstanding trials and the search's own state."""
        return {"waiting": list(self._queue), "exhausted": self._exhausted, "search": self.search_state()}

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._waiting = list(state["waiting"])
        self._exhausted = state["exhausted"]
        self.load_search_state(state["search"])

    @property
    def _queue(self) -> list[int]:
        # Not set in a constructor: authors need not call super().__init__().
        queue: list[int] = self.__dict__.setdefault("_waiting", [])
        return queue

    def _ask(self, services: Services) -> None:
        queue, remaining = self._queue, services.remaining
        wanted = services.ahead - len(queue)
        if remaining is not None:
            wanted = min(wanted, remaining)
        proposals = self.ask(wanted) if wanted > 0 else []
        if len(proposals) > wanted:
            raise AssertionError(f"{type(self).__name__}.ask({wanted}) returned {len(proposals)} proposals")
        self._waiting = queue + services.submit(proposals)
        self._exhausted = not self._waiting
