"""Search spaces that break their contract."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from automl_nas.space import Architecture, Choice, Decision, SearchSpace
from automl_nas.testing import Contract, SearchSpaceContract
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(SearchSpaceContract):
        def make_space(self) -> SearchSpace:
            made: SearchSpace = component()
            return made

    return Subject


CASES = Cases("spaces", contract)


@CASES.keeps
class Blocks(SearchSpace):
    """Two convolutions with a choice of kernel sizes; keeps the contract."""

    def __init__(self) -> None:
        self.made: dict[str, Decision] = {"first": Choice((1, 3, 5)), "second": Choice((1, 3))}

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self.made

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (1, 6, 6)

    def layer(self, name: str, kernel: Any) -> nn.Module:
        return nn.Conv2d(3, 3, kernel, padding=kernel // 2)

    def head(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))

    def build(self, architecture: Architecture) -> nn.Module:
        values = self.validate(architecture)
        return nn.Sequential(nn.Conv2d(1, 3, 1), *(self.layer(n, v) for n, v in values.items()), self.head())


class Wrapped(nn.Module):
    """A network that is changed at its output."""

    def __init__(self, inner: nn.Module, change: Any) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


class Changed(Blocks):
    """Blocks whose networks are changed at their outputs."""

    def change(self, outputs: Tensor) -> Any:
        return outputs

    def build(self, architecture: Architecture) -> nn.Module:
        return Wrapped(super().build(architecture), self.change)


@CASES.breaks("another_process_gives_the_same")
class NamesFromASet(Blocks):
    def __init__(self) -> None:
        super().__init__()
        self.made = {name: self.made[name] for name in set(self.made) | set()}
        names = {"alpha", "beta", "gamma", "delta", "epsilon"}
        self.made |= {name: Choice((1, 3)) for name in names}


@CASES.breaks("the_global_generators_are_left_alone")
class SeedsInBuild(Blocks):
    def canonical(self, architecture: Architecture) -> Architecture:
        torch.rand(1)
        return architecture


@CASES.breaks("global_settings_are_left_alone")
class DisablesGradients(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        torch.set_grad_enabled(False)
        return super().build(architecture)


@CASES.breaks("nothing_is_printed")
class PrintsTheNetwork(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        network = super().build(architecture)
        print(network)
        return network


@CASES.breaks("decisions_are_the_same_each_time")
class GrowsDecisions(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        network = super().build(architecture)
        self.made[f"extra{len(self.made)}"] = Choice((0, 1))
        return network


@CASES.breaks("decisions_are_the_same_each_time")
class RandomOptions(Blocks):
    def __init__(self) -> None:
        super().__init__()
        self.made["first"] = Choice((1, 3, random.SystemRandom().randrange(5, 10**9, 2)))


@CASES.breaks("decisions_have_the_declared_types")
class ShapeAsAList(Blocks):
    @property
    def input_shape(self) -> Any:
        return [1, 6, 6]


@CASES.breaks("validate_accepts_its_own_and_refuses_others")
class AcceptsEverything(Blocks):
    def validate(self, values: Mapping[str, object]) -> Architecture:
        return Architecture({name: values.get(name, 1) for name in self.made})  # type: ignore[dict-item]


@CASES.breaks("sampling_is_a_function_of_the_stream")
class SamplesFromTheSystem(Blocks):
    def sample(self, rng: random.Random) -> Architecture:
        return super().sample(random.SystemRandom())


@CASES.breaks("sampling_is_a_function_of_the_stream")
class SamplesTheFirst(Blocks):
    def sample(self, rng: random.Random) -> Architecture:
        return self.validate({name: decision.options[0] for name, decision in self.made.items()})


@CASES.breaks("canonical_is_idempotent_and_valid")
class CanonicalTurns(Blocks):
    def canonical(self, architecture: Architecture) -> Architecture:
        return self.validate({**architecture, "second": 4 - int(str(architecture["second"]))})


@CASES.breaks("canonical_is_idempotent_and_valid")
class CanonicalDrops(Blocks):
    def canonical(self, architecture: Architecture) -> Architecture:
        return Architecture({"first": architecture["first"]})


@CASES.breaks("canonical_is_idempotent_and_valid")
class CanonicalForgetsToReturn(Blocks):
    def canonical(self, architecture: Architecture) -> Any:
        architecture.replace({"second": 1})


@CASES.breaks("canonical_is_idempotent_and_valid")
class CanonicalIsADict(Blocks):
    def canonical(self, architecture: Architecture) -> Any:
        return dict(architecture)


@CASES.breaks("segments_name_every_decision")
class SegmentsLackOne(Blocks):
    def segments(self) -> tuple[tuple[str, ...], ...]:
        return (("first",),)


@CASES.breaks("networks_run")
class OneOptionFails(Blocks):
    """Only networks with the largest kernel cannot run."""

    def layer(self, name: str, kernel: Any) -> nn.Module:
        return nn.Conv2d(3, 4, kernel) if kernel == 5 else super().layer(name, kernel)


@CASES.breaks("networks_run")
class OneOptionIsNan(Blocks):
    def layer(self, name: str, kernel: Any) -> nn.Module:
        layer = super().layer(name, kernel)
        return Wrapped(layer, lambda x: x / 0.0 * 0.0) if kernel == 5 else layer


@CASES.breaks("networks_run")
class ReturnsATuple(Changed):
    def change(self, outputs: Tensor) -> Any:
        return outputs, outputs


@CASES.breaks("networks_run")
class InDoublePrecision(Changed):
    def change(self, outputs: Tensor) -> Any:
        return outputs.double()


@CASES.breaks("networks_run")
class InEvaluationMode(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        return super().build(architecture).eval()


@CASES.breaks("networks_run")
class OutputsOfManyShapes(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        network = super().build(architecture)
        assert isinstance(network, nn.Sequential)
        return nn.Sequential(*network, nn.Linear(4, int(str(architecture["first"]))))


@CASES.breaks("samples_of_a_batch_are_independent")
class SubtractsTheMean(Changed):
    def change(self, outputs: Tensor) -> Any:
        return outputs - outputs.mean(0)


@CASES.breaks("options_are_different_networks")
class IgnoresADecision(Blocks):
    def layer(self, name: str, kernel: Any) -> nn.Module:
        return super().layer(name, 1 if name == "second" else kernel)


@CASES.breaks("every_network_is_new")
class SharesTheHead(Blocks):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.kept = super().head()

    def head(self) -> nn.Module:
        return self.kept


@CASES.breaks("every_network_is_new")
class KeepsNetworks(Blocks):
    def __init__(self) -> None:
        super().__init__()
        self.networks: dict[str, nn.Module] = {}

    def build(self, architecture: Architecture) -> nn.Module:
        if architecture.key not in self.networks:
            self.networks[architecture.key] = super().build(architecture)
        return self.networks[architecture.key]


@CASES.breaks("parameters_can_be_trained")
class Frozen(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        return super().build(architecture).requires_grad_(False)


@CASES.breaks("parameters_can_be_trained")
class OneOptionIsFrozen(Blocks):
    def layer(self, name: str, kernel: Any) -> nn.Module:
        return super().layer(name, kernel).requires_grad_(kernel != 5)


@CASES.breaks("parameters_can_be_trained")
class Detached(Changed):
    def change(self, outputs: Tensor) -> Any:
        return outputs.detach().requires_grad_()


@CASES.breaks("a_network_is_a_function_of_the_seed")
class WeightsOfNumpy(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        network = super().build(architecture)
        rng = np.random.default_rng()
        for parameter in network.parameters():
            parameter.data = torch.from_numpy(rng.normal(size=parameter.shape).astype(np.float32))
        return network


@CASES.breaks("a_network_is_a_function_of_the_seed")
class ConstantWeights(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return super().build(architecture)


@CASES.breaks("an_invalid_architecture_is_not_built")
class BuildsAnything(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        values = {name: architecture.get(name, 1) for name in self.made}
        return super().build(Architecture(values))


@CASES.breaks("equal_canonical_means_equal_networks")
class CanonicalIsAnother(Blocks):
    def canonical(self, architecture: Architecture) -> Architecture:
        return self.validate({**architecture, "second": 1})


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesTheArchitecture(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        network = super().build(architecture)
        for slot in getattr(type(architecture), "__slots__", ()):
            value = getattr(architecture, slot, None)
            if isinstance(value, dict) and "first" in value:
                value["first"] = 1
        return network


@CASES.breaks("inputs_are_not_changed")
class InPlace(Blocks):
    def build(self, architecture: Architecture) -> nn.Module:
        return nn.Sequential(nn.ReLU(inplace=True), super().build(architecture))


@CASES.breaks("networks_run")
class DropsInEvaluation(Changed):
    def change(self, outputs: Tensor) -> Any:
        return nn.functional.dropout(outputs, 0.5)


@CASES.breaks("nothing_is_seeded")
class SeedsInForward(Changed):
    def change(self, outputs: Tensor) -> Any:
        torch.default_generator.manual_seed(7)
        return outputs


@CASES.breaks("weights_can_be_stored")
class HiddenModules(Changed):
    def build(self, architecture: Architecture) -> nn.Module:
        hidden = [nn.Linear(4, 4)]
        return Wrapped(Blocks.build(self, architecture), lambda outputs: hidden[0](outputs))


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("canonical_does_not_depend_on_what_was_asked_before")
class CanonicalIsTheFirstSeen(Blocks):
    """Of equal networks, the one that was seen first represents all."""

    def __init__(self) -> None:
        super().__init__()
        self.made["third"] = Choice((1, 3))
        self.first: dict[str, Architecture] = {}

    def canonical(self, architecture: Architecture) -> Architecture:
        key = f"{architecture['first']} {architecture['second']}"
        return self.first.setdefault(key, architecture)

    def layer(self, name: str, kernel: Any) -> nn.Module:
        return super().layer(name, 1 if name == "third" else kernel)


@CASES.breaks("every_option_is_sampled")
class NeverSamplesTheLast(Blocks):
    def sample(self, rng: random.Random) -> Architecture:
        values = {name: rng.choice(decision.options[:-1]) for name, decision in self.made.items()}
        return self.validate({**values, "second": rng.choice((1, 3))})


@CASES.breaks("networks_run")
class DependsOnTheGradientMode(Changed):
    """Outputs in evaluation mode are other ones if gradients are recorded."""

    def change(self, outputs: Tensor) -> Any:
        return outputs * 1.5 if torch.is_grad_enabled() else outputs


@CASES.breaks("networks_run_on_other_devices")
class ConstantOnTheCpu(Changed):
    def change(self, outputs: Tensor) -> Any:
        return outputs + torch.full((1, 4), 0.5)


@CASES.breaks("evaluation_changes_no_weights")
class CountsCalls(Blocks):
    """A buffer that every pass changes: exported and measured networks have other states than the saved ones."""

    def head(self) -> nn.Module:
        return nn.Sequential(super().head(), _Counter())


class _Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.calls, Tensor)
        self.calls += 1
        return x
