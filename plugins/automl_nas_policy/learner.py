"""How a policy learns from rewards: baseline, REINFORCE and PPO."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError, DivergedError
from automl_nas_policy.policies import Likelihood, Policy

_LOG = logging.getLogger(__name__)

COLLAPSED = 0.01
"""Share of the largest entropy below which a policy proposes nearly always the same architecture."""


@dataclass(frozen=True)
class LearnerSettings:
    """How the policy is trained: Adam, baseline, entropy bonus.

    Attributes:
        learning_rate: of Adam.
        entropy: weight of the entropy of the drawn sequences, in nats, in the objective; it keeps probabilities even.
        baseline_decay: d; the baseline is the moving average b = d b + (1 - d) R of the rewards R of earlier batches.
        corrected: whether the moving average, which begins at 0, is divided by 1 - d^n after n batches, so that it is a
            weighted mean of rewards.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    learning_rate: float = 3.5e-4
    entropy: float = 0.0
    baseline_decay: float = 0.95
    corrected: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError(f"must be positive, not {self.learning_rate}", path="learning_rate")
        if not 0 <= self.entropy < math.inf:
            raise ConfigurationError(f"must be at least 0, not {self.entropy}", path="entropy")
        if not 0 <= self.baseline_decay < 1:
            raise ConfigurationError(
                f"must be at least 0 and below 1, not {self.baseline_decay}", path="baseline_decay"
            )


@final
class Baseline:
    """The moving average of the mean rewards of batches.

    Args:
        decay: see `LearnerSettings.baseline_decay`.
        corrected: see `LearnerSettings.corrected`.
    """

    def __init__(self, decay: float, corrected: bool) -> None:
        self._decay, self._corrected = decay, corrected
        self._average, self._count = 0.0, 0

    @property
    def value(self) -> float | None:
        """The average; None before the first reward, if it is corrected."""
        if not self._corrected:
            return self._average
        return self._average / (1 - self._decay**self._count) if self._count else None

    def update(self, reward: float) -> None:
        """Add the mean reward of a batch."""
        self._average = self._decay * self._average + (1 - self._decay) * reward
        self._count += 1

    def state_dict(self) -> dict[str, Any]:
        """Return average and count."""
        return {"average": self._average, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._average, self._count = state["average"], state["count"]


def reinforce_objective(likelihood: Likelihood, advantages: Tensor) -> Tensor:
    """Return mean((R - b) log p), whose gradient is the policy gradient (Williams 1992)."""
    return (advantages * likelihood.log_probability).mean()


def ppo_objective(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return the mean of min(r A, clip(r, 1 - clip, 1 + clip) A) (Schulman et al. 2017, arXiv 1707.06347, eq. 7).

    Args:
        log_ratio: log r, the log-probabilities minus those under the policy that drew the samples.
        advantages: A.
        clip: epsilon.
    """
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def element_divergence(taken: Tensor, target: float) -> Tensor:
    """Return the mean over elements of KL(Bernoulli(taken) || Bernoulli(target)), in nats, averaged over samples.

    ENAS (Pham et al. 2018, arXiv 1802.03268, section 3.1) prices skip connections so.
    """
    if not taken.numel():
        return taken.sum()
    taken = taken.clamp(1e-12, 1 - 1e-12)
    return (taken * (taken / target).log() + (1 - taken) * ((1 - taken) / (1 - target)).log()).mean()


@final
class PolicyLearner:
    """Trains a policy on batches of sequences and their rewards.

    Args:
        policy: trained in place.
        settings: how.
        clip: epsilon of PPO; None: REINFORCE.
        passes: steps of the optimiser for each batch.
        element_weight: weight of `element_divergence` in the objective.
        element_target: the share of elements of a `Subset` that `element_divergence` prefers.

    Attributes:
        updates: the number of batches so far.
        entropy: mean entropy of the sequences of the last batch, as a share of the largest one; 1 before the first.
    """

    def __init__(
        self,
        policy: Policy,
        settings: LearnerSettings,
        *,
        clip: float | None = None,
        passes: int = 1,
        element_weight: float = 0.0,
        element_target: float = 0.5,
    ) -> None:
        self._policy, self._settings, self._clip, self._passes = policy, settings, clip, passes
        self._element_weight, self._element_target = element_weight, element_target
        self.baseline = Baseline(settings.baseline_decay, settings.corrected)
        self._optimizer = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
        self.updates = 0
        self.entropy = 1.0
        self._warned = False

    def update(self, codes: Sequence[Sequence[int]], rewards: Sequence[float]) -> None:
        """Make the steps of one batch.

        The baseline is the average of earlier batches, so that it does not depend on the samples it is subtracted from;
        for the first batch it is the mean of its own rewards.

        Raises:
            DivergedError: a parameter became NaN or infinite.
        """
        mean = math.fsum(rewards) / len(rewards)
        baseline = self.baseline.value
        with torch.enable_grad():
            advantages = torch.tensor(rewards, dtype=torch.float64) - (mean if baseline is None else baseline)
            sequences = torch.tensor(codes, dtype=torch.int64)
            before: Tensor | None = None
            for _ in range(self._passes):
                likelihood = self._policy.likelihood(sequences)
                if before is None:
                    before = likelihood.log_probability.detach()
                    self._observe(likelihood)
                self._ascend(likelihood, before, advantages)
        self.baseline.update(mean)
        self.updates += 1
        if not all(bool(parameter.isfinite().all()) for parameter in self._policy.parameters()):
            raise DivergedError(
                f"the policy became NaN or infinite at update {self.updates}; lower learner.learning_rate"
            )

    def _ascend(self, likelihood: Likelihood, before: Tensor, advantages: Tensor) -> None:
        if self._clip is None:
            objective = reinforce_objective(likelihood, advantages)
        else:
            objective = ppo_objective(likelihood.log_probability - before, advantages, self._clip)
        if self._settings.entropy:
            objective = objective + self._settings.entropy * likelihood.entropy.mean()
        if self._element_weight:
            objective = objective - self._element_weight * element_divergence(likelihood.taken, self._element_target)
        self._optimizer.zero_grad(set_to_none=True)
        (-objective).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _observe(self, likelihood: Likelihood) -> None:
        largest = self._policy.largest_entropy
        self.entropy = likelihood.entropy.detach().mean().item() / largest if largest else 1.0
        if self.entropy < COLLAPSED and not self._warned:
            self._warned = True
            _LOG.warning(
                "the policy has collapsed: after %d updates its entropy is %.2g of the largest one, so that it draws "
                "nearly always the same architecture; raise learner.entropy, lower learner.learning_rate, or set "
                "policy.tanh_constant",
                self.updates,
                self.entropy,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return policy, optimiser, baseline and counters, without copying tensors."""
        moments = self._optimizer.state_dict()["state"]
        return {
            "policy": dict(self._policy.state_dict()),
            "moments": {str(number): dict(values) for number, values in moments.items()},
            "baseline": self.baseline.state_dict(),
            "updates": self.updates,
            "entropy": self.entropy,
            "warned": self._warned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the continuation is bit-equal."""
        self._policy.load_state_dict(state["policy"])
        # Copies: the optimiser keeps the tensors that it is given, and changes them in place.
        moments = {
            int(number): {name: value.clone() for name, value in values.items()}
            for number, values in state["moments"].items()
        }
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.baseline.load_state_dict(state["baseline"])
        self.updates, self.entropy, self._warned = state["updates"], state["entropy"], state["warned"]
