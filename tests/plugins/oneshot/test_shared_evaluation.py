"""Candidates that are evaluated together: the same scores as one by one, with less computation."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from plugins.oneshot.conftest import MemoryArtifacts
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch, Direction, Predictor, Task
from automl_nas.run.trials.executor import InProcess
from automl_nas.space.architecture import Architecture
from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.space import SupernetSpace
from automl_nas.streams import stream
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro
from automl_nas_oneshot import shared_parts
from automl_nas_oneshot.supernet_weights import SupernetWeights
from automl_nas_spaces.channels import ShuffleNetV2Channels
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

SMALL = {"num_classes": 3, "input_shape": (2, 8, 8), "stem_channels": 4, "stem_stride": 1, "widths": (12, 24)}
SHUFFLE = {**SMALL, "repeats": (2, 2), "strides": (1, 2), "last_channels": 16}
BATCH = 8


class Noise(Task):
    """24 random images to train on and 20 to score: the last scored batch has 4."""

    def __init__(self, shape: tuple[int, ...] = (2, 8, 8)) -> None:
        generator = torch.Generator().manual_seed(0)
        self._inputs = torch.randn(44, *shape, generator=generator)
        self._targets = torch.randint(3, (44,), generator=generator)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self._inputs.shape[1:])

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"loss": "minimize"}

    def size(self, split: str) -> int:
        return 20 if split == "search" else 24

    def batches_per_epoch(self, split: str) -> int:
        return 3

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for first in range(start * BATCH, 24, BATCH):
            yield self._inputs[first : first + BATCH], self._targets[first : first + BATCH]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        sums = [
            nn.functional.cross_entropy(model(self._inputs[n : n + BATCH]), self._targets[n : n + BATCH]).item()
            for n in range(24, 44, BATCH)
        ]
        return {"loss": sum(sums)}


class Tapped(nn.Module):
    """Counts its calls by name."""

    calls: ClassVar[Counter[str]] = Counter()

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.name, self.module = name, module

    def forward(self, x: Tensor) -> Tensor:
        self.calls[self.name] += 1
        y: Tensor = self.module(x)
        return y


def unit(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), *layers)


def head() -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)


def in_place() -> nn.Module:
    """Layers that change their inputs, options that return them, and a last part without statistics."""
    options = (lambda: nn.Identity(), lambda: unit(nn.ReLU(inplace=True)), lambda: nn.ELU(inplace=True))
    blocks = [OneOf([Tapped(f"{place}.{n}", option()) for n, option in enumerate(options)]) for place in range(4)]
    return nn.Sequential(nn.Conv2d(2, 2, 1), *blocks, *head())


def one_norm_twice() -> nn.Module:
    """The statistics of the first block depend on the second one."""
    norm = nn.BatchNorm2d(2)
    blocks = [OneOf([nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), norm), nn.Identity()]) for _ in range(2)]
    return nn.Sequential(*blocks, norm, *head())


def module_space(factory: Callable[[], nn.Module]) -> ModuleSpace:
    return ModuleSpace(factory, input_shape=(2, 8, 8))


SPACES: dict[str, Callable[[], SupernetSpace]] = {
    "shufflenet_v2": lambda: shufflenet_v2(**SHUFFLE),  # type: ignore[arg-type]
    "shufflenet_v2_channels": lambda: ShuffleNetV2Channels(**{**SHUFFLE, "repeats": (1, 2)}),  # type: ignore[arg-type]
    "shufflenet_v2, shared": lambda: shufflenet_v2(**SHUFFLE, shared=True),  # type: ignore[arg-type]
    "nasbench_macro": lambda: NASBenchMacro(num_classes=3, input_shape=(2, 8, 8), channels=4, last_channels=8),
    "nasbench201": lambda: NASBench201(num_classes=3, input_shape=(2, 8, 8), channels=4, cells=1),
    "in place": lambda: module_space(in_place),
    "one norm twice": lambda: module_space(one_norm_twice),
}


def make(space: SupernetSpace, task: Task | None = None, **settings: Any) -> SupernetWeights:
    runtime = Runtime(device="cpu")
    with runtime.seeded(3, "weights"):
        state = {name: value.clone() for name, value in space.build_supernet().state_dict().items()}
    for name, value in state.items():
        if name.endswith("running_mean"):
            value += 1
    settings = {"recalibration_images": 20, **settings}
    return SupernetWeights(space, task or Noise(), runtime, MemoryArtifacts(supernet=state), **settings)


def candidates(space: SupernetSpace, count: int = 8) -> list[Architecture]:
    """Architectures with common first decisions: each one changes a decision of an earlier one; the last is equal."""
    rng = stream(0, "candidates")
    found = [space.sample(rng)]
    names = list(space.decisions)
    while len(found) < count - 1:
        name = rng.choice(names)
        found.append(rng.choice(found).replace({name: rng.choice(space.decisions[name].options)}))
    return [*found, found[3]]


def evaluate(evaluator: SupernetWeights, architectures: Sequence[Architecture], **fields: Any) -> list[Outcome]:
    requests = [Request(number, each, seed=number, **fields) for number, each in enumerate(architectures)]
    return list(evaluator.evaluate(iter(requests)))


def scores(outcomes: Sequence[Outcome]) -> dict[int, tuple[Mapping[str, float], Mapping[str, object]]]:
    return {outcome.number: (outcome.metrics, outcome.info) for outcome in outcomes}


@pytest.mark.parametrize("name", SPACES)
def test_scores_are_equal_to_those_of_each_candidate_alone(name: str) -> None:
    space = SPACES[name]()
    architectures = candidates(space)
    alone = evaluate(make(space, together=1), architectures)
    assert len({outcome.metrics["loss"] for outcome in alone}) > 2  # the comparison means something
    assert scores(evaluate(make(space, together=5), architectures)) == scores(alone)
    without = {"recalibration_images": 0}
    one_by_one = evaluate(make(space, together=1, **without), architectures)
    assert scores(evaluate(make(space, **without), architectures)) == scores(one_by_one)


@pytest.mark.parametrize("kilobytes", [1, 5, 20, 60, 200])
def test_whatever_has_no_room_is_computed_again(kilobytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of a part take 4,096 bytes, those of a network 240, and the weights of a block at most 344."""
    monkeypatch.setattr("automl_nas_oneshot.supernet_weights.check_memory", lambda *args: None)
    space = SPACES["in place"]()
    architectures = candidates(space, 20)
    alone = scores(evaluate(make(space, together=1), architectures))
    assert scores(evaluate(make(space, share_megabytes=kilobytes / 1e3), architectures)) == alone


