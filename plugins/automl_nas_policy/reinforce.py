"""REINFORCE: the policy gradient of Zoph and Le."""

from __future__ import annotations

from typing import final

from automl_nas.space import SearchSpace
from automl_nas.strategy import Problem
from automl_nas_policy.learner import LearnerSettings
from automl_nas_policy.policies import PolicySettings
from automl_nas_policy.search import PolicySearch


@final
class Reinforce(PolicySearch):
    """Search by REINFORCE (Williams 1992; Zoph and Le 2017, arXiv 1611.01578, section 3.2).

    A policy draws candidates. The reward R of a candidate is its objective. After each batch of m candidates with
    actions a and the baseline b, the policy makes a step along ``1/m sum (R - b) grad log p(a)``, and, with
    ``learner.entropy``, along the gradient of its entropy. With the evaluator ``train``, each candidate is trained from
    scratch: the nested optimisation of the first papers.

    The defaults are near those with which REINFORCE was compared on NAS-Bench-201 (Dong and Yang 2020, arXiv
    2001.00326): independent probabilities, a baseline with decay 0.9. The controller of Zoph and Le is ``policy: {kind:
    lstm, hidden: 35, layers: 2, initial: 0.08}`` with ``learner: {learning_rate: 6e-4}``, for thousands of candidates.

    Args:
        space: the search space.
        problem: one objective, and limits; candidates that miss limits on costs are not proposed.
        seed: of the policy and of the draws.
        samples: candidates of a batch; no candidate of the next batch is proposed before the last reward is known.
        policy: the distribution of the candidates.
        learner: how it is trained.
        reward_exponent: e; the reward becomes sign(R) |R|^e (Zoph and Le: 3, for accuracies).
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
        samples: int = 1,
        policy: PolicySettings = PolicySettings(kind="independent", initial=1e-3),  # noqa: B008 - frozen
        learner: LearnerSettings = LearnerSettings(learning_rate=0.1, baseline_decay=0.9),  # noqa: B008 - frozen
        reward_exponent: float = 1.0,
        duplicates: bool = False,
        repeats: int = 1000,
        attempts: int = 1000,
    ) -> None:
        super().__init__(
            space,
            problem,
            seed=seed,
            samples=samples,
            policy=policy,
            learner=learner,
            clip=None,
            passes=1,
            reward_exponent=reward_exponent,
            duplicates=duplicates,
            repeats=repeats,
            attempts=attempts,
        )
