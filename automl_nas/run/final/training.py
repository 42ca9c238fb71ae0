"""How the networks of the final stage are built, trained, stored and scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task, TaskReport
from automl_nas.evaluation.training.distillation import Distillation
from automl_nas.evaluation.training.fit import Fit, report, score
from automl_nas.run.configuration.final_section import FinalSettings
from automl_nas.run.configuration.stages import TrainingLimit
from automl_nas.run.final.candidates import FinalCandidate
from automl_nas.space.architecture import Architecture
from automl_nas.streams import stream_seed


@dataclass(frozen=True)
class FinalTraining:
    """Builds, trains, stores and scores the networks of the final stage.

    Attributes:
        task: the data, loss and metrics.
        runtime: where tensors are computed.
        artifacts: where trained weights are saved.
        settings: of the stage.
        seed: of the stage.
        inherit: returns the network of an architecture with the supernet's weights, for ``weights: inherited``; None:
            networks are trained from fresh weights.
        limit: where trainings end in a short run; None: at the end of their recipe.
        teacher: returns the network that the others learn from, on the CPU; None: none, or the stage trains it.
    """

    task: Task
    runtime: Runtime
    artifacts: Artifacts
    settings: FinalSettings
    seed: int
    inherit: Callable[[Architecture], nn.Module] | None
    limit: TrainingLimit | None = None
    teacher: Callable[[], nn.Module] | None = None

    def build(self, candidate: FinalCandidate, repetition: int) -> nn.Module:
        """Return a network with fresh weights. All candidates draw them from the same stream of a repetition."""
        with self.runtime.seeded(self.seed, "build", repetition):
            return candidate.space.build(candidate.architecture)

    def start(self, candidate: FinalCandidate, repetition: int, teacher: nn.Module | None = None) -> Fit:
        """Return the training of a network, before its first iteration.

        Args:
            candidate: the network.
            repetition: which of its trainings.
            teacher: the network that it learns from, on the device; None: it learns from the targets only.

        Raises:
            ConfigurationError: the supernet's weights or the initial weights do not fit the network.
        """
        network = self.build(candidate, repetition)
        initial, distill = self.settings.initial_weights, self.settings.distill
        if initial is not None:
            initial.load_into(network, "final.initial_weights")
        if self.inherit is not None:
            take_weights(network, self.inherit(candidate.architecture))
        return Fit(
            self.runtime.place(network),
            self.task,
            self.runtime,
            self.settings.train,
            seed=stream_seed(self.seed, "fit", repetition),
            split=self.settings.split,
            backend=self.settings.compile,
            distillation=None
            if teacher is None or distill is None
            else Distillation(teacher, distill.weight, distill.temperature),
        )

    def save(self, network: nn.Module, position: int) -> None:
        """Save the weights of the network that was trained at a position."""
        self.artifacts.save(network.state_dict(), name=f"network-{position}")

    def load(self, candidate: FinalCandidate, repetition: int, position: int) -> nn.Module:
        """Return the network that was trained at a position, with its weights."""
        network = self.build(candidate, repetition)
        network.load_state_dict(self.artifacts.load(f"final/network-{position}"))
        return self.runtime.place(network)

    def score(self, network: nn.Module, split: str) -> dict[str, float]:
        """Return the metrics of a network on a split."""
        return score(network, self.task, self.runtime, split)

    def report(self, network: nn.Module, split: str) -> TaskReport:
        """Return the metrics of a network on a split, with intervals and details."""
        return report(network, self.task, self.runtime, split)

    def save_delivered(self, network: nn.Module, candidate: FinalCandidate, position: int, *, main: bool) -> None:
        """Save the weights of a delivered network; with ``verify``, read them back and compare the outputs.

        Args:
            network: on the device.
            candidate: that it was built from.
            position: at which it was trained and saved.
            main: whether its weights are also the artifact ``final``.

        Raises:
            RunFailedError: the network with the saved weights computes other outputs.
        """
        if main:
            self.artifacts.save(network.state_dict())
        if not self.settings.verify:
            return
        copy = candidate.space.build(candidate.architecture)
        copy.load_state_dict(self.artifacts.load("final" if main else f"final/network-{position}"))
        inputs, _ = next(self.task.batches(self.settings.split, 0, stream_seed(self.seed, "verify")))
        before = self.runtime.predictor(network)(inputs)
        after = self.runtime.predictor(self.runtime.place(copy))(inputs)
        if not torch.equal(before, after):
            raise RunFailedError(
                "the delivered network with its saved weights computes other outputs than the trained network; they "
                f"differ by up to {(before - after).abs().max().item():.3g}"
            )


def take_weights(network: nn.Module, donor: nn.Module) -> None:
    """Copy a donor's weights into a network of the same layout, which may have more tensors (an affine BN, say).

    Raises:
        ConfigurationError: a tensor of the donor is missing in the network, or has another shape there.
    """
    own, inherited = network.state_dict(), donor.state_dict()
    misfits = [name for name, tensor in inherited.items() if name not in own or own[name].shape != tensor.shape]
    if misfits:
        raise ConfigurationError(
            "the supernet's weights do not fit the final network "
            f"({', '.join(misfits[:3])}{' ...' if len(misfits) > 3 else ''}); "
            "use a final.space of the same widths, or weights: scratch",
            path="final.weights",
        )
    network.load_state_dict(inherited, strict=False)
