"""Cost models that break their contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace
from automl_nas.testing import Contract, CostModelContract, ToySpace
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(CostModelContract):
        def make_space(self) -> SearchSpace:
            return ToySpace()

        def make(self, space: SearchSpace) -> CostModel:
            made: CostModel = component(space)
            return made

    return Subject


CASES = Cases("costs", contract)


@CASES.keeps
class Kernels(CostModel):
    """The number of weights of each block; keeps the contract."""

    metric: ClassVar[str] = "kernels"
    unit: ClassVar[str] = "weights"

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def value(self, name: str, option: Any) -> Any:
        return float(16 * (2 * option + 1) ** 2)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {name: self.value(name, architecture[name]) for name in self.space.decisions}


@CASES.breaks("another_process_gives_the_same")
class HashOfTheName(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return float(hash(name) % 7 + option)


@CASES.breaks("another_process_gives_the_same")
class OfTheDtype(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return float(torch.zeros(1).element_size() * (1 + option))


@CASES.breaks("another_process_gives_the_same")
class OfTheThreads(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return float(torch.get_num_threads() + option)


@CASES.breaks("the_global_generators_are_left_alone")
class BuildsUnseeded(Kernels):
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        network = self.space.build(architecture)
        return {name: float(p.numel()) for name, p in network.named_parameters()}


@CASES.breaks("global_settings_are_left_alone")
class SetsTheDevice(Kernels):
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        torch.set_default_device("meta")
        return super().breakdown(architecture)


@CASES.breaks("nothing_is_printed")
class PrintsCosts(Kernels):
    def note(self) -> str:
        print("measured")
        return ""


@CASES.breaks("no_file_is_written_elsewhere")
class WritesATable(Kernels):
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        Path("table.json").write_text("{}")
        return super().breakdown(architecture)


@CASES.breaks("it_has_a_metric_and_a_unit")
class MetricWithASpace(Kernels):
    metric: ClassVar[str] = "number of kernels"


@CASES.breaks("it_has_a_metric_and_a_unit")
class NoUnit(Kernels):
    unit: ClassVar[str] = ""


@CASES.breaks("values_are_plain_numbers")
class NumpyValues(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return np.float32(option)


@CASES.breaks("values_are_plain_numbers")
class TensorValues(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return torch.tensor(float(option))


@CASES.breaks("values_are_plain_numbers")
class NegativeValues(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return float(option) - 1.0


@CASES.breaks("values_are_plain_numbers")
class NotIntegral(Kernels):
    integral: ClassVar[bool] = True

    def value(self, name: str, option: Any) -> Any:
        return option + 0.5


@CASES.breaks("values_are_plain_numbers")
class TruthValues(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return option > 0


@CASES.breaks("values_are_plain_numbers")
class NumbersAsNames(Kernels):
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return dict(enumerate(super().breakdown(architecture).values()))  # type: ignore[arg-type]


@CASES.breaks("values_are_plain_numbers")
class NanForAnOption(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return float("nan") if option == 1 else 1.0


@CASES.breaks("the_modules_add_up")
class DoesNotAddUp(Kernels):
    def estimate(self, architecture: Architecture) -> float:
        return 1.0 + super().estimate(architecture)


@CASES.breaks("it_depends_on_the_architecture_alone")
class Grows(Kernels):
    calls = 0

    def value(self, name: str, option: Any) -> Any:
        self.calls += 1
        return float(option + self.calls * 1e-3)


@CASES.breaks("it_depends_on_the_architecture_alone")
class CachedByCount(Kernels):
    """A cache whose key is not the architecture."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.cache: dict[int, dict[str, float]] = {}

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        total = sum(map(int, architecture.values()))  # type: ignore[arg-type]
        return dict(self.cache.setdefault(total % 2, dict(super().breakdown(architecture))))


@CASES.breaks("networks_have_different_costs")
class Constant(Kernels):
    def value(self, name: str, option: Any) -> Any:
        return 9.0


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesTheSpace(Kernels):
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        result = super().breakdown(architecture)
        decisions: Any = self.space.decisions
        decisions["d0"] = decisions["d1"].__class__((0, 1, 2, 3))
        return result


@CASES.breaks("a_breakdown_is_not_shared")
class SharesTheBreakdown(Kernels):
    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.cache: dict[str, Mapping[str, float]] = {}

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        if architecture.key not in self.cache:
            self.cache[architecture.key] = super().breakdown(architecture)
        return self.cache[architecture.key]


@CASES.breaks("notes_are_text")
class RemarksInOneText(Kernels):
    def remarks(self, architecture: Architecture) -> Sequence[str]:
        return "padding is not counted"


@CASES.breaks("a_listing_has_the_costs_of_the_estimates")
class ListsTheWrongRest(Kernels):
    def listing(self) -> tuple[Sequence[Architecture], float] | None:
        return [], 5.0


@CASES.breaks("an_architecture_of_another_space_is_refused")
class AcceptsAnything(Kernels):
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {name: float(16 * (1 + int(str(option)))) for name, option in architecture.items()}


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("it_depends_on_the_architecture_alone")
class ByPlace(Kernels):
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        if set(architecture) != set(self.space.decisions):
            raise KeyError("another space")
        values = list(architecture.values())
        return {name: (1 + n) * self.value(name, values[n]) for n, name in enumerate(self.space.decisions)}


@CASES.breaks("it_depends_on_the_architecture_alone")
class TotalOfTheLastBreakdown(Kernels):
    last: float | None = None

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        parts = super().breakdown(architecture)
        self.last = sum(parts.values())
        return parts

    def estimate(self, architecture: Architecture) -> float:
        total, self.last = self.last, None
        return super().estimate(architecture) if total is None else total


@CASES.breaks("it_depends_on_the_architecture_alone")
class RemarksChange(Kernels):
    calls = 0

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        self.calls += 1
        return [f"estimate number {self.calls}"]
