"""Contract tests of evaluators: `EvaluatorContract`.

Derive a class whose name begins with ``Test`` and implement `make_space` and `make_evaluator`.
"""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from automl_nas.errors import Pruned
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Reports, Request, State
from automl_nas.evaluation.task import Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.checkers import default_settings, require_checker, require_shortened
from automl_nas.testing.clock import fast_clock
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.handed import fingerprint, require_json
from automl_nas.testing.values import valid_covering


class _StopError(BaseException):
    """Ends an evaluation as a signal does."""


class EvaluatorContract(Contract):
    """The tests of an `Evaluator`. Use a fast one: every candidate is evaluated several times.

    Attributes:
        samples: the number of candidates drawn.
        fidelity: the fidelity of the requests; None: the evaluator's default.
        info_limit: the largest number of characters of the JSON of an outcome's ``info``.
    """

    samples: int = 3
    fidelity: float | None = None
    info_limit: ClassVar[int] = 100_000
    other_dtype: ClassVar[bool] = False
    other_threads: ClassVar[bool] = False

    @abstractmethod
    def make_space(self) -> SearchSpace:
        """Return the space of the candidates."""

    @abstractmethod
    def make_evaluator(self, space: SearchSpace) -> Evaluator:
        """Return the evaluator under test; all instances have the same settings."""

    def make_task(self) -> Task | None:
        """Return the task whose metrics it returns (default: None, no task)."""
        return None

    def requests(self, space: SearchSpace) -> list[Request]:
        """Return the requests of the tests."""
        return [
            Request(
                number,
                space.sample(stream(0, "contract", number)),
                seed=stream_seed(0, "contract-request", number),
                fidelity=self.fidelity,
            )
            for number in range(self.samples)
        ]

    def use(self, store: Path) -> Mapping[str, Any]:
        """Evaluate candidates, each with a folder for its scratch files."""
        space = self.make_space()
        requests = [replace(r, scratch=_made(store / f"scratch-{r.number}")) for r in self.requests(space)]
        outcomes = list(self.make_evaluator(space).evaluate(iter(requests)))
        return {"outcomes": {str(o.number): [dict(o.metrics), str(o.state)] for o in outcomes}}

    def test_every_request_is_answered_once(self) -> None:
        """Outcomes have the numbers of the requests, finite metrics with the names of `metric_names`, and no error.

        Way out: yield `Outcome(request.number, {name: float(value)})` once for each request; an evaluation that is not
        possible raises `EvaluationError`.
        """
        space = self.make_space()
        evaluator, requests = self.make_evaluator(space), self.requests(space)
        outcomes = list(evaluator.evaluate(requests))
        for outcome in outcomes:
            require(type(outcome) is Outcome, f"it yields a {type(outcome).__name__}, not an Outcome")
        numbers = sorted(outcome.number for outcome in outcomes)
        require(
            numbers == [request.number for request in requests], f"{len(requests)} requests have outcomes {numbers}"
        )
        names = evaluator.metric_names(self.make_task())
        for outcome in outcomes:
            require(outcome.state is State.COMPLETE, f"trial {outcome.number} is {outcome.state}: {outcome.error}")
            require(outcome.error == "", f"a complete outcome has the error {outcome.error!r}")
            require(type(outcome.seconds) in (int, float) and 0 <= outcome.seconds < math.inf, f"{outcome.seconds} s")
            require(outcome.metrics, "a complete outcome needs metrics")
            for name, value in outcome.metrics.items():
                plain = type(name) is str and type(value) in (int, float)
                require(plain, f"metrics must be of type int or float, and {name!r} is {value!r}")
                require(math.isfinite(value), f"the metric {name} is {value}")
            require(names is None or set(outcome.metrics) == names, f"metrics {set(outcome.metrics)}, expected {names}")
            require_json(outcome.info, "info", self.info_limit)
        require(list(evaluator.evaluate([])) == [], "without requests there are outcomes")

    def test_the_class_describes_itself(self) -> None:
        """`metric_names`, `stochastic`, `data_parallel`, `shortened` and `taken_ahead` have the declared types.

        Way out: return `frozenset({"accuracy"})`, without an evaluation; settings are named as in the constructor.
        """
        evaluator = self.make_evaluator(self.make_space())
        kind, ahead = type(evaluator), evaluator.taken_ahead
        require(type(ahead) is int and ahead >= 1, f"taken_ahead is {ahead!r}")
        require_shortened(kind)
        defaults = default_settings(kind)
        parallel = False if defaults is None else kind.data_parallel(defaults[1])
        require(type(parallel) is bool, f"data_parallel(settings) returns {parallel!r}")
        names = kind.metric_names(self.make_task())
        valid = names is None or (isinstance(names, frozenset) and names and all(type(n) is str for n in names))
        require(valid, f"metric_names() returns {names!r}")
        require(type(kind.stochastic) is bool, f"stochastic is {kind.stochastic!r}")
        metric = kind.default_metric
        require(metric is None or type(metric) is str, f"default_metric is {metric!r}")

    def test_metrics_depend_on_architecture_seed_and_fidelity_alone(self) -> None:
        """They do not depend on order, other requests, the number of the request, and earlier evaluations.

        Way out: use `Request.seed` for all random numbers, never `Request.number`; restore what an evaluation changes
        in the instance, such as statistics of batch normalisation.
        """
        space = self.make_space()
        evaluator, requests = self.make_evaluator(space), self.requests(space)
        together = _metrics(evaluator.evaluate(requests))
        require(_metrics(evaluator.evaluate(requests[::-1])) == together, "another order changed the metrics")
        last = requests[-1]
        alone = _metrics(evaluator.evaluate([last]))[last.number]
        require(alone == together[last.number], "evaluated alone, the metrics are other ones")
        (renumbered,) = evaluator.evaluate([replace(last, number=last.number + 1000)])
        require(renumbered.metrics == together[last.number], "with another number, the metrics are other ones")

    def test_equal_candidates_are_each_answered(self) -> None:
        """An architecture that is requested three times in a row, once with another seed, has three outcomes.

        Way out: keep requests by their number, and caches by architecture, seed and fidelity.
        """
        space = self.make_space()
        first = self.requests(space)[0]
        other = replace(first, number=first.number + 2, seed=first.seed ^ 1)
        outcomes = self.make_evaluator(space).evaluate(iter([first, other, replace(first, number=first.number + 1)]))
        metrics = _metrics(outcomes)
        require(len(metrics) == 3, f"three requests of an architecture have {len(metrics)} outcomes")
        require(metrics[first.number] == metrics[first.number + 1], "equal requests have different metrics")
        alone = _metrics(self.make_evaluator(space).evaluate([other]))[other.number]
        require(metrics[other.number] == alone, "after a request with another seed, the metrics are other ones")

    def test_other_fidelities_change_nothing(self) -> None:
        """Requests of another fidelity, before and beside a candidate, leave its metrics as they are.

        Way out: read `Request.fidelity` of each request, and keep it in the key of every cache.
        """
        space = self.make_space()
        request = self.requests(space)[0]
        (expected,) = _metrics(self.make_evaluator(space).evaluate([request])).values()
        low = replace(request, number=request.number + 1, fidelity=2.0 if request.fidelity == 1.0 else 1.0)
        evaluator, outcomes = self.make_evaluator(space), list[Outcome]()
        with contextlib.suppress(Exception):  # an evaluator may refuse the fidelity
            outcomes.extend(evaluator.evaluate(iter([low, request])))
        outcomes.extend(evaluator.evaluate([request]))
        for outcome in outcomes:
            same = outcome.number != request.number or dict(outcome.metrics) == expected
            require(same, f"after the fidelity {low.fidelity} the metrics are {dict(outcome.metrics)}, not {expected}")

    def test_metrics_depend_on_the_architecture(self) -> None:
        """Candidates that together have every option do not all have equal metrics.

        Way out: build or look up the network of `Request.architecture`.
        """
        space = self.make_space()
        first = self.requests(space)[0]
        requests = [replace(r, seed=first.seed, number=100 + n) for n, r in enumerate(self.requests(space))]
        covering = [replace(first, number=n, architecture=a) for n, a in enumerate(valid_covering(space, 3))]
        outcomes = self.make_evaluator(space).evaluate([*requests, *covering])
        distinct = {tuple(sorted(metrics.items())) for metrics in _metrics(outcomes).values()}
        require(len(distinct) > 1, f"{len(requests) + len(covering)} candidates have equal metrics {distinct}")

    def test_a_second_instance_returns_the_same(self) -> None:
        """Each worker process builds its own evaluator; their metrics are equal.

        Way out: everything that an evaluation needs comes from the constructor and the request.
        """
        space = self.make_space()
        requests = self.requests(space)
        first = _metrics(self.make_evaluator(space).evaluate(requests))
        other = _metrics(self.make_evaluator(self.make_space()).evaluate(requests[::-1]))
        require(other == first, "a second instance returns other metrics")

    def test_requests_are_taken_when_they_are_needed(self) -> None:
        """The iterable may be infinite; a request is recorded as started when it is taken, so it is not taken early.

        Way out: write `for request in requests:` and yield the outcome in the loop; no list() or sorted() around it.
        An evaluator whose requests share work has the number that it takes as its `taken_ahead`.
        """
        space = self.make_space()
        taken = 0

        def infinite_requests() -> Iterator[Request]:
            nonlocal taken
            while True:
                number = taken
                taken += 1
                require(taken < 1000, "it takes requests without yielding outcomes")
                request = self.requests(space)[number % self.samples]
                yield replace(request, number=number)

        evaluator = self.make_evaluator(space)
        outcomes = evaluator.evaluate(infinite_requests())
        require(taken == 0, "a request was taken before the first outcome was requested")
        for answered in range(2):
            next(outcomes)
            most = answered + evaluator.taken_ahead
            require(taken <= most, f"after {answered + 1} outcomes it has taken {taken} requests, more than {most}")

    def test_an_abandoned_evaluation_changes_nothing(self) -> None:
        """A generator that is closed after the first outcome does not change later evaluations.

        Way out: restore shared state in `finally`, and let GeneratorExit pass.
        """
        space = self.make_space()
        evaluator, requests = self.make_evaluator(space), self.requests(space)
        outcomes = evaluator.evaluate(iter(requests))
        first = next(outcomes)
        close = getattr(outcomes, "close", None)
        if close is not None:
            close()
        again = _metrics(evaluator.evaluate(iter(requests)))
        require(again[first.number] == dict(first.metrics), "after an abandoned evaluation the metrics are other ones")

    def test_a_candidate_that_fails_changes_no_other(self) -> None:
        """Evaluated with a candidate that has no decisions, other candidates have the same metrics or no outcome yet.

        An exception is allowed: requests without an outcome are then repeated alone.

        Way out: yield the outcomes of the others before the exception is raised, or raise it before them.
        """
        space = self.make_space()
        evaluator, good = self.make_evaluator(space), self.requests(space)[0]
        expected = _metrics(evaluator.evaluate([good]))[good.number]
        broken = replace(good, number=good.number + 1, architecture=Architecture({}))
        outcomes: list[Outcome] = []
        with contextlib.suppress(Exception):
            outcomes.extend(evaluator.evaluate(iter([broken, replace(good, number=good.number + 2)])))
        with contextlib.suppress(Exception):
            outcomes.extend(evaluator.evaluate(iter([good, broken])))
        for outcome in outcomes:
            same = outcome.number == broken.number or outcome.metrics == expected
            require(same, f"beside a candidate that fails, the metrics are {dict(outcome.metrics)}, not {expected}")

    def test_what_it_receives_is_not_changed(self) -> None:
        """Requests and the space are the same after an evaluation.

        Way out: copy before changing; never `object.__setattr__`.
        """
        space = self.make_space()
        requests = self.requests(space)
        before = fingerprint((requests, space))
        list(self.make_evaluator(space).evaluate(iter(requests)))
        require(fingerprint((requests, space)) == before, "a request or the space was changed")

    def test_outcomes_are_not_shared(self) -> None:
        """Changing the metrics of an outcome does not change those of another evaluation.

        Way out: return a new dict each time, not one that the evaluator keeps.
        """
        space = self.make_space()
        evaluator, requests = self.make_evaluator(space), self.requests(space)[:1]
        (first,) = evaluator.evaluate(requests)
        before = dict(first.metrics)
        if isinstance(first.metrics, dict):
            first.metrics.clear()
        (second,) = evaluator.evaluate(requests)
        require(dict(second.metrics) == before, "the outcomes share their metrics")

    def test_metrics_do_not_depend_on_the_clock(self) -> None:
        """On a slower machine the metrics are the same.

        Way out: train for a number of iterations, not for a time.
        """
        space = self.make_space()
        requests = self.requests(space)[:2]
        expected = _metrics(self.make_evaluator(space).evaluate(requests))
        with fast_clock():
            slow = _metrics(self.make_evaluator(space).evaluate(requests))
        require(slow == expected, "with a clock that runs faster the metrics are other ones")

    def test_pruning_ends_the_evaluation(self) -> None:
        """If `Request.report` raises `Pruned`, the evaluator passes it on or yields an outcome with the state PRUNED.

        Way out: do not catch `Pruned`, nor Exception around a report.
        """
        space = self.make_space()
        reports = 0

        def prune(step: int, value: float) -> None:
            nonlocal reports
            reports += 1
            require(type(step) is int and type(value) in (int, float), f"it reports {value!r} at step {step!r}")
            raise Pruned

        try:
            outcomes = list(self.make_evaluator(space).evaluate([replace(self.requests(space)[0], report=prune)]))
        except Pruned:
            return
        pruned = all(outcome.state is State.PRUNED for outcome in outcomes)
        require(not reports or (reports == 1 and pruned), "it continued after a report raised Pruned")

    def test_a_candidate_that_is_pruned_changes_no_other(self) -> None:
        """If a report of one candidate raises `Pruned`, others have their own metrics or no outcome yet.

        Way out: an evaluator whose requests share work passes `Pruned` on; the others are then repeated alone.
        """
        reports = 0

        def prune(step: int, value: float) -> None:
            nonlocal reports
            reports += 1
            raise Pruned

        space = self.make_space()
        first, second = self.requests(space)[:2]
        outcomes: list[Outcome] = []
        with contextlib.suppress(Pruned):
            for outcome in self.make_evaluator(space).evaluate(iter([replace(first, report=prune), second])):
                outcomes.append(outcome)
        if not reports:
            return
        for outcome in outcomes:
            complete = outcome.number == first.number or outcome.state is State.COMPLETE
            require(complete, f"trial {outcome.number} is {outcome.state}, since trial {first.number} was pruned")

    def test_reports_are_the_same_each_time(self) -> None:
        """Two instances report the same numbers at the same steps, which increase.

        Way out: report a metric after each epoch, with the number of the epoch; no duration.
        """
        space = self.make_space()
        request = self.requests(space)[0]
        reports = [Reports(), Reports()]
        for each in reports:
            list(self.make_evaluator(space).evaluate([replace(request, report=each)]))
        values = [each.values for each in reports]
        require(values[0] == values[1], f"it reports {values[0][:5]}, and the second time {values[1][:5]}")
        steps = [step for step, _ in values[0]]
        require(steps == sorted(set(steps)), f"it reports at the steps {steps}")

    def test_an_interruption_passes(self) -> None:
        """An interruption that arrives in a report ends the evaluation: the exception passes through.

        Way out: catch Exception, never BaseException and never with a bare `except:`.
        """
        reports = 0

        def interrupt(step: int, value: float) -> None:
            nonlocal reports
            reports += 1
            raise _StopError

        space = self.make_space()
        try:
            list(self.make_evaluator(space).evaluate([replace(self.requests(space)[0], report=interrupt)]))
        except _StopError:
            return
        require(not reports, "it continued after an interruption")

    def test_an_interrupted_evaluation_can_be_repeated(self) -> None:
        """Interrupted at a report and repeated with the same scratch folder, an evaluation has the same metrics.

        Way out: write scratch files under a temporary name and rename them; store everything that the rest depends on.
        """
        space = self.make_space()
        request = self.requests(space)[0]
        reported = Reports()
        expected = _metrics(self.make_evaluator(space).evaluate([replace(request, report=reported)]))
        count = len(reported.values)
        for last in sorted({2, count}):
            scratch, reports = self.folder(), 0

            def stop(step: int, value: float, last: int = last) -> None:
                nonlocal reports
                reports += 1
                if reports == last:
                    raise _StopError

            with contextlib.suppress(_StopError):
                list(self.make_evaluator(space).evaluate([replace(request, report=stop, scratch=scratch)]))
            again = _metrics(self.make_evaluator(space).evaluate([replace(request, scratch=scratch)]))
            text = f"interrupted at report {last} of {count} and repeated with the same scratch folder"
            require(again == expected, f"{text}, the metrics are other ones")
            if not count:
                return

    def test_the_checker_has_parameters_of_the_constructor(self) -> None:
        """The checker has some of the constructor's parameters, with the same annotations; see `Evaluator.checker`.

        Way out: name and annotate the parameters of the checker as those of the constructor, without defaults.
        """
        require_checker(type(self.make_evaluator(self.make_space())))


def _made(folder: Path) -> Path:
    # The second process evaluates afresh, too.
    for file in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        file.unlink() if file.is_file() else file.rmdir()
    folder.mkdir(exist_ok=True)
    return folder


def _metrics(outcomes: Iterator[Outcome]) -> dict[int, Mapping[str, float]]:
    return {outcome.number: dict(outcome.metrics) for outcome in outcomes}
