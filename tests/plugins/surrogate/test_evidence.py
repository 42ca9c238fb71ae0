"""Evidence: what is measured, how much it counts, and that it is measured once."""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, final

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from sklearn.linear_model import Ridge

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request, State
from automl_nas.evaluation.task import Task
from automl_nas.space import Architecture, Choice, DecisionSpace, SearchSpace
from automl_nas.space.operators import encode, enumerate_all
from automl_nas.strategy.ask_tell import AskTellStrategy, Preparation
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.racing import Race
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.strategy.wrappers import Deduplicate, Filter, Retry
from automl_nas.testing import AskTellContract, ToySpace
from automl_nas.testing.services import SimulatedServices, finished
from automl_nas_elastic.narrowed_first import NarrowedFirst
from automl_nas_multifidelity.asha import Asha
from automl_nas_multifidelity.brackets import Hyperband
from automl_nas_surrogate.evidence import Evidence
from automl_nas_surrogate.gaussian_process import GaussianProcess, Pairs, factor, fit, kernel, normal_scores, prior
from automl_nas_surrogate.search import SurrogateSearch

PROBLEM = Problem({"accuracy": "maximize"})
SPACE = DecisionSpace({f"d{place}": Choice((0, 1, 2)) for place in range(5)})
"""243 architectures."""


def total(architecture: Architecture) -> float:
    return float(sum(encode(architecture, SPACE.decisions)))


class Sum(Evaluator):
    """Metrics of the sum of the decisions: itself, its negative and noise; counts the requests."""

    stochastic: ClassVar[bool] = False

    def __init__(self, *names: str, broken: frozenset[Architecture] = frozenset(), raises: bool = False) -> None:
        self._names, self._broken, self._raises = names or ("sum",), broken, raises
        self.requests: list[Request] = []

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        return None

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            self.requests.append(request)
            if request.architecture in self._broken:
                if self._raises:
                    raise ArithmeticError("no gradient")
                yield Outcome(request.number, state=State.FAILED, error="broken")
                continue
            value = sum(code for code in encode_any(request.architecture))
            noise = random.Random(request.architecture.key).gauss(0, 1)
            values = {"sum": value, "loss": -value, "noise": noise, "infinite": math.inf}
            yield Outcome(request.number, {name: float(values[name]) for name in self._names})


def encode_any(architecture: Architecture) -> list[int]:
    return [int(str(value)) if str(value).isdigit() else len(str(value)) for value in architecture.values()]


