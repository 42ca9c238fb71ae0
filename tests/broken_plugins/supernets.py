"""Spaces with a supernet that breaks its contract."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import (
    Architecture,
    Choice,
    Decision,
    Scalar,
    Segment,
    Selection,
    Supernet,
    SupernetSpace,
    Weighted,
)
from automl_nas.testing import Contract, SupernetContract
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(SupernetContract):
        def make_space(self) -> SupernetSpace:
            return Space(component)

    return Subject


CASES = Cases("supernets", contract)


def layer(kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, kernel, padding=kernel // 2), nn.BatchNorm2d(3))


class Space(SupernetSpace):
    """A space of two convolutions, whose supernet has a given class."""

    def __init__(self, supernet: Any) -> None:
        self.supernet = supernet
        self.made: dict[str, Decision] = {"first": Choice((1, 3, 5)), "second": Choice((1, 3))}

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self.made

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (1, 5, 5)

    def build(self, architecture: Architecture) -> nn.Module:
        self.validate(architecture)
        return One(nn.Conv2d(1, 3, 1), *(layer(int(str(v))) for v in architecture.values()), nn.Linear(3, 4))

    def build_supernet(self) -> Supernet:
        made: Supernet = self.supernet(self.made)
        return made


class One(nn.Module):
    """One network: a stem, a block for each decision, and a head."""

    def __init__(self, stem: nn.Module, *blocks_and_head: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, nn.ModuleList(blocks_and_head[:-1]), blocks_and_head[-1]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(block(x))
        outputs: Tensor = self.head(x.mean((2, 3)))
        return outputs


class Weighed(nn.Module):
    """The weighted sum of modules."""

    def __init__(self, parts: list[nn.Module], weights: Tensor) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.register_buffer("weights", weights.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = sum(w * part(x) for w, part in zip(self.weights, self.parts, strict=True))  # type: ignore
        return total


@CASES.keeps
class Shared(Supernet):
    """A supernet written by hand; keeps the contract."""

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        super().__init__()
        self.live = dict(decisions)
        self.stem, self.head = nn.Conv2d(1, 3, 1), nn.Linear(3, 4)
        self.options = nn.ModuleDict(
            {n: nn.ModuleDict({str(o): layer(int(str(o))) for o in d.options}) for n, d in decisions.items()}
        )

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self.live

    def chosen(self, name: str, selection: Selection) -> tuple[list[nn.Module], Tensor | None]:
        if name not in selection:
            raise SpaceError(f"the selection lacks the decision '{name}'")
        value: Any = selection[name]
        modules: Any = self.options[name]
        if isinstance(value, Tensor):
            return list(modules.values()), value
        if isinstance(value, Weighted):
            return [modules[str(value.value)]], value.tensor.reshape(1)
        return [modules[str(value)]], None

    def block(self, x: Tensor, name: str, selection: Selection) -> Tensor:
        modules, weights = self.chosen(name, selection)
        if weights is None:
            outputs: Tensor = modules[0](x)
            return outputs
        total: Tensor = sum(w * module(x) for w, module in zip(weights, modules, strict=True))  # type: ignore
        return total

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        x = self.stem(x)
        for name in self.live:
            x = torch.relu(self.block(x, name, selection))
        outputs: Tensor = self.head(x.mean((2, 3)))
        return outputs

    def extract(self, selection: Selection) -> nn.Module:
        blocks = []
        for name in self.live:
            modules, weights = self.chosen(name, selection)
            blocks.append(modules[0] if weights is None else Weighed(modules, weights))
        return copy.deepcopy(One(self.stem, *blocks, self.head)).train(self.training)

    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        for name, options in live.items():
            if name not in self.live:
                raise SpaceError(f"there is no decision '{name}'")
            unknown = [option for option in options if option not in self.live[name].options]
            if unknown:
                raise SpaceError(f"'{name}' has no option {unknown}")
        for name, options in live.items():
            kept = tuple(option for option in self.live[name].options if option in options)
            modules: Any = self.options[name]
            for option in self.live[name].options:
                if option not in kept:
                    del modules[str(option)]
            self.live[name] = Choice(kept)


@CASES.breaks("decisions_of_the_supernet")
class OtherOrder(Shared):
    @property
    def decisions(self) -> Mapping[str, Decision]:
        return dict(reversed(list(self.live.items())))


@CASES.breaks("extract_equals_supernet_for_values")
class ExtractsTheFirst(Shared):
    """One option of a decision, not drawn by most samples, is extracted wrongly."""

    def extract(self, selection: Selection) -> nn.Module:
        if selection["first"] == 5:
            selection = {**selection, "first": 3}
        return super().extract(selection)


@CASES.breaks("extract_equals_supernet_for_values")
class ExtractsForEvaluation(Shared):
    def extract(self, selection: Selection) -> nn.Module:
        return super().extract(selection).eval()


@CASES.breaks("extract_equals_supernet_for_values")
class NoisyForward(Shared):
    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        return super().forward(x, selection) + 1e-7


@CASES.breaks("the_supernet_does_not_remember_a_selection")
class RemembersTheLast(Shared):
    last: Any = None

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        outputs = super().forward(x, selection)
        self.last, previous = selection, self.last
        return outputs if previous is None or previous == selection else outputs + 0.1


@CASES.breaks("weights_are_shared")
class FrozenWeights(Shared):
    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        super().__init__(decisions)
        self.stem.requires_grad_(False)


@CASES.breaks("weights_are_shared")
class NoGraph(Shared):
    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        with torch.no_grad():
            outputs = super().forward(x, selection)
        return outputs.requires_grad_()


@CASES.breaks("extract_equals_supernet_for_weights")
class ForgetsWeights(Shared):
    def extract(self, selection: Selection) -> nn.Module:
        hard = {n: self.live[n].options[0] if isinstance(v, Tensor) else v for n, v in selection.items()}
        return super().extract(hard)


@CASES.breaks("weights_scale_the_options")
class SoftmaxOfWeights(Shared):
    def chosen(self, name: str, selection: Selection) -> tuple[list[nn.Module], Tensor | None]:
        modules, weights = super().chosen(name, selection)
        return modules, None if weights is None else weights.softmax(0)


@CASES.breaks("parameters_that_are_not_selected_have_no_gradient")
class ComputesAll(Shared):
    def block(self, x: Tensor, name: str, selection: Selection) -> Tensor:
        modules: Any = self.options[name]
        rest: Any = sum(0.0 * module(x).sum() for module in modules.values())
        return super().block(x, name, selection) + rest


@CASES.breaks("restrict_keeps_the_parameters_and_the_function")
class CopiesInRestrict(Shared):
    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        super().restrict(live)
        self.options = copy.deepcopy(self.options)


@CASES.breaks("restrict_keeps_the_parameters_and_the_function")
class RestrictKeepsOptions(Shared):
    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        before = dict(self.live)
        super().restrict(live)
        self.live = before


@CASES.breaks("restrict_refuses_unknown_decisions_and_options")
class RestrictAcceptsAnything(Shared):
    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        known = {n: [o for o in options if o in self.live[n].options] for n, options in live.items() if n in self.live}
        super().restrict({n: options for n, options in known.items() if options})


@CASES.breaks("segments_make_up_the_forward")
class SegmentsLackTheHead(Shared):
    def segments(self) -> tuple[Segment, ...]:
        return (Segment(tuple(self.live), lambda x, selection: self.stem(x)),)


@CASES.breaks("segments_divide_extracted_networks")
class PartsLackTheHead(Shared):
    def segments(self) -> tuple[Segment, ...]:
        return (Segment(tuple(self.live), self.forward, part=lambda network: network.stem),)


@CASES.breaks("an_extracted_network_is_independent")
class ExtractsViews(Shared):
    def extract(self, selection: Selection) -> nn.Module:
        blocks = []
        for name in self.live:
            modules, weights = self.chosen(name, selection)
            blocks.append(modules[0] if weights is None else Weighed(modules, weights))
        return One(self.stem, *blocks, self.head).train(self.training)


@CASES.breaks("an_extracted_network_is_independent")
class ExtractDraws(Shared):
    def extract(self, selection: Selection) -> nn.Module:
        torch.rand(1)
        return super().extract(selection)


@CASES.breaks("extracted_and_built_networks_exchange_weights")
class OtherNames(Shared):
    def extract(self, selection: Selection) -> nn.Module:
        return nn.Sequential(super().extract(selection)).train(self.training)


@CASES.breaks("weights_of_the_supernet_can_be_stored")
class HiddenWeights(Shared):
    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        super().__init__(decisions)
        self.hidden = [torch.randn(1, 3, 1, 1)]

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        return super().forward(x, selection) * (1 + self.hidden[0].mean().to(x.dtype))


_WEIGHTS: dict[str, Any] = {}


@CASES.breaks("every_supernet_is_new")
class SharesTheStem(Shared):
    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        super().__init__(decisions)
        self.stem = _WEIGHTS.setdefault("stem", self.stem)


@CASES.breaks("a_selection_without_a_decision_is_refused")
class DefaultsToTheFirst(Shared):
    def chosen(self, name: str, selection: Selection) -> tuple[list[nn.Module], Tensor | None]:
        return super().chosen(name, {name: self.live[name].options[0], **selection})


@CASES.breaks("the_global_generators_are_left_alone")
class DropsOutGlobally(Shared):
    def extract(self, selection: Selection) -> nn.Module:
        torch.manual_seed(0)
        return super().extract(selection)


@CASES.breaks("the_supernet_does_not_remember_a_selection")
class ConsumesTheSelection(Shared):
    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        outputs = super().forward(x, selection)
        if isinstance(selection, dict):
            selection.clear()
        return outputs


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("an_extracted_network_can_be_trained")
class ExtractsFrozen(Shared):
    def extract(self, selection: Selection) -> nn.Module:
        return super().extract(selection).requires_grad_(False)


@CASES.breaks("an_extracted_network_is_independent")
class ExtractSharesAConstant(Shared):
    """A buffer that is not in the state is shared by the supernet and all extracted networks."""

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        super().__init__(decisions)
        self.stem.register_buffer("scale", torch.ones(1), persistent=False)

    def extract(self, selection: Selection) -> nn.Module:
        network = super().extract(selection)
        network.stem._buffers["scale"] = self.stem.scale  # type: ignore[union-attr,assignment]
        return network


@CASES.breaks("restrict_refuses_unknown_decisions_and_options")
class RemovesBeforeItChecks(Shared):
    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        for name, options in live.items():
            super().restrict({name: options})


@CASES.breaks("a_removed_option_is_refused")
class RunsAnotherOption(Shared):
    def chosen(self, name: str, selection: Selection) -> tuple[list[nn.Module], Tensor | None]:
        value = selection.get(name)
        if not isinstance(value, Tensor | Weighted) and value is not None and value not in self.live[name].options:
            selection = {**selection, name: self.live[name].options[0]}
        return super().chosen(name, selection)


@CASES.breaks("extract_equals_supernet_for_values")
class ClampsTheInput(Shared):
    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        return super().forward(x.clamp_(-1.0, 1.0), selection)


@CASES.breaks("restrict_keeps_the_parameters_and_the_function")
class SegmentsOfTheFirstForward(Shared):
    """Segments are made once and run options by their first position."""

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        super().__init__(decisions)
        self.names = tuple(decisions)
        self.kept = {n: list(m.values()) for n, m in self.options.items()}  # type: ignore[operator]

    def run_all(self, x: Tensor, selection: Selection) -> Tensor:
        x = self.stem(x)
        for name in self.names:
            value: Any = selection[name]
            hard = not isinstance(value, Tensor | Weighted)
            place = self.live[name].options.index(value) if hard else 0
            x = torch.relu(self.kept[name][place](x) if hard else self.block(x, name, selection))
        outputs: Tensor = self.head(x.mean((2, 3)))
        return outputs

    def segments(self) -> tuple[Segment, ...]:
        return (Segment(self.names, self.run_all, part=lambda network: network),)
