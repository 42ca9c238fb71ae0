"""Policies and their gradients against closed forms, enumeration, and torch's own LSTM."""

from __future__ import annotations

import itertools
import logging
import math
import random

import pytest
import torch
from scipy import stats
from torch import nn

from automl_nas.errors import ConfigurationError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice, Decision, Ordinal, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas_policy.actions import ActionSequence
from automl_nas_policy.learner import (
    Baseline,
    LearnerSettings,
    PolicyLearner,
    element_divergence,
    ppo_objective,
    reinforce_objective,
)
from automl_nas_policy.policies import IndependentPolicy, LstmPolicy, Policy, PolicySettings, make_policy

LOGITS = ((0.2, -0.1, 0.0), (0.0, 0.3, -0.3), (0.1, 0.1, -0.2))
"""The worked example of 27 architectures; its numbers below were computed by enumeration, apart from this code."""
THREE: dict[str, Decision] = {name: Choice((0, 1, 2)) for name in "ijk"}
MIXED: dict[str, Decision] = {
    "kind": Choice(("a", "b", "c")),
    "edges": Subset((0, 1, 2, 3), min=1, max=2),
    "width": Ordinal((4, 8)),
    "free": Subset(("x", "y")),
}


def reward(i: int, j: int, k: int) -> float:
    return 0.5 + 0.03 * i + 0.02 * j + 0.01 * k + 0.05 * (i == j) + 0.04 * (j == k) - 0.06 * (i == 2 and k == 0)


ALL = list(itertools.product(range(3), repeat=3))
REWARDS = torch.tensor([reward(*codes) for codes in ALL], dtype=torch.float64)


def example() -> IndependentPolicy:
    policy = IndependentPolicy(ActionSequence(THREE), PolicySettings("independent"), 0)
    with torch.no_grad():
        for parameter, row in zip(policy.logits, LOGITS, strict=True):
            parameter.copy_(torch.tensor(row, dtype=torch.float64))
    return policy


def gradients(policy: Policy) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in policy.parameters() if parameter.grad is not None])


def test_the_exact_gradient_of_27_architectures() -> None:
    policy = example()
    log_p = policy.likelihood(torch.tensor(ALL)).log_probability
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    mean = (log_p.exp() * REWARDS).sum()
    assert mean.item() == pytest.approx(0.5784122878494643, abs=1e-12)
    mean.backward()
    expected = [-0.0082709482, 0.0041938883, 0.0040770600, -0.0046449701, 0.0002536923, 0.0043912778]
    expected += [-0.0080230410, 0.0042799668, 0.0037430742]
    assert gradients(policy).tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("baseline", "variance"),
    [(0.0, 0.6653552229), (0.5, 0.0158711494), (0.5784122878494643, 0.0033230081), (0.5798412869, 0.0033189871)],
)
def test_the_estimator_has_the_exact_mean_for_every_baseline(baseline: float, variance: float) -> None:
    policy = example()
    with torch.no_grad():
        p = policy.likelihood(torch.tensor(ALL)).log_probability.exp()
    samples = []
    for codes, value in zip(ALL, REWARDS, strict=True):
        policy.zero_grad()
        reinforce_objective(policy.likelihood(torch.tensor([codes])), (value - baseline)[None]).backward()
        samples.append(gradients(policy))
    estimates = torch.stack(samples)
    mean = (p[:, None] * estimates).sum(0)
    assert mean[:3].tolist() == pytest.approx([-0.0082709482, 0.0041938883, 0.0040770600], abs=1e-10)
    total = (p[:, None] * (estimates - mean) ** 2).sum().item()
    assert total == pytest.approx(variance, abs=1e-9)


def test_the_gradient_of_one_sample() -> None:
    policy = example()
    likelihood = policy.likelihood(torch.tensor([(1, 1, 1)]))
    assert likelihood.log_probability.item() == pytest.approx(-3.0764777273, abs=1e-10)
    assert likelihood.entropy.item() == pytest.approx(1.0906356052 + 1.0692729686 + 1.0893437662, abs=1e-9)
    reinforce_objective(likelihood, torch.tensor([0.65 - 0.5], dtype=torch.float64)).backward()
    expected = [-0.0586040750, 0.1065850334, -0.0479809585, -0.0485330556, 0.0844872275, -0.0359541719]
    expected += [-0.0547281826, 0.0952718174, -0.0405436348]
    assert gradients(policy).tolist() == pytest.approx(expected, abs=1e-9)


