"""The last stage: retrain what was found beside its baselines, choose, test once, save and export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.exporter import Delivery
from automl_nas.evaluation.recipe import Recipe
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.statistics import difference_interval
from automl_nas.evaluation.task import Task
from automl_nas.evaluation.training import Fit, score
from automl_nas.search.strategy import Services, Strategy
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed


@dataclass(frozen=True)
class FinalSettings:
    """What happens to the best networks.

    Attributes:
        top_k: how many of the best trials are retrained; the one that is best on the search split is delivered.
        weights: ``scratch``: retrained from fresh weights; ``inherited``: fine-tuned from the supernet's.
        train: how to retrain.
        data: what to retrain on. ``train+search`` uses every image but the test images, and leaves nothing to choose
            by, so it needs ``top_k: 1``; None: ``train+search`` for top_k 1, else ``train``.
        baselines: networks retrained in the same way, for comparison: ``largest`` (the dearest feasible network),
            ``random`` (a feasible network drawn at random; may be named several times).
        seeds: how many times each network is retrained, from different seeds.
        verify: whether the saved weights are read back into a fresh network and compared with the trained one.
        iterations_per_step: how many training iterations make one step of the run.
    """

    top_k: int = 1
    weights: Literal["scratch", "inherited"] = "scratch"
    train: Recipe = field(default_factory=lambda: Recipe(epochs=25))
    data: Literal["train+search", "train"] | None = None
    baselines: list[Literal["largest", "random"]] = field(default_factory=list)
    seeds: int = 1
    verify: bool = True
    iterations_per_step: int = 50

    def __post_init__(self) -> None:
        for name in ("top_k", "seeds", "iterations_per_step"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}", path=name)
        if self.top_k > 1 and self.data == "train+search":
            raise ConfigurationError(
                f"top_k is {self.top_k}, and choosing among retrained networks needs images they were not trained on: "
                "set data: train",
                path="data",
            )

    @property
    def split(self) -> str:
        """The split to retrain on."""
        return self.data or ("train+search" if self.top_k == 1 else "train")


@dataclass(frozen=True)
class Candidate:
    """A network to retrain.

    Attributes:
        role: ``found``, ``largest`` or ``random``.
        architecture: what to build.
        trial: the number of the trial it comes from, if any.
    """

    role: str
    architecture: Architecture
    trial: int | None = None


class Final(Strategy):
    """Retrains candidates one after the other, then tests and delivers. Resumable at every step.

    Args:
        space: of the networks to deliver.
        task: what they are trained and tested on.
        runtime: where.
        artifacts: where weights are saved.
        settings: what to do.
        candidates: what to retrain, the best first.
        seed: of this stage.
        inherit: architecture -> a network with the supernet's weights, for ``weights: inherited``.
        deliver: exports a delivery and returns what the report says of it: the names of the files, what failed.
        describe: architecture -> its costs and the description that goes with an export.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        *,
        settings: FinalSettings,
        candidates: Sequence[Candidate],
        seed: int,
        inherit: Callable[[Architecture], nn.Module] | None,
        deliver: Callable[[Delivery], Mapping[str, Any]],
        costs: Callable[[Architecture], Mapping[str, float]],
        describe: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        self._space, self._task, self._runtime, self._artifacts = space, task, runtime, artifacts
        self._settings, self._seed, self._inherit, self._deliver = settings, seed, inherit, deliver
        self._costs, self._describe = costs, describe
        self._entries = [(candidate, number) for candidate in candidates for number in range(settings.seeds)]
        self._networks: list[dict[str, Any]] = []
        self._trained = 0
        self._fit: Fit | None = None
        self._report: dict[str, Any] | None = None
        self._metric = next(iter(task.metrics))

    def step(self, services: Services) -> None:
        """Train the present network for a while; when all are trained, test and deliver."""
        if len(self._networks) == len(self._entries):
            self._finish()
            return
        fit = self._fit or self._start()
        progress = fit.advance(self._settings.iterations_per_step)
        self._fit = fit
        self._trained += progress.iterations
        services.log(
            {"network": len(self._networks), "loss": progress.loss, "learning_rate": progress.learning_rate},
            step=self._trained,
        )
        services.progress(self._trained, fit.iterations * len(self._entries), "iterations")
        if fit.done:
            self._keep(fit)

    @property
    def done(self) -> bool:
        """Whether the network is delivered."""
        return self._report is not None

    @property
    def report(self) -> dict[str, Any]:
        """What was delivered and how it compares, as plain data."""
        assert self._report is not None
        return self._report

    def state_dict(self) -> dict[str, Any]:
        """Return the finished networks' records and the state of the one in training."""
        return {
            "networks": self._networks,
            "trained": self._trained,
            "fit": self._fit.state_dict() if self._fit else None,
            "report": self._report,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._networks, self._trained, self._report = list(state["networks"]), state["trained"], state["report"]
        self._fit = None
        if state["fit"] is not None:
            self._fit = self._start()
            self._fit.load_state_dict(state["fit"])

    def _build(self, entry: int) -> nn.Module:
        candidate, number = self._entries[entry]
        # By repetition, not by entry: networks that are compared start from the same stream.
        with self._runtime.seeded(self._seed, "build", number):
            network = self._space.build(candidate.architecture)
        return network

    def _start(self) -> Fit:
        entry = len(self._networks)
        candidate, number = self._entries[entry]
        network = self._build(entry)
        if self._inherit is not None:
            take_weights(network, self._inherit(candidate.architecture))
        return Fit(
            self._runtime.place(network),
            self._task,
            self._runtime,
            self._settings.train,
            seed=stream_seed(self._seed, "fit", number),
            split=self._settings.split,
        )

    def _keep(self, fit: Fit) -> None:
        entry = len(self._networks)
        candidate, number = self._entries[entry]
        record: dict[str, Any] = {
            "role": candidate.role,
            "trial": candidate.trial,
            "seed": number,
            "architecture": candidate.architecture.to_dict(),
            "costs": dict(self._costs(candidate.architecture)),
        }
        if self._settings.split == "train":
            record["search"] = score(fit.network, self._task, self._runtime, "search")
        self._artifacts.save(fit.network.state_dict(), name=f"network-{entry}")
        self._networks.append(record)
        self._fit = None

    def _load(self, entry: int) -> nn.Module:
        network = self._build(entry)
        network.load_state_dict(self._artifacts.load(f"final/network-{entry}"))
        return self._runtime.place(network)

    def _finish(self) -> None:
        sign = 1 if self._task.metrics[self._metric] == "maximize" else -1
        found = [entry for entry, (candidate, _) in enumerate(self._entries) if candidate.role == "found"]
        # Without a held-out split there is one candidate: its first repetition is delivered, whatever the test says.
        chosen = (
            max(found, key=lambda e: (sign * self._networks[e]["search"][self._metric], -e))
            if "search" in self._networks[0]
            else found[0]
        )
        tested = [
            entry
            for entry, (candidate, _) in enumerate(self._entries)
            if candidate.role != "found" or candidate.architecture == self._entries[chosen][0].architecture
        ]
        for entry in tested:
            metrics = score(self._load(entry), self._task, self._runtime, "test")
            self._networks[entry]["test"] = metrics
            self._networks[entry]["test_interval"] = {
                name: list(interval)
                for name, value in metrics.items()
                if (interval := self._task.interval(name, value, "test")) is not None
            }
        network = self._load(chosen)
        self._artifacts.save(network.state_dict())
        if self._settings.verify:
            self._verify(chosen, network)
        record = self._networks[chosen]
        others = [entry for entry in tested if self._entries[entry][0].role != "found"]
        report = {
            "metric": self._metric,
            "chosen": chosen,
            "networks": self._networks,
            "comparison": [self._compare(chosen, entry) for entry in others],
            "settings": asdict(self._settings),
        }
        network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        architecture = self._entries[chosen][0].architecture
        description = self._describe({key: record[key] for key in ("costs", "test", "test_interval")})
        delivery = Delivery(network.eval(), architecture, self._space.input_shape, description)
        self._report = {**report, **self._deliver(delivery)}

    def _verify(self, chosen: int, network: nn.Module) -> None:
        copy = self._space.build(self._entries[chosen][0].architecture)
        copy.load_state_dict(self._artifacts.load("final"))
        inputs, _ = next(self._task.batches("train", 0, stream_seed(self._seed, "verify")))
        before = self._runtime.predictor(network)(inputs)
        after = self._runtime.predictor(self._runtime.place(copy))(inputs)
        if not torch.equal(before, after):
            raise RunFailedError(
                "the saved weights, read back, compute something else than the trained network: outputs differ by up "
                "to "
                f"{(before - after).abs().max().item():.3g}"
            )

    def _compare(self, chosen: int, other: int) -> dict[str, Any]:
        mine, theirs = self._networks[chosen], self._networks[other]
        difference = mine["test"][self._metric] - theirs["test"][self._metric]
        comparison: dict[str, Any] = {"with": theirs["role"], "network": other, "difference": difference}
        if self._metric in mine["test_interval"] and self._metric in theirs["test_interval"]:
            low, high = difference_interval(
                mine["test"][self._metric],
                tuple(mine["test_interval"][self._metric]),
                theirs["test"][self._metric],
                tuple(theirs["test_interval"][self._metric]),
            )
            comparison |= {"interval": [low, high], "exceeds_noise": low > 0 or high < 0}
        return comparison


def take_weights(network: nn.Module, donor: nn.Module) -> None:
    """Copy a donor's weights into a network of the same layout, which may have more of them (an affine BN, say).

    Raises:
        ConfigurationError: a tensor of the donor has no place in the network, or another shape.
    """
    own, given = network.state_dict(), donor.state_dict()
    wrong = [name for name, tensor in given.items() if name not in own or own[name].shape != tensor.shape]
    if wrong:
        raise ConfigurationError(
            "the supernet's weights do not fit the final network "
            f"({', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}); "
            "use a final.space of the same widths, or weights: scratch",
            path="final.weights",
        )
    network.load_state_dict(given, strict=False)
