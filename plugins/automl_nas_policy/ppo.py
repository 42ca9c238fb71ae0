"""PPO: several clipped steps for each batch of candidates."""

from __future__ import annotations

import math
from typing import final

from automl_nas.errors import ConfigurationError
from automl_nas.space import SearchSpace
from automl_nas.strategy import Problem
from automl_nas_policy.learner import LearnerSettings
from automl_nas_policy.policies import PolicySettings
from automl_nas_policy.search import PolicySearch


@final
class Ppo(PolicySearch):
    """Search by proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), as NASNet's controller.

    An LSTM draws a batch of candidates. With r the probability of a candidate's actions divided by their probability
    when they were drawn, R its reward and b the baseline, each of ``passes`` steps increases the mean of ``min(r A,
    clip(r, 1 - clip, 1 + clip) A)`` with ``A = R - b``. The defaults are those of NASNet (Zoph et al. 2018, arXiv
    1707.07012, appendix): an LSTM of 100 units, batches of 20, Adam 3.5e-4, an entropy bonus of 1e-5, a baseline with
    decay 0.95; the paper does not say how many passes, and searched with 20,000 candidates. With hundreds of candidates
    set a higher ``learner.learning_rate``.

    Args:
        space: the search space.
        problem: one objective, and limits; candidates that miss limits on costs are not proposed.
        seed: of the policy and of the draws.
        samples: candidates of a batch; no candidate of the next batch is proposed before the last reward is known.
        policy: the distribution of the candidates.
        learner: how it is trained.
        clip: how far r counts from 1.
        passes: steps of the policy for each batch.
        reward_exponent: e; the reward becomes sign(R) |R|^e.
        duplicates: whether an architecture is measured again each time it is drawn; otherwise its reward is known.
        repeats: successive draws of measured architectures after which the search ends.
        attempts: draws for one candidate that meets the limits; after them a random one that does is proposed, from
            which the policy does not learn.

    Raises:
        ConfigurationError: a setting is outside its range, or the problem has several objectives.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        samples: int = 20,
        policy: PolicySettings = PolicySettings(),  # noqa: B008 - frozen
        learner: LearnerSettings = LearnerSettings(entropy=1e-5),  # noqa: B008 - frozen
        clip: float = 0.2,
        passes: int = 4,
        reward_exponent: float = 1.0,
        duplicates: bool = False,
        repeats: int = 1000,
        attempts: int = 1000,
    ) -> None:
        if not 0 < clip < math.inf:
            raise ConfigurationError(f"must be positive, not {clip}", path="clip")
        super().__init__(
            space,
            problem,
            seed=seed,
            samples=samples,
            policy=policy,
            learner=learner,
            clip=clip,
            passes=passes,
            reward_exponent=reward_exponent,
            duplicates=duplicates,
            repeats=repeats,
            attempts=attempts,
        )