def test_tanh_and_temperature() -> None:
    logits = torch.tensor([3.0, 0.0, -2.0], dtype=torch.float64)
    squashed = PolicySettings(temperature=5.0, tanh_constant=2.5).squash(logits)
    assert squashed.tolist() == pytest.approx([1.3426239175, 0.0, -0.9498724056], abs=1e-10)
    assert squashed.softmax(0).tolist() == pytest.approx([0.7341208786, 0.1917226473, 0.0741564742], abs=1e-10)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value"), [(1.5, 1, 1.2), (1.5, -1, -1.5), (0.5, 1, 0.5), (0.5, -1, -0.8)]
)
def test_clipping(ratio: float, advantage: float, value: float) -> None:
    log_ratio = torch.tensor([math.log(ratio)], dtype=torch.float64)
    assert ppo_objective(log_ratio, torch.tensor([float(advantage)]), 0.2).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("decay", "corrected", "values"),
    [
        (0.99, False, [0.005, 0.01095, 0.0178405]),
        (0.99, True, [0.5, 0.5502512563, 0.6006700111]),
        (0.9, True, [0.5, 0.5526315789, 0.6070110701]),
    ],
)
def test_moving_averages(decay: float, corrected: bool, values: list[float]) -> None:
    baseline = Baseline(decay, corrected)
    assert baseline.value == (None if corrected else 0.0)
    for given, expected in zip((0.5, 0.6, 0.7), values, strict=True):
        baseline.update(given)
        assert baseline.value == pytest.approx(expected, abs=1e-10)


def test_the_divergence_of_elements() -> None:
    taken = torch.tensor([[0.7310585786]], dtype=torch.float64)
    assert element_divergence(taken, 0.4).item() == pytest.approx(0.2250412605, abs=1e-9)
    assert element_divergence(torch.full((2, 3), 0.5), 0.4).item() == pytest.approx(0.0204109973, abs=1e-7)


@pytest.mark.parametrize("kind", ["lstm", "independent"])
def test_probabilities_of_all_architectures_add_up_to_1(kind: str) -> None:
    """Over elements of a Subset with a smallest and a largest number, too; every architecture can be drawn."""
    sequence = ActionSequence(MIXED)
    policy = make_policy(sequence, PolicySettings(kind, hidden=5, layers=2, initial=0.8), 3)  # type: ignore[arg-type]
    architectures = list(enumerate_all(MIXED))
    codes = [sequence.encode(architecture) for architecture in architectures]
    assert [sequence.decode(each) for each in codes] == architectures
    likelihood = policy.likelihood(torch.tensor(codes))
    p = likelihood.log_probability.exp()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert p.min().item() > 0
    # The chain rule: the mean of the entropies of the actions along the draws is the entropy of the whole.
    assert (p * likelihood.entropy).sum().item() == pytest.approx(-(p * p.log()).sum().item(), abs=1e-10)
    assert likelihood.taken.shape == (len(codes), 6)


@pytest.mark.parametrize("kind", ["lstm", "independent"])
def test_draws_have_the_probabilities_of_the_likelihood(kind: str) -> None:
    """A chi-squared test at a level of 1e-4, with a fixed seed."""
    sequence = ActionSequence(MIXED)
    policy = make_policy(sequence, PolicySettings(kind, hidden=4, initial=0.5), 1)  # type: ignore[arg-type]
    codes = [tuple(sequence.encode(architecture)) for architecture in enumerate_all(MIXED)]
    rng, draws = random.Random(7), 2000
    counts = dict.fromkeys(codes, 0)
    for _ in range(draws):
        counts[tuple(policy.draw(rng))] += 1
    with torch.no_grad():
        p = policy.likelihood(torch.tensor(codes)).log_probability.exp()
    expected = (p / p.sum() * draws).tolist()
    assert stats.chisquare(list(counts.values()), expected).pvalue > 1e-4


def test_the_lstm_is_that_of_torch() -> None:
    sequence = ActionSequence(THREE)
    policy = LstmPolicy(sequence, PolicySettings(hidden=6, layers=2, initial=0.3), 5)
    with torch.random.fork_rng():
        reference = nn.LSTM(6, 6, num_layers=2, batch_first=True).double()
    with torch.no_grad():
        for layer in range(2):
            for name, value in zip(
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), policy.cells[4 * layer : 4 * layer + 4], strict=True
            ):
                getattr(reference, f"{name}_l{layer}").copy_(value)
    codes = torch.tensor([(0, 2, 1), (1, 1, 0)])
    inputs = torch.stack(
        [policy.start.expand(2, -1), policy.embeddings[0][codes[:, 0]], policy.embeddings[1][codes[:, 1]]], 1
    )
    hidden = reference(inputs)[0]
    expected = sum(
        (hidden[:, place] @ policy.outputs[place].T).log_softmax(1).gather(1, codes[:, place : place + 1])
        for place in range(3)
    )
    assert torch.allclose(policy.likelihood(codes).log_probability, expected[:, 0], rtol=0, atol=1e-12)