def test_a_common_part_computes_each_batch_once() -> None:
    space = SPACES["in place"]()
    names = list(space.decisions)
    values = [(1, 1, 0, 0), (1, 1, 1, 2), (0, 2, 2, 2), (1, 1, 0, 1), (1, 0, 0, 0)]
    architectures = [Architecture(dict(zip(names, each, strict=True))) for each in values]
    evaluator = make(space)
    Tapped.calls.clear()
    evaluate(evaluator, architectures)
    # 3 batches of the recalibration (20 images of 8 each) and 3 scored ones. Parts after the last statistics are left
    # out of the recalibration: the first candidate computes two parts, the second three, the third none, the fourth all
    # and the last one one.
    assert Tapped.calls == {
        "0.1": 6,  # common to four candidates
        "1.1": 6,  # to three
        "2.1": 6,  # of the second
        "2.0": 6 + 3,  # common to the first and the fourth; the last one has its own
        "0.0": 3,
        "1.0": 3,
        "1.2": 3,
        "2.2": 3,
        "3.0": 3 + 3,
        "3.1": 3 + 3,
        "3.2": 3 + 3,
    }


class Failing(nn.Module):
    """Raises what it was given, as often as it was said."""

    errors: ClassVar[list[BaseException]] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.errors:
            raise self.errors.pop()
        return x


