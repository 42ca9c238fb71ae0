"""What follows the trainings of the final stage: choose the networks to deliver, test each once, save and export."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from automl_nas.depthwise_gradient import use_torch_gradients
from automl_nas.errors import DamagedError
from automl_nas.onednn_guard import remove_guards
from automl_nas.run.final.candidates import FinalCandidate, compare
from automl_nas.run.final.delivered import DeliveredNetwork
from automl_nas.run.final.delivery import RunExporter
from automl_nas.run.final.dominance import dominating
from automl_nas.run.final.measured_limits import MeasuredLimits
from automl_nas.run.final.report import FinalNetwork, FinalReport, finite
from automl_nas.run.final.training import FinalTraining
from automl_nas.run.record.json_values import to_json_values
from automl_nas.strategy.problem import Problem


@dataclass(frozen=True)
class Entry:
    """One training of the final stage.

    Attributes:
        candidate: to train.
        place: of the candidate in the measured limits; baselines have negative places.
        repetition: which of the repeated trainings of the candidate, from 0.
    """

    candidate: FinalCandidate
    place: int
    repetition: int = 0


class Conclusion:
    """Tests, saves and exports trained networks, one at a time, so that a run can be resumed between them.

    Args:
        training: loads and scores networks.
        problem: its objectives tell which delivered networks others dominate after the training.
        limits: on the costs of the delivered networks.
        exporter: exports the delivered networks.
        entries: the trainings, in the order of ``networks``.
        networks: the records of the trainings; those that are tested get their test metrics.
    """

    def __init__(
        self,
        training: FinalTraining,
        problem: Problem,
        limits: MeasuredLimits,
        exporter: RunExporter,
        entries: Sequence[Entry],
        networks: list[FinalNetwork],
    ) -> None:
        self._training, self._settings, self._problem = training, training.settings, problem
        self._limits, self._exporter = limits, exporter
        self._entries, self._networks = entries, networks
        self._metric = next(iter(training.task.metrics))
        self._several = self._settings.choose == "pareto"
        trained = [position for position, network in enumerate(networks) if network.failed is None]
        self._baselines = [position for position in trained if networks[position].role != "found"]
        self._chosen = self._choose([position for position in trained if networks[position].role == "found"])
        delivered = [networks[position].architecture for position in self._chosen]
        # Of the networks of the search, only repetitions of delivered ones are tested.
        self._tested = [
            position
            for position in trained
            if position in self._baselines or networks[position].architecture in delivered
        ]
        self._deliveries: list[DeliveredNetwork] = []

    def step(self) -> FinalReport | None:
        """Test or deliver one network; return the report after the last one, else None."""
        for position in self._tested:
            if self._networks[position].test is None:
                self._test(position)
                if self._several or position != self._tested[-1]:
                    return None
        self._deliver(self._chosen[len(self._deliveries)])
        return self._report() if len(self._deliveries) == len(self._chosen) else None

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the networks that are delivered so far, as plain data."""
        return [delivered.to_json() for delivered in self._deliveries]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            DamagedError: the networks are not the first ones to deliver.
        """
        deliveries = [DeliveredNetwork.from_json(delivered) for delivered in state]
        positions = [delivered.network for delivered in deliveries]
        if positions != self._chosen[: len(positions)] or len(positions) >= len(self._chosen):
            raise DamagedError(f"the state of the final stage is damaged: it delivered {positions} of {self._chosen}")
        self._deliveries = deliveries

    def _choose(self, positions: Sequence[int]) -> list[int]:
        """Return the positions of the networks to deliver, the main one first.

        The main network is the best one on the search split. Of a Pareto set, the best training of each architecture is
        delivered. A stage that trains on the search split has nothing to compare by: its first network is the main one,
        and the first training of an architecture is delivered, whatever the test metrics, because a choice by the test
        split would bias the test.
        """
        sign = 1 if self._training.task.metrics[self._metric] == "maximize" else -1

        def value(position: int) -> tuple[float, int]:
            scores = self._networks[position].search
            return 0.0 if scores is None else sign * scores.get(self._metric, -sign * math.inf), -position

        main = max(positions, key=value)
        if not self._several:
            return [main]
        places = dict.fromkeys(self._entries[position].place for position in positions)
        best = [max((p for p in positions if self._entries[p].place == place), key=value) for place in places]
        return [main, *(position for position in best if position != main)]

    def _test(self, position: int) -> None:
        report = self._training.report(self._load(position), "test")
        metrics, warnings = finite(report.metrics)
        self._networks[position] = replace(
            self._networks[position],
            test=metrics,
            test_interval={name: ends for name, ends in report.intervals.items() if name in metrics},
            details=report.details,
            warnings=(*report.warnings, *warnings),
        )

    def _deliver(self, position: int) -> None:
        entry, network = self._entries[position], self._load(position)
        self._training.save_delivered(network, entry.candidate, position, main=position == self._chosen[0])
        network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        remove_guards(network)
        use_torch_gradients(network)
        folder = folder_of(position) if self._several else ""
        exports = self._exporter.export(self._networks[position], network, folder)
        self._deliveries.append(
            DeliveredNetwork(
                position,
                files=exports.files,
                not_exported=exports.failures,
                limits=self._limits.check(entry.place, entry.candidate.costs, exports.paths),
                export_notes=exports.notes,
                conversions=exports.conversions,
            )
        )

    def _report(self) -> FinalReport:
        deliveries = self._deliveries
        if self._several:
            worse = dominating(self._problem.objectives, self._networks, self._chosen)
            deliveries = [replace(each, dominated_by=worse.get(each.network)) for each in deliveries]
        main = deliveries[0].network
        return FinalReport(
            metric=self._metric,
            networks=tuple(self._networks),
            comparisons=tuple(
                compare(self._metric, self._networks, main, position)
                for position in self._baselines
                if all(self._metric in (self._networks[place].test or ()) for place in (main, position))
            ),
            settings=to_json_values(asdict(self._settings)),
            deliveries=tuple(deliveries),
        )

    def _load(self, position: int) -> torch.nn.Module:
        entry = self._entries[position]
        return self._training.load(entry.candidate, entry.repetition, position)


def folder_of(position: int) -> str:
    """Return the name of the folder with the files of one of several delivered networks.

    Args:
        position: of the network in `FinalReport.networks`.
    """
    return f"network-{position}"