@final
class Drawn(Evaluator):
    """A metric from the global generators, which a stage sets before each evaluation."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            yield Outcome(request.number, {"accuracy": random.random() + np.random.random()})

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        return frozenset({"accuracy", "loss"})


class TestSurrogateWithEvidence(AskTellContract):
    search_length = 60
    trials = 45

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> SurrogateSearch:
        return SurrogateSearch(
            space, problem, seed=seed, evidence=[Sum(), Drawn()], pool=20, screened=5, random=20, neighbourhood=10
        )


def drive(search: SurrogateSearch, trials: int) -> list[Proposal]:
    proposals = []
    for number in range(trials):
        (proposal,) = search.ask(1)
        proposals.append(proposal)
        value = total(proposal.architecture)
        search.tell([Trial(number, proposal.architecture, {"accuracy": value}, {})])
    return proposals


def rows(count: int) -> list[Architecture]:
    return list(enumerate_all(SPACE.decisions))[:count]


def test_perfect_evidence_finds_the_best_at_once() -> None:
    search = SurrogateSearch(SPACE, PROBLEM, seed=0, evidence=[Sum()], pool=243)
    (proposal,) = search.ask(1)
    assert total(proposal.architecture) == 10
    assert proposal.info == {"origin": "evidence", "evidence": {"sum": 10.0}}


def test_smaller_is_better_where_the_problem_says_so() -> None:
    problem = Problem({"loss": "minimize"})
    (proposal,) = SurrogateSearch(SPACE, problem, seed=0, evidence=[Sum("loss")], pool=243).ask(1)
    assert total(proposal.architecture) == 10


def test_scores_are_normal_quantiles_of_ranks() -> None:
    evidence = Evidence(PROBLEM, None, [Sum()], 0)
    measured = rows(9)  # sums 0, 1, 2, 1, 2, 3, 2, 3, 4
    evidence.measure(measured)
    quantiles = norm.ppf(np.array([0.5, 2, 4.5, 2, 4.5, 7, 4.5, 7, 8.5]) / 9)
    np.testing.assert_allclose(evidence(measured)[:, 0], quantiles, atol=1e-12)


def test_what_is_not_known_is_the_median() -> None:
    measured = rows(9)
    evidence = Evidence(PROBLEM, None, [Sum("sum", broken=frozenset(measured[:2])), Sum("infinite")], 0)
    evidence.measure(measured)
    assert evidence.names == ["1/sum"]
    np.testing.assert_array_equal(evidence(measured)[:2], [[0.0], [0.0]])
    assert evidence.of(measured[0]) == {}
    assert not evidence.missing(measured[:1])


class Fails(Sum):
    """Raises an error, or yields failures, for all candidates or some."""

    def __init__(self, error: Exception | None, spared: frozenset[Architecture] = frozenset()) -> None:
        super().__init__()
        self._error, self._spared = error, spared

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            if request.architecture in self._spared:
                yield from super().evaluate([request])
            elif self._error is not None:
                raise self._error
            else:
                yield Outcome(request.number, state=State.FAILED, error="no memory")


def test_failures_are_told_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    measured = rows(9)
    evidence = Evidence(PROBLEM, None, [Fails(None, frozenset(measured[:2]))], 0)
    with caplog.at_level(logging.WARNING):
        evidence.measure(measured)
    (record,) = caplog.records
    assert record.message == (
        f"strategy.evidence[0]: 7 of 9 candidates could not be measured; the first is {measured[2].key}: no memory"
    )


@pytest.mark.parametrize("error", [None, RuntimeError("no memory")], ids=["failed", "raised"])
def test_an_evaluator_that_measures_nothing_is_an_error(error: Exception | None) -> None:
    measured = rows(25)
    evidence = Evidence(PROBLEM, None, [Sum("sum"), Fails(error)], 0)
    evidence.measure(measured[:6])  # too few to tell
    with pytest.raises(ConfigurationError, match=r"^strategy\.evidence\[1\]: none of the first 12 .*no memory"):
        evidence.measure(measured[6:12])
    rare = Evidence(PROBLEM, None, [Sum("sum"), Fails(error, frozenset(measured[3:4]))], 0)
    rare.measure(measured[:6])
    again = Evidence(PROBLEM, None, [Sum("sum"), Fails(error)], 0)
    again.load(rare.state())
    for one in (rare, again):  # it measured one of them, also before the state was loaded
        one.measure(measured[6:])
        assert one.names == ["1/sum", "2/sum"]


def test_a_wrong_setting_is_an_error_and_no_missing_measurement() -> None:
    wrong = Fails(ConfigurationError("must be at most 600", path="images"))
    evidence = Evidence(PROBLEM, None, [wrong], 0)
    with pytest.raises(ConfigurationError, match=r"^strategy\.evidence\[0\]\.images: must be at most 600"):
        evidence.measure(rows(3))


def test_an_exception_takes_no_other_candidate_with_it(caplog: pytest.LogCaptureFixture) -> None:
    measured = rows(6)
    evidence = Evidence(PROBLEM, None, [Sum(broken=frozenset(measured[2:3]), raises=True)], 0)
    with caplog.at_level(logging.WARNING):
        evidence.measure(measured)
    assert [bool(evidence.of(row)) for row in measured] == [True, True, False, True, True, True]
    assert "no gradient" in caplog.text


def test_random_numbers_are_those_of_the_request_and_the_generators_are_restored() -> None:
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    evidence = Evidence(PROBLEM, None, [Drawn()], 0)
    evidence.measure(rows(4))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index, union-attr]
    # The same seed for all: they are compared under the same random numbers.
    assert len({evidence.of(row)["accuracy"] for row in rows(4)}) == 1
    assert evidence.names == ["accuracy"]  # the metric by which candidates are compared, without the loss


def test_with_networks_that_have_nothing_in_common_it_is_ridge_regression_on_the_evidence() -> None:
    """The kernel of the decisions is the identity then: it is noise, with a variance of 1, beside that of the noise."""
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(30, 4)), rng.normal(size=(7, 4))
    values = x @ [0.8, 0.3, 0.0, -0.5] + 0.2 * rng.normal(size=30)
    theta = (-9.0, 0.0, math.log(0.2), math.log(2.0))
    process = GaussianProcess(factor(np.eye(30), theta), values, x, theta)
    ridge = Ridge(alpha=(1 + 0.2 + 1e-8) * 4 / 2.0, fit_intercept=False).fit(x, values)
    mean, deviation = process.predict(np.zeros((30, 7)), new)
    np.testing.assert_allclose(mean, ridge.predict(new), rtol=1e-9)
    np.testing.assert_allclose(process.slopes, ridge.coef_, rtol=1e-9)
    covariance, cross = x @ x.T / 2 + (1.2 + 1e-8) * np.eye(30), x @ new.T / 2
    expected = 1 + (new**2).sum(axis=1) / 2 - np.einsum("ij,ij->j", cross, np.linalg.solve(covariance, cross))
    amplitude = values @ np.linalg.solve(covariance, values) / 30
    np.testing.assert_allclose(deviation, np.sqrt(amplitude * expected), rtol=1e-9)


def test_quantiles_are_those_of_mean_ranks() -> None:
    evidence = Evidence(PROBLEM, None, [Sum("sum", "noise")], seed=0)
    architectures = list(enumerate_all(SPACE.decisions))
    evidence.measure(architectures[:100])
    evidence.measure(architectures[50:])  # in two parts: half of the second is known
    scores = evidence(architectures[::2])
    for column, name in enumerate(evidence.names):
        values = [evidence.of(each)[name] for each in architectures]
        expected = norm.ppf((rankdata(values) - 0.5) / len(values))
        np.testing.assert_allclose(scores[:, column], expected[::2], rtol=1e-12, atol=1e-15)


def test_the_pool_is_measured_in_parts_and_a_part_is_not_lost() -> None:
    def make(evaluator: Sum) -> SurrogateSearch:
        return SurrogateSearch(SPACE, PROBLEM, seed=3, evidence=[evaluator], pool=35, screened=0)

    at_once, first, rest = Sum(), Sum(), Sum()
    whole, interrupted, resumed = make(at_once), make(first), make(rest)
    expected = whole.ask(1)
    assert [interrupted.prepare(), interrupted.prepare()] == [
        Preparation(10, 35, "candidates measured"),
        Preparation(20, 35, "candidates measured"),
    ]
    resumed.load_search_state(json.loads(json.dumps(interrupted.search_state())))
    assert resumed.prepare() == Preparation(30, 35, "candidates measured")
    assert resumed.prepare() is None
    assert resumed.ask(1) == expected
    measured = [request.architecture for request in first.requests + rest.requests]
    assert measured == [request.architecture for request in at_once.requests]
    assert len(first.requests) == 20


def test_the_proposals_after_a_resume_are_the_same_to_the_last_bit() -> None:
    """Also after trials were forgotten, and with outstanding trials that end in another order than they began."""
    space, rng = ToySpace(blocks=12, options=4), random.Random(0)

    def make() -> SurrogateSearch:
        return SurrogateSearch(space, PROBLEM, seed=0, evidence=[Sum("sum", "noise")], pool=40, screened=4, memory=45)

    search, waiting = make(), list[Architecture]()
    for number in range(100):
        resumed = make()
        resumed.load_search_state(json.loads(json.dumps(search.search_state())))
        (proposal,) = search.ask(1)
        assert resumed.ask(1) == [proposal]  # with the weights of evidence, which are predicted from all trials
        waiting.append(proposal.architecture)
        if len(waiting) > rng.randrange(4):
            ended = waiting.pop(rng.randrange(len(waiting)))
            search.tell([Trial(number, ended, {"accuracy": float(sum(encode(ended, space.decisions)) ** 0.5)}, {})])


def test_candidates_that_share_work_are_in_one_part() -> None:
    evaluator = Sum()
    evaluator.taken_ahead = 25
    search = SurrogateSearch(SPACE, PROBLEM, seed=3, evidence=[Drawn(), evaluator], pool=40)
    assert search.prepare() == Preparation(25, 40, "candidates measured")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: Deduplicate(SPACE, PROBLEM, strategy=inner),
        lambda inner: Filter(SPACE, PROBLEM, strategy=inner),
        lambda inner: Retry(SPACE, PROBLEM, strategy=inner),
        lambda inner: Race(SPACE, PROBLEM, strategy=inner, part=1.0),
        lambda inner: NarrowedFirst(SPACE, PROBLEM, strategy=inner),
        lambda inner: Asha(SPACE, PROBLEM, seed=0, fidelities=[1.0, 2.0], strategy=inner),
        lambda inner: Hyperband(SPACE, PROBLEM, seed=0, fidelities=[1.0, 2.0], strategy=inner),
    ],
    ids=["deduplicate", "filter", "retry", "race", "narrowed_first", "asha", "hyperband"],
)
def test_a_strategy_around_it_measures_the_pool_in_parts(wrap: Callable[[AskTellStrategy], AskTellStrategy]) -> None:
    strategy = wrap(SurrogateSearch(SPACE, PROBLEM, seed=3, evidence=[Sum()], pool=35))
    services = SimulatedServices(lambda number, p: finished(PROBLEM, number, p, {"accuracy": 0.0}), budget=4)
    for _ in range(4):
        assert not services.submitted
        strategy.step(services)
    assert services.progressed == [(done, 35, "candidates measured") for done in (10, 20, 30)]
    assert services.submitted


def test_noise_gets_a_small_weight() -> None:
    """Values are a function of the first of two columns. The prior gives both the same weight."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 2))
    values = normal_scores(np.tanh(x[:, 0]).tolist())
    pairs = Pairs(1.0 - np.eye(40))
    theta = fit(pairs, values, x)
    first, second = GaussianProcess(factor(kernel(pairs, theta), theta), values, x, theta).slopes
    assert first > 0.8
    # The error of the slope of a column without influence, at a residual of a fifth: 0.2 / sqrt(40) = 0.03.
    assert abs(second) < 3 * 0.03