class Stochastic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.rand(x.shape)


def with_option(option: Callable[[], nn.Module]) -> ModuleSpace:
    def factory() -> nn.Module:
        blocks = [OneOf({"unit": unit(nn.ReLU()), "plain": nn.ELU(), "other": option()}) for _ in range(3)]
        return nn.Sequential(nn.Conv2d(2, 2, 1), *blocks, *head())

    return module_space(factory)


def of_blocks(space: SupernetSpace, *blocks: tuple[str, str, str]) -> list[Architecture]:
    return [Architecture(dict(zip(space.decisions, values, strict=True))) for values in blocks]


FAILING = [("unit", "unit", "other"), ("unit", "plain", "unit"), ("unit", "other", "unit"), ("plain", "unit", "unit")]


def in_process(evaluator: SupernetWeights, architectures: Sequence[Architecture]) -> dict[int, Outcome]:
    """Evaluate as a run does."""
    executor = InProcess()
    executor.open(lambda: evaluator, lambda numbers: None, None)
    for number, architecture in enumerate(architectures):
        executor.submit(Request(number, architecture, seed=number))
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < len(architectures):
        outcomes.update({event.number: event for event in executor.next_all() if isinstance(event, Outcome)})
    return outcomes


def test_a_candidate_that_fails_in_company_is_repeated_alone() -> None:
    space = with_option(Failing)
    architectures = of_blocks(space, *FAILING)
    expected = scores(evaluate(make(space, together=1), architectures))
    Failing.errors = [MemoryError("no room in company")]
    outcomes = evaluate(make(space), architectures)
    assert not Failing.errors
    assert scores(outcomes) == expected
    # The one that failed comes last. It is the first of those with a `Failing` in the order of the walk.
    assert [outcome.number for outcome in outcomes] in ([1, 2, 3, 0], [0, 1, 3, 2])


def test_an_error_of_one_candidate_does_not_touch_the_others() -> None:
    space = with_option(Failing)
    architectures = of_blocks(space, *FAILING)
    expected = scores(evaluate(make(space, together=1), architectures))
    Failing.errors = [ValueError("never works")] * 100
    try:
        outcomes = in_process(make(space), architectures)
    finally:
        Failing.errors = []
    assert {n: outcome.error for n, outcome in outcomes.items()} == {
        0: "ValueError: never works",
        1: "",
        2: "ValueError: never works",
        3: "",
    }
    assert [outcomes[n].state for n in range(4)] == [State.FAILED, State.COMPLETE] * 2
    assert {n: scores(list(outcomes.values()))[n] for n in (1, 3)} == {n: expected[n] for n in (1, 3)}


def test_an_interruption_passes() -> None:
    space = with_option(Failing)
    Failing.errors = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        evaluate(make(space), of_blocks(space, *FAILING))


