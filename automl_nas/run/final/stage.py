"""The last stage: retrain what was found beside its baselines, choose, test once, save and export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from automl_nas.errors import DivergedError, RunFailedError
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.exporter import Delivery
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task
from automl_nas.evaluation.training.fit import Fit, score
from automl_nas.onednn_guard import remove_guards
from automl_nas.run.configuration.final_section import FinalSettings
from automl_nas.run.final.candidates import FinalCandidate, compare, take_weights
from automl_nas.run.final.measured_limits import MeasuredLimits
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.base import Services, Strategy
from automl_nas.streams import stream_seed


@dataclass(frozen=True)
class _Entry:
    """One training: a candidate, its place in the budget (baselines have negative ones), and which repetition."""

    candidate: FinalCandidate
    place: int
    number: int = 0


class Final(Strategy):
    """Retrains candidates one after the other, then tests and delivers. Resumable at every step.

    Args:
        task: what they are trained and tested on.
        runtime: where.
        artifacts: where weights are saved.
        settings: what to do.
        candidates: what may be retrained: those that were found, the best first, of which the first ``top_k`` that keep
            the budget are taken, and the baselines.
        budget: the limits on costs.
        folder: of the run, in which exported files lie.
        seed: of this stage.
        inherit: architecture -> a network with the supernet's weights, for ``weights: inherited``.
        deliver: exports a delivery and returns what the report says of it: the names of the files, what failed.
        describe: candidate and what was measured -> the description that goes with an export.
    """

    def __init__(
        self,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        *,
        settings: FinalSettings,
        candidates: Sequence[FinalCandidate],
        budget: MeasuredLimits,
        folder: Path,
        seed: int,
        inherit: Callable[[Architecture], nn.Module] | None,
        deliver: Callable[[Delivery], Mapping[str, Any]],
        describe: Callable[[FinalCandidate, Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        self._task, self._runtime, self._artifacts = task, runtime, artifacts
        self._settings, self._seed, self._inherit, self._deliver = settings, seed, inherit, deliver
        self._describe, self._budget, self._folder = describe, budget, folder
        self._found = [candidate for candidate in candidates if candidate.role == "found"]
        self._baselines = [candidate for candidate in candidates if candidate.role != "found"]
        self._settled: list[_Entry] | None = None
        self._networks: list[dict[str, Any]] = []
        self._trained = 0
        self._fit: Fit | None = None
        self._report: dict[str, Any] | None = None
        self._metric = next(iter(task.metrics))

    def step(self, services: Services) -> None:
        """Measure what has to be measured; then train a network for a while; when all are trained, test and deliver."""
        if self._budget.pending:
            self._measure(services)
            return
        if len(self._networks) == len(self._entries):
            self._finish()
            return
        fit = self._fit or self._start()
        try:
            progress = fit.advance(self._settings.iterations_per_step)
        except DivergedError as error:
            self._give_up(error)
            return
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
            "measured": self._budget.state_dict(),
            "trained": self._trained,
            "fit": self._fit.state_dict() if self._fit else None,
            "report": self._report,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._networks, self._trained, self._report = list(state["networks"]), state["trained"], state["report"]
        self._budget.load_state_dict(state["measured"])
        self._fit, self._settled = None, None
        if state["fit"] is not None:
            self._fit = self._start()
            self._fit.load_state_dict(state["fit"])

    @property
    def _entries(self) -> list[_Entry]:
        """What is trained: known when everything is measured."""
        if self._settled is None:
            chosen = [_Entry(self._found[place], place) for place in self._budget.chosen]
            chosen += [_Entry(candidate, -1 - place) for place, candidate in enumerate(self._baselines)]
            self._settled = [replace(entry, number=n) for entry in chosen for n in range(self._settings.seeds)]
        return self._settled

    def _measure(self, services: Services) -> None:
        places = self._budget.pending
        if not self._budget.measured:
            places += [-1 - place for place in range(len(self._baselines))]
        candidates = [self._found[place] if place >= 0 else self._baselines[-1 - place] for place in places]
        networks = []
        for candidate in candidates:
            with self._runtime.seeded(self._seed, "build", 0):
                networks.append(candidate.space.build(candidate.architecture).eval())
        self._budget.measure(places, networks, candidates[0].space.input_shape)
        self._learn(dict(zip(places, candidates, strict=True)))
        count = sum(place >= 0 for place in self._budget.measured)
        services.log({"measured": float(count)}, step=count)

    def _learn(self, candidates: Mapping[int, FinalCandidate]) -> None:
        """Tell the cost models what was measured; networks of a space of their own are none of the models' space."""
        for limit in self._budget.limits:
            if limit.model is not None:
                name = limit.constraint.metric
                limit.model.learn(
                    [
                        (candidate.architecture, self._budget.measured[place][name])
                        for place, candidate in candidates.items()
                        if candidate.spec is None
                    ]
                )

    def _build(self, entry: int) -> nn.Module:
        candidate, number = self._entries[entry].candidate, self._entries[entry].number
        # By repetition, not by entry: networks that are compared start from the same stream.
        with self._runtime.seeded(self._seed, "build", number):
            network = candidate.space.build(candidate.architecture)
        return network

    def _start(self) -> Fit:
        entry = len(self._networks)
        candidate, number = self._entries[entry].candidate, self._entries[entry].number
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

    def _record(self) -> dict[str, Any]:
        """Return what is known of the present network before it is trained."""
        entry = self._entries[len(self._networks)]
        candidate = entry.candidate
        record: dict[str, Any] = {
            "role": candidate.role,
            "trial": candidate.trial,
            "seed": entry.number,
            "architecture": candidate.architecture.to_dict(),
            "costs": dict(candidate.costs),
        }
        if candidate.spec is not None:
            record["space"] = dict(candidate.spec)
        if known := self._budget.measured.get(entry.place):
            record["measured"] = {name: asdict(found) for name, found in known.items()}
        return record

    def _give_up(self, error: DivergedError) -> None:
        """Leave a training that diverged out of the comparison; there must be another one to deliver."""
        left = self._entries[len(self._networks) + 1 :]
        done = [network for network in self._networks if network["role"] == "found" and "failed" not in network]
        if not done and not any(entry.candidate.role == "found" for entry in left):
            raise error
        self._networks.append({**self._record(), "failed": str(error)})
        self._fit = None

    def _keep(self, fit: Fit) -> None:
        entry = len(self._networks)
        record = self._record()
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
        trained = [number for number, network in enumerate(self._networks) if "failed" not in network]
        found = [number for number in trained if self._entries[number].candidate.role == "found"]
        # Without a held-out split there is one candidate: its first repetition is delivered, whatever the test says.
        chosen = (
            max(found, key=lambda e: (sign * self._networks[e]["search"][self._metric], -e))
            if "search" in self._networks[found[0]]
            else found[0]
        )
        delivered = self._entries[chosen].candidate
        tested = [
            number
            for number in trained
            if (candidate := self._entries[number].candidate).role != "found"
            or candidate.architecture == delivered.architecture
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
        others = [entry for entry in tested if self._entries[entry].candidate.role != "found"]
        report = {
            "metric": self._metric,
            "chosen": chosen,
            "networks": self._networks,
            "comparison": [compare(self._metric, self._networks, chosen, entry) for entry in others],
            "settings": asdict(self._settings),
        }
        network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        remove_guards(network)
        description = self._describe(delivered, {key: record[key] for key in ("costs", "test", "test_interval")})
        delivery = Delivery(network.eval(), delivered.architecture, delivered.space.input_shape, description)
        exported = self._deliver(delivery)
        budget = self._budget.report(self._entries[chosen].place, delivered.costs, self._folder, exported["files"])
        self._report = {**report, **exported, "budget": budget}

    def _verify(self, chosen: int, network: nn.Module) -> None:
        candidate = self._entries[chosen].candidate
        copy = candidate.space.build(candidate.architecture)
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