def test_evidence_that_predicts_nothing_explains_little() -> None:
    rng = np.random.default_rng(1)
    x, values = rng.normal(size=(40, 4)), normal_scores(rng.normal(size=40).tolist())
    theta = fit(Pairs(1.0 - np.eye(40)), values, x)
    assert theta[3] < prior(True)[3] - 2  # e^-2: less than a seventh of the prior mean


def test_measurements_are_limited_and_recorded_and_not_repeated() -> None:
    evaluator = Sum("sum", "noise")
    space = ToySpace(blocks=12, options=4)
    search = SurrogateSearch(space, PROBLEM, seed=0, evidence=[evaluator], pool=30, screened=4)
    for number in range(15):
        (proposal,) = search.ask(1)
        assert set(proposal.info["evidence"]) == {"sum", "noise"}  # type: ignore[call-overload]
        search.tell([Trial(number, proposal.architecture, {"accuracy": number % 7}, {})])
    # Four random trials need none: they are from the pool.
    assert len(evaluator.requests) <= 30 + 11 * 4
    keys = [request.architecture.key for request in evaluator.requests]
    assert len(keys) == len(set(keys))


def test_a_resumed_search_measures_nothing_again_and_proposes_the_same() -> None:
    whole = SurrogateSearch(SPACE, PROBLEM, seed=3, evidence=[Sum("sum", "noise")], pool=30, screened=5)
    first = drive(whole, 9)
    state = whole.search_state()
    evaluator = Sum("sum", "noise")
    resumed = SurrogateSearch(SPACE, PROBLEM, seed=3, evidence=[evaluator], pool=30, screened=5)
    resumed.load_search_state(state)
    assert [p.architecture for p in drive(resumed, 8)] == [p.architecture for p in drive(whole, 8)]
    assert not {request.architecture for request in evaluator.requests} & {p.architecture for p in first}
    assert len(evaluator.requests) <= 8 * 5


def test_trials_of_others_are_measured() -> None:
    evaluator = Sum()
    search = SurrogateSearch(SPACE, PROBLEM, seed=0, evidence=[evaluator], pool=2, screened=0)
    foreign = rows(6)
    search.tell([Trial(number, row, {"accuracy": total(row)}, {}) for number, row in enumerate(foreign)])
    (proposal,) = search.ask(1)
    assert proposal.info["origin"] == "model"
    assert {row.key for row in foreign} <= {request.architecture.key for request in evaluator.requests}
