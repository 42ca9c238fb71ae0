"""Policies: distributions over sequences of actions, with parameters that can be trained."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas_policy.actions import ActionSequence

# Small numbers and long sequences: double precision costs nothing here, and draws do not depend on the default type.
_TYPE = torch.float64


@dataclass(frozen=True)
class PolicySettings:
    """The policy.

    Attributes:
        kind: ``lstm``: an LSTM draws the actions in order, each depending on those before it; ``independent``: each
            action has its own probabilities.
        hidden: units of the LSTM.
        layers: of the LSTM.
        initial: parameters begin in the interval from minus this number to this number for ``lstm``; for
            ``independent`` it is the standard deviation of the logits.
        temperature: divides the logits.
        tanh_constant: c; logits become c tanh(logits / temperature), so that no probability ratio exceeds exp(2 c);
            null: they are only divided.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    kind: Literal["lstm", "independent"] = "lstm"
    hidden: int = 100
    layers: int = 1
    initial: float = 0.1
    temperature: float = 1.0
    tanh_constant: float | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"must be at least 1, not {getattr(self, name)}", path=name)
        for name in ("temperature", "tanh_constant"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"must be positive, not {value}", path=name)
        if not 0 <= self.initial < math.inf:
            raise ConfigurationError(f"must be at least 0, not {self.initial}", path="initial")
        if self.kind == "lstm" and not self.initial:
            raise ConfigurationError(
                "an LSTM whose parameters are all 0 gets no gradient; set it above 0", path="initial"
            )

    def squash(self, logits: Tensor) -> Tensor:
        """Return logits after temperature and tanh constant (Bello et al. 2017, arXiv 1611.09940, appendix A.1)."""
        scaled = logits / self.temperature
        return scaled if self.tanh_constant is None else self.tanh_constant * torch.tanh(scaled)


class Likelihood(NamedTuple):
    """What a policy says about sequences of actions.

    Attributes:
        log_probability: of each sequence, shape ``(samples,)``.
        entropy: the sum of the entropies of its actions, each given the actions before it, in nats; ``(samples,)``.
        taken: probability of the alternative 1 at each action of a `Subset`; shape ``(samples, elements)``.
    """

    log_probability: Tensor
    entropy: Tensor
    taken: Tensor


class Policy(nn.Module, ABC):
    """A distribution over sequences of actions. It is on the CPU: sequences are short and drawn one by one.

    Args:
        sequence: the actions.
        settings: temperature and tanh constant are used by all policies.
    """

    def __init__(self, sequence: ActionSequence, settings: PolicySettings) -> None:
        super().__init__()
        self._sequence, self._settings = sequence, settings

    @abstractmethod
    def begin(self, samples: int) -> Any:
        """Return the state before the first action."""

    @abstractmethod
    def advance(self, place: int, codes: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the logits of an action, shape ``(samples, alternatives)``, and the next state.

        Args:
            place: of the action.
            codes: actions, of which those before ``place`` are read, shape ``(samples, actions)``.
            state: from `begin` or the action before.
        """

    def log_probabilities(self, place: int, codes: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the log-probabilities of an action; those of alternatives that are not allowed are -inf."""
        logits, state = self.advance(place, codes, state)
        logits = self._settings.squash(logits)
        allowed = self._sequence.allowed(place, codes)
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -math.inf)
        return logits.log_softmax(1), state

    @final
    @torch.no_grad()
    def draw(self, rng: random.Random) -> list[int]:
        """Draw one sequence; the same for the same generator, whatever else was drawn."""
        codes = torch.zeros(1, len(self._sequence), dtype=torch.int64)
        state = self.begin(1)
        for place in range(len(self._sequence)):
            log_p, state = self.log_probabilities(place, codes, state)
            probabilities = log_p[0].exp().tolist()
            codes[0, place] = _pick(probabilities, rng.random())
        result: list[int] = codes[0].tolist()
        return result

    @final
    def likelihood(self, codes: Tensor) -> Likelihood:
        """Return log-probabilities and entropies of sequences, with a graph to the parameters.

        Args:
            codes: actions, int64 of shape ``(samples, actions)``.
        """
        samples = len(codes)
        log_probability = torch.zeros(samples, dtype=_TYPE)
        entropy = torch.zeros(samples, dtype=_TYPE)
        taken: list[Tensor] = []
        state = self.begin(samples)
        for place, action in enumerate(self._sequence.actions):
            log_p, state = self.log_probabilities(place, codes, state)
            log_probability = log_probability + log_p.gather(1, codes[:, place : place + 1])[:, 0]
            # An alternative that is not allowed adds 0, not 0 times infinity.
            entropy = entropy - (log_p.exp() * log_p.clamp(min=-1e30)).sum(1)
            if action.subset is not None:
                taken.append(log_p[:, 1].exp())
        elements = torch.stack(taken, 1) if taken else torch.zeros(samples, 0, dtype=_TYPE)
        return Likelihood(log_probability, entropy, elements)

    @property
    def largest_entropy(self) -> float:
        """The largest possible sum of entropies, in nats (an upper bound where a `Subset` has limits)."""
        return math.fsum(math.log(action.alternatives) for action in self._sequence.actions)