def test_a_controller_learns_the_optimum_of_a_synthetic_reward(caplog: pytest.LogCaptureFixture) -> None:
    """An LSTM ends at the best of 27 architectures, (2, 2, 2), and its collapse is said."""
    sequence = ActionSequence(THREE)
    policy = make_policy(sequence, PolicySettings(hidden=16), 0)
    learner = PolicyLearner(policy, LearnerSettings(learning_rate=0.02, baseline_decay=0.9))
    rng = random.Random(0)
    with caplog.at_level(logging.WARNING):
        for _ in range(300):
            codes = [policy.draw(rng) for _ in range(10)]
            learner.update(codes, [reward(*each) for each in codes])
    with torch.no_grad():
        p = policy.likelihood(torch.tensor(ALL)).log_probability.exp()
    assert ALL[int(p.argmax())] == (2, 2, 2)
    assert (p * REWARDS).sum().item() > 0.70
    assert "the policy has collapsed" in caplog.text


def test_an_entropy_bonus_keeps_the_probabilities_even() -> None:
    policy = example()
    learner = PolicyLearner(policy, LearnerSettings(learning_rate=0.05, entropy=10.0))
    rng = random.Random(0)
    for _ in range(150):
        codes = [policy.draw(rng)]
        learner.update(codes, [reward(*codes[0])])
    # Rewards differ by 0.2 at most, so the bonus decides: the largest entropy, to the noise of single samples.
    assert learner.entropy > 0.99


def test_ppo_with_one_pass_is_reinforce() -> None:
    """At r = 1 the gradient of the clipped objective is that of REINFORCE."""
    states = []
    for clip in (None, 0.2):
        policy = example()
        learner = PolicyLearner(policy, LearnerSettings(learning_rate=0.1), clip=clip)
        learner.update([(0, 1, 2), (2, 2, 2)], [0.5, 0.7])
        states.append(torch.cat([parameter.detach() for parameter in policy.parameters()]))
    assert torch.allclose(*states, rtol=0, atol=1e-12)


def test_a_price_of_elements_moves_them_to_the_target() -> None:
    sequence = ActionSequence({"edges": Subset(tuple(range(6)))})
    policy = make_policy(sequence, PolicySettings("independent", initial=0.0), 0)
    learner = PolicyLearner(policy, LearnerSettings(learning_rate=0.05), element_weight=1.0, element_target=0.2)
    for _ in range(300):
        learner.update([policy.draw(random.Random(0))], [0.0])
    taken = policy.likelihood(torch.zeros(1, 6, dtype=torch.int64)).taken
    assert taken[0].tolist() == pytest.approx([0.2] * 6, abs=0.01)


def test_a_policy_is_a_function_of_its_seed_and_leaves_the_generators_alone() -> None:
    before = torch.random.get_rng_state()
    policies = [make_policy(ActionSequence(MIXED), PolicySettings(), seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    first, again, other = (list(policy.state_dict().values()) for policy in policies)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"hidden": 0}, "hidden"),
        ({"layers": 0}, "layers"),
        ({"initial": 0.0}, "initial"),
        ({"initial": -1.0}, "initial"),
        ({"temperature": 0.0}, "temperature"),
        ({"tanh_constant": math.inf}, "tanh_constant"),
    ],
)
def test_policy_settings(settings: dict[str, float], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PolicySettings(**settings)  # type: ignore[arg-type]
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"entropy": -1.0}, "entropy"),
        ({"baseline_decay": 1.0}, "baseline_decay"),
    ],
)
def test_learner_settings(settings: dict[str, float], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        LearnerSettings(**settings)
    assert caught.value.path == path


def test_an_architecture_is_a_sequence() -> None:
    sequence = ActionSequence(MIXED)
    architecture = Architecture({"kind": "c", "edges": (1, 3), "width": 8, "free": ("y",)})
    assert sequence.encode(architecture) == [2, 0, 1, 0, 1, 1, 0, 1]
    assert sequence.decode([2, 0, 1, 0, 1, 1, 0, 1]) == architecture
