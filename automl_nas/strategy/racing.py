"""A wrapper that scores candidates on a part of the samples first: `Race`, and its test, `beaten_by`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy, Preparation
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.strategy.wrappers import _at_least, _load_trial, _trial_state

if TYPE_CHECKING:
    import numpy as np

BLOCKS = "blocks"
"""Key of a trial's ``info``: metric -> values of blocks of samples, the same blocks for all candidates."""


def beaten_by(values: np.ndarray, error: float) -> list[int]:
    """Return for each candidate the number of candidates that are significantly better.

    Each two are compared by a one-sided paired t-test of their blocks at the level ``error / (n - 1)``. A candidate
    among the k best in truth has at most k - 1 better ones. To be beaten by k, one of the others must pass its test by
    chance, which happens with a probability of at most ``error`` (Bonferroni).

    Args:
        values: of n candidates (rows) in the same blocks of samples (columns), at least 2; smaller is better.
        error: see above.
    """
    import numpy as np
    from scipy import stats

    count, blocks = values.shape
    if count < 2:
        return [0] * count
    critical = stats.t.isf(error / (count - 1), blocks - 1)
    beaten = []
    for row in values:
        differences = row - values  # positive where the other is better
        mean, deviation = differences.mean(1), differences.std(1, ddof=1)
        beaten.append(int(np.sum(mean * np.sqrt(blocks) > critical * deviation)))
    return beaten


@final
class Race(AskTellStrategy):
    """Score candidates on a part of the samples, and finish those that may be among the best.

    The inner strategy's candidates take part in races. Each is first evaluated at the fidelity ``part``. When all of a
    race have their trials, each two are compared by a paired t-test on the same blocks of samples (`beaten_by`).
    Candidates that fewer than ``keep`` others beat are evaluated again at full fidelity. The inner strategy receives
    these trials, and PRUNED ones for the others. A candidate that is among the ``keep`` best of its race in truth is
    pruned with a probability of at most ``error``.

    Who takes part in a race and who is pruned follows from the recorded trials alone: neither the number of workers nor
    a resume changes it. The evaluator must record the values of blocks, as `supernet_weights` does with ``fidelity:
    scored_images``.

    Args:
        space: the space, for ``canonical``.
        problem: with one objective, whose blocks are compared.
        strategy: the strategy to wrap.
        part: the fidelity of the first evaluation, such as a number of images.
        candidates: the number of candidates in a race; a population, for example.
        keep: the number of best candidates that the error is stated for.
        error: above 0, below 1.

    Raises:
        ConfigurationError: a setting is outside its range, or there are several objectives.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        strategy: AskTellStrategy,
        part: float,
        candidates: int = 50,
        keep: int = 10,
        error: float = 0.05,
    ) -> None:
        if not part > 0:
            raise ConfigurationError(f"part must be positive, not {part}", path="part")
        if not 0 < error < 1:
            raise ConfigurationError(f"error must be above 0 and below 1, not {error}", path="error")
        if len(problem.objectives) != 1:
            raise ConfigurationError(
                f"a race compares candidates by one objective, not by {', '.join(problem.objectives)}", path="strategy"
            )
        ((self._metric, direction),) = problem.objectives.items()
        self._sign = 1.0 if direction == "minimize" else -1.0
        self._space, self._inner = space, strategy
        self._part, self._error = part, error
        self._candidates, self._keep = _at_least("candidates", candidates, 2), _at_least("keep", keep, 1)
        self._race = 0
        self._entered = 0  # candidates of the present race
        self._running: list[str] = []  # keys of candidates in evaluation
        self._scored: list[Trial] = []  # trials of the part
        self._finish: list[Proposal] = []  # candidates to evaluate in full

    @classmethod
    def fidelities(cls, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the setting ``part`` and infinity; see `Strategy.fidelities`."""
        return (settings["part"], math.inf) if "part" in settings else ()

    def prepare(self) -> Preparation | None:
        """Prepare the wrapped strategy."""
        return self._inner.prepare()

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates: first those to finish, then those of the next race."""
        if n < 1:
            return []  # not an inner strategy that has no more candidates
        if self._finish:
            proposals, self._finish = self._finish[:n], self._finish[n:]
        elif any(key.endswith("@None") for key in self._running):
            return []  # the next race begins when the inner strategy knows the results of this one
        else:
            entering = self._inner.ask(min(n, self._candidates - self._entered))
            if not entering and self._scored and not self._running:
                self._decide()  # no more candidates come before these have their results
                return self.ask(n)
            self._entered += len(entering)
            proposals = [Proposal(p.architecture, self._part, {**p.info, "race": self._race}) for p in entering]
        self._running += [self._key(proposal) for proposal in proposals]
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from trials; the inner strategy receives full, failed and foreign ones at once."""
        passed_on: list[Trial] = []
        for trial in trials:
            key = self._key(trial)
            if key in self._running:
                self._running.remove(key)
                if trial.fidelity == self._part and trial.state is State.COMPLETE:
                    self._scored.append(trial)
                    continue
            passed_on.append(trial)
        if passed_on:
            self._inner.tell(passed_on)
        if self._entered == self._candidates and not self._running:
            self._decide()

    def _key(self, item: Proposal | Trial) -> str:
        return f"{self._space.canonical(item.architecture).key}@{item.fidelity}"

    def _decide(self) -> None:
        """End the race: have candidates finished, and pass the others on as PRUNED."""
        import numpy as np

        scored = sorted(self._scored, key=lambda trial: trial.number)
        beaten = beaten_by(np.array([self._blocks(trial) for trial in scored]), self._error) if scored else []
        pruned = []
        for trial, by in zip(scored, beaten, strict=True):
            if by < self._keep:
                info = {name: value for name, value in trial.info.items() if name != BLOCKS}
                self._finish.append(Proposal(trial.architecture, None, {**info, "part": trial.number}))
            else:
                pruned.append(replace(trial, state=State.PRUNED))
        self._race, self._entered, self._scored = self._race + 1, 0, []
        if pruned:
            self._inner.tell(pruned)

    def _blocks(self, trial: Trial) -> list[float]:
        blocks = trial.info.get(BLOCKS)
        if not isinstance(blocks, Mapping) or self._metric not in blocks:
            raise EvaluationError(
                f"trial {trial.number} has no values of '{self._metric}' for blocks of samples, which a race compares; "
                "use an evaluator that records them, such as {name: supernet_weights, fidelity: scored_images}, and "
                "one of its metrics as objective"
            )
        return [self._sign * float(value) for value in blocks[self._metric]]

    def search_state(self) -> dict[str, Any]:
        """Return the race and the inner strategy's state."""
        return {
            "inner": self._inner.search_state(),
            "race": self._race,
            "entered": self._entered,
            "running": list(self._running),
            "scored": [_trial_state(trial) for trial in self._scored],
            "finish": [[item.architecture.to_dict(), dict(item.info)] for item in self._finish],
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned."""
        self._inner.load_search_state(state["inner"])
        self._race, self._entered, self._running = state["race"], state["entered"], list(state["running"])
        self._scored = [_load_trial(plain) for plain in state["scored"]]
        self._finish = [Proposal(Architecture(values), None, info) for values, info in state["finish"]]
