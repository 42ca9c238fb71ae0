"""The common base of the strategies that let a policy propose candidates for an evaluator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import State
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial
from automl_nas.streams import stream, stream_seed
from automl_nas_policy.actions import ActionSequence
from automl_nas_policy.learner import LearnerSettings, PolicyLearner
from automl_nas_policy.limits import LimitedDraws
from automl_nas_policy.policies import PolicySettings, make_policy


@dataclass
class _Sample:
    """A sequence of the present batch.

    Attributes:
        codes: its actions.
        key: its canonical architecture.
        reward: None: its trial is outstanding.
        own: whether a trial was proposed for it; otherwise it repeats an earlier architecture.
    """

    codes: list[int]
    key: Architecture
    reward: float | None
    own: bool


class PolicySearch(AskTellStrategy):
    """A search whose candidates a policy draws, and whose policy learns from their rewards.

    All candidates of a batch come from the same policy; no candidate of the next batch is proposed before the last
    reward of the batch is known. An architecture that was measured before is not proposed again: its reward is known.

    The reward is the objective, negated if it is minimised. A candidate that fails, is pruned, or misses a constraint
    on a metric gets the smallest reward so far.

    Args:
        space: the search space.
        problem: one objective, and limits.
        seed: of the policy and of the draws.
        samples: sequences in a batch, of which each gives one step, or several, of the policy.
        policy: the policy.
        learner: how the policy is trained.
        clip: epsilon of PPO; None: REINFORCE.
        passes: steps for each batch.
        reward_exponent: e; the reward becomes sign(R) |R|^e.
        duplicates: whether an architecture is measured again each time it is drawn.
        repeats: successive draws of measured architectures after which the search ends.
        attempts: draws for one candidate before a random one is proposed.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        samples: int,
        policy: PolicySettings,
        learner: LearnerSettings,
        clip: float | None,
        passes: int,
        reward_exponent: float,
        duplicates: bool,
        repeats: int,
        attempts: int,
    ) -> None:
        for name, value in (("samples", samples), ("passes", passes), ("repeats", repeats)):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}", path=name)
        if not 0 < reward_exponent < math.inf:
            raise ConfigurationError(f"must be positive, not {reward_exponent}", path="reward_exponent")
        if len(problem.objectives) > 1:
            raise ConfigurationError(
                f"a policy maximises one reward, and there are {len(problem.objectives)} objectives "
                f"({', '.join(problem.objectives)}); keep one, and set constraints for the others",
                path="problem.objectives",
            )
        self._space, self._problem, self._seed = space, problem, seed
        self._size, self._exponent, self._duplicates, self._repeats = samples, reward_exponent, duplicates, repeats
        self._sequence = ActionSequence(space.decisions)
        self._policy = make_policy(self._sequence, policy, stream_seed(seed, "policy"))
        self._draws = LimitedDraws(space, problem, self._sequence, self._policy, attempts)
        self._learner = PolicyLearner(self._policy, learner, clip=clip, passes=passes)
        self._drawn = 0
        self._idle = 0
        self._smallest: float | None = None
        self._batch: list[_Sample] = []
        # Canonical architecture -> reward; None: its trial is outstanding, or it has no reward.
        self._rewards: dict[Architecture, float | None] = {}
        self._random: dict[Architecture, None] = {}

    @final
    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates; see `AskTellStrategy.ask`.

        Raises:
            InfeasibleError: no architecture that meets the constraints has been found.
            DivergedError: the policy became NaN or infinite.
        """
        proposals: list[Proposal] = []
        while len(proposals) < n and self._idle < self._repeats:
            if len(self._batch) == self._size:
                if not self._learn():
                    break
                continue
            proposal = self._propose()
            self._idle = self._idle + 1 if proposal is None else 0
            if proposal is not None:
                proposals.append(proposal)
        return proposals

    def _propose(self) -> Proposal | None:
        """Draw a sequence; return its proposal, or None if its reward is known or will be."""
        rng = stream(self._seed, "draw", self._drawn)
        self._drawn += 1
        architecture, own = self._draws.draw(rng, self._rewards.keys())
        if architecture is None:
            return None
        key = self._space.canonical(architecture)
        in_memory = key in self._rewards
        repeated = in_memory and not self._duplicates
        if not own:
            if repeated:
                return None
            self._rewards.setdefault(key, None)
            self._random[key] = None
            return Proposal(architecture, info={"origin": "random"})
        reward = self._rewards.get(key) if repeated else None
        self._batch.append(_Sample(self._sequence.encode(architecture), key, reward, not repeated))
        if repeated:
            return None
        self._rewards.setdefault(key, None)
        return Proposal(architecture, info={"origin": "policy", "update": self._learner.updates})

    @final
    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from trials; see `AskTellStrategy.tell`.

        Raises:
            SpaceError: a trial that was not asked for has an architecture of another space.
            DivergedError: the policy became NaN or infinite.
        """
        for trial in trials:
            key = self._space.canonical(trial.architecture)
            if key not in self._rewards:
                key = self._space.canonical(self._space.validate(trial.architecture))
            reward = self._reward(trial)
            if reward is None:
                self._rewards.setdefault(key, None)
                self._forget(key)
                continue
            self._rewards[key] = reward
            self._answer(key, reward)
        if len(self._batch) == self._size:
            self._learn()

    def _reward(self, trial: Trial) -> float | None:
        """Return the reward of a trial; None: it has none, and no other trial has one yet."""
        score = self._problem.scores(trial)[0]
        if trial.state is not State.COMPLETE or not trial.feasible or not math.isfinite(score):
            return self._smallest
        reward = math.copysign(abs(score) ** self._exponent, score)
        self._smallest = reward if self._smallest is None else min(self._smallest, reward)
        return reward

    def _answer(self, key: Architecture, reward: float) -> None:
        """Give a reward to the samples that wait for it: the first one and those that repeat it."""
        answered = False
        for sample in self._batch:
            if sample.key == key and sample.reward is None and not (sample.own and answered):
                sample.reward = reward
                answered = answered or sample.own

    def _forget(self, key: Architecture) -> None:
        """Remove the first sample of an architecture without a reward, and those that repeat it."""
        others: list[_Sample] = []
        removed = False
        for sample in self._batch:
            if sample.key == key and sample.reward is None and not (sample.own and removed):
                removed = removed or sample.own
            else:
                others.append(sample)
        self._batch = others

    def _learn(self) -> bool:
        """Make the steps of a full batch; return False if a reward is missing."""
        rewards = [sample.reward for sample in self._batch if sample.reward is not None]
        if len(rewards) < len(self._batch):
            # A repetition of an architecture that failed before any reward was known has none, and will have none.
            waiting = {sample.key for sample in self._batch if sample.own and sample.reward is None}
            self._batch = [sample for sample in self._batch if sample.reward is not None or sample.key in waiting]
            return len(self._batch) < self._size
        self._learner.update([sample.codes for sample in self._batch], rewards)
        self._batch = []
        return True

    @final
    def search_state(self) -> dict[str, Any]:
        """Return the policy, its optimiser, the present batch and all rewards."""
        return {
            "drawn": self._drawn,
            "idle": self._idle,
            "smallest": self._smallest,
            "batch": [[each.codes, each.key.to_dict(), each.reward, each.own] for each in self._batch],
            "rewards": [[key.key, reward] for key, reward in self._rewards.items()],
            "random": [key.key for key in self._random],
            "learner": self._learner.state_dict(),
        }

    @final
    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Load what `search_state` returned."""
        self._drawn, self._idle, self._smallest = state["drawn"], state["idle"], state["smallest"]
        self._batch = [
            _Sample(list(codes), Architecture(key), reward, own) for codes, key, reward, own in state["batch"]
        ]
        self._rewards = {Architecture.from_json(text): reward for text, reward in state["rewards"]}
        self._random = dict.fromkeys(Architecture.from_json(text) for text in state["random"])
        self._learner.load_state_dict(state["learner"])