def test_a_score_that_raises_for_one_candidate_does_not_touch_the_others() -> None:
    """As metrics of scikit-learn do for outputs that are not finite."""

    class Strict(Noise):
        def score(self, model: Predictor, split: str) -> Mapping[str, float]:
            metrics = super().score(model, split)
            if not math.isfinite(metrics["loss"]):
                raise ValueError("Input contains NaN.")
            return metrics

    class NaN(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * math.nan

    space = with_option(NaN)
    architectures = of_blocks(space, FAILING[2], *FAILING)
    for task, error in ((Strict(), "ValueError: Input contains NaN."), (Noise(), "loss is nan")):
        outcomes = in_process(make(space, task), architectures)
        assert [outcomes[n].error for n in range(5)] == [error, error, "", error, ""]
        good = evaluate(make(space, together=1), [architectures[2], architectures[4]])
        assert [outcomes[2].metrics, outcomes[4].metrics] == [outcome.metrics for outcome in good]


def test_networks_that_draw_random_numbers_are_evaluated_alone(caplog: pytest.LogCaptureFixture) -> None:
    space = with_option(Stochastic)
    architectures = of_blocks(space, *FAILING)
    expected = scores(evaluate(make(space, together=1), architectures))
    evaluator = make(space)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert scores(evaluate(evaluator, architectures)) == expected
    assert [record.message for record in caplog.records] == [
        "candidates are evaluated one by one: a network draws random numbers in evaluation mode"
    ]


def test_a_task_whose_scores_need_other_inputs_for_each_network() -> None:
    class Adaptive(Noise):
        def score(self, model: Predictor, split: str) -> Mapping[str, float]:
            return {"loss": model(model(self._inputs[:8])[:, :1, None, None] + self._inputs[:8]).sum().item()}

    space = SPACES["in place"]()
    architectures = candidates(space)
    expected = scores(evaluate(make(space, Adaptive(), together=1), architectures))
    assert scores(evaluate(make(space, Adaptive()), architectures)) == expected


def test_requests_of_several_fidelities() -> None:
    space = SPACES["in place"]()
    requests = [
        Request(number, architecture, seed=0, fidelity=float(images))
        for number, (architecture, images) in enumerate(zip(candidates(space), (8, 24, 8, 24, 0, 8, 0, 8), strict=True))
    ]
    expected = {}
    for request in requests:
        expected |= scores(list(make(space).evaluate([request])))
    assert scores(list(make(space).evaluate(requests))) == expected


def test_the_weights_of_the_supernet_stay_as_they_are() -> None:
    space = SPACES["shufflenet_v2"]()
    evaluator = make(space)
    before = {name: tensor.clone() for name, tensor in evaluator._supernet.state_dict().items()}
    evaluate(evaluator, candidates(space))
    after = evaluator._supernet.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_memory_without_room_for_one_batch_is_refused() -> None:
    space = SPACES["in place"]()
    # One image has 2 x 8 x 8 numbers of 4 bytes after each block: 4,096 bytes a batch, a quarter of the memory.
    with pytest.raises(
        ConfigurationError, match=r"shape \(2, 8, 8\) for each of the 8 images .* at least 0.017"
    ) as caught:
        make(space, share_megabytes=0.016)
    assert caught.value.path == "share_megabytes"
    make(space, share_megabytes=0.017)
    assert scores(evaluate(make(space, share_megabytes=0.0), candidates(space)))
    with pytest.raises(ConfigurationError, match="together must be at least 1"):
        make(space, together=0)
    with pytest.raises(ConfigurationError, match="share_megabytes must be at least 0"):
        make(space, share_megabytes=-1.0)
    with pytest.raises(ConfigurationError, match="share_megabytes must be at least 0"):
        make(space, share_megabytes=math.nan)


def test_kept_outputs_stay_within_the_memory() -> None:
    class Watched(shared_parts.Walk):
        largest = 0

        def compute(self, number: int, inputs: Tensor) -> Tensor:
            outputs = super().compute(number, inputs)
            sizes = [each.numel() * each.element_size() for _, each in self._kept.values()]
            Watched.largest = max(Watched.largest, sum(sizes))
            return outputs

    space = SPACES["in place"]()
    evaluator = make(space)
    tree = shared_parts.PartTree(evaluator._supernet)
    different = list(dict.fromkeys(candidates(space, 20)))
    paths = {number: tree.path(each) for number, each in enumerate(different)}
    inputs = torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    for limit in (0, 4096, 9000, 1e9):
        walk, Watched.largest = Watched(paths, limit, restore=False), 0
        walk.begin()
        with torch.no_grad():
            outputs = {number: walk.compute(number, inputs) for number in walk.order}
        assert Watched.largest == min(limit // 4096, 3) * 4096
        for number, architecture in enumerate(different):
            network = evaluator._supernet.extract(architecture).eval()
            with torch.no_grad():
                assert torch.equal(network(inputs.clone()), outputs[number])