def _pick(probabilities: list[float], uniform: float) -> int:
    """Return the alternative in whose part of the interval from 0 to 1 a number lies."""
    last = 0
    for place, probability in enumerate(probabilities):
        if probability > 0:
            last = place
            if uniform < probability:
                return place
            uniform -= probability
    return last  # rounding left a remainder


@final
class IndependentPolicy(Policy):
    """Each action has its own softmax. Used with REINFORCE on NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326)."""

    def __init__(self, sequence: ActionSequence, settings: PolicySettings, seed: int) -> None:
        super().__init__(sequence, settings)
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.ParameterList(
            nn.Parameter(settings.initial * torch.randn(action.alternatives, generator=generator, dtype=_TYPE))
            for action in sequence.actions
        )

    def begin(self, samples: int) -> None:
        """Return nothing: actions do not depend on each other."""
        return None

    def advance(self, place: int, codes: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the logits of an action, the same for all samples."""
        return self.logits[place].expand(len(codes), -1), None


@final
class LstmPolicy(Policy):
    """An LSTM whose input is the embedding of the action before; each action has its own linear softmax layer.

    The controller of Zoph and Le 2017 (arXiv 1611.01578, section 3.1), without bias in the softmax layers.
    """

    def __init__(self, sequence: ActionSequence, settings: PolicySettings, seed: int) -> None:
        super().__init__(sequence, settings)
        generator = torch.Generator().manual_seed(seed)
        bound, hidden = settings.initial, settings.hidden

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, dtype=_TYPE).uniform_(-bound, bound, generator=generator))

        self._hidden, self._layers = hidden, settings.layers
        self.start = parameter(1, hidden)
        self.embeddings = nn.ParameterList(parameter(action.alternatives, hidden) for action in sequence.actions[:-1])
        self.outputs = nn.ParameterList(parameter(action.alternatives, hidden) for action in sequence.actions)
        self.cells = nn.ParameterList(
            parameter(*shape)
            for _ in range(settings.layers)
            for shape in ((4 * hidden, hidden), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,))
        )

    def begin(self, samples: int) -> list[tuple[Tensor, Tensor]]:
        """Return hidden and cell state of each layer, all 0."""
        zeros = torch.zeros(samples, self._hidden, dtype=_TYPE)
        return [(zeros, zeros) for _ in range(self._layers)]

    def advance(self, place: int, codes: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the logits of an action and the states of the layers."""
        inputs = self.start.expand(len(codes), -1) if place == 0 else self.embeddings[place - 1][codes[:, place - 1]]
        states: list[tuple[Tensor, Tensor]] = []
        for layer, before in enumerate(state):
            after = torch.lstm_cell(inputs, before, *self.cells[4 * layer : 4 * layer + 4])
            states.append(after)
            inputs = after[0]
        return inputs @ self.outputs[place].T, states


def make_policy(sequence: ActionSequence, settings: PolicySettings, seed: int) -> Policy:
    """Return a fresh policy; its parameters are a function of the seed."""
    kind = LstmPolicy if settings.kind == "lstm" else IndependentPolicy
    return kind(sequence, settings, seed)
