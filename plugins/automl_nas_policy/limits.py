"""Draws of a policy that meet the limits on costs."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection
from typing import final

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import FeasibleSampler, Problem
from automl_nas_policy.actions import ActionSequence
from automl_nas_policy.policies import Policy

_LOG = logging.getLogger(__name__)


@final
class LimitedDraws:
    """Draws architectures from a policy until one meets all limits on costs.

    The draws have the distribution of the policy given that the limits are met. Their policy gradient is that of the
    unrestricted distribution; the difference is (E[R] - b) times the gradient of the logarithm of the probability of
    meeting the limits, which is near 0 as the baseline b is near the mean reward.

    If no draw meets the limits, a random architecture that meets them is returned, from which nothing is learned.

    Args:
        space: the space.
        problem: its limits.
        sequence: the actions of the space.
        policy: draws the actions.
        attempts: draws for one architecture.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, sequence: ActionSequence, policy: Policy, attempts: int
    ) -> None:
        if attempts < 1:
            raise ConfigurationError(f"attempts must be at least 1, not {attempts}", path="attempts")
        self._problem, self._sequence, self._policy, self._attempts = problem, sequence, policy, attempts
        self._sampler = FeasibleSampler(space, problem, attempts)
        self._warned = False

    def draw(self, rng: random.Random, taken: Collection[Architecture] = ()) -> tuple[Architecture | None, bool]:
        """Return an architecture that meets the limits, and whether the policy drew it; None: none is left.

        Args:
            rng: a generator.
            taken: canonical architectures that a random architecture must not be.

        Raises:
            InfeasibleError: no architecture meets the limits, as far as was seen.
        """
        for _ in range(self._attempts):
            architecture = self._sequence.decode(self._policy.draw(rng))
            if self._problem.feasible(architecture):
                return architecture, True
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "none of %d architectures drawn by the policy meets the limits; a random one that does is taken "
                "instead, and the policy does not learn from it",
                self._attempts,
            )
        return self._sampler.draw(rng, taken), False
