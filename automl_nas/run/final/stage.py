"""The strategy of the final stage: train candidates and baselines, choose, test once, save and export."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from automl_nas.errors import DamagedError, DivergedError
from automl_nas.evaluation.training.fit import Fit, Progress
from automl_nas.run.final.candidates import TEACHER, FinalCandidate
from automl_nas.run.final.conclusion import Conclusion, Entry
from automl_nas.run.final.delivery import RunExporter
from automl_nas.run.final.measured_limits import MeasuredLimits
from automl_nas.run.final.report import FinalNetwork, FinalReport, finite
from automl_nas.run.final.training import FinalTraining
from automl_nas.run.record.contents import FINAL_STATE
from automl_nas.run.record.shapes import problem_of
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.problem import Problem


class Final(Strategy):
    """Trains candidates one after the other, then tests and exports. Resumable at every step.

    Args:
        training: builds, trains, stores and scores networks.
        candidates: what may be trained: those of the search, best first, and the baselines. The first candidates of
            the search that meet the limits are trained, as many as the settings say.
        problem: of the search.
        limits: on the costs of the delivered networks.
        exporter: exports the delivered networks.
    """

    def __init__(
        self,
        training: FinalTraining,
        candidates: Sequence[FinalCandidate],
        problem: Problem,
        limits: MeasuredLimits,
        exporter: RunExporter,
    ) -> None:
        self._training, self._settings, self._problem = training, training.settings, problem
        self._limits, self._exporter = limits, exporter
        self._searched = [candidate for candidate in candidates if candidate.role == "found"]
        self._baselines = [candidate for candidate in candidates if candidate.role != "found"]
        self._planned_entries: list[Entry] | None = None
        self._networks: list[FinalNetwork] = []
        self._trained = 0
        self._fit: Fit | None = None
        self._epoch_loss = (0.0, 0)
        self._fit_begun = 0.0
        self._conclusion: Conclusion | None = None
        self._report: FinalReport | None = None
        self._teacher: torch.nn.Module | None = None

    def step(self, services: Services) -> None:
        """Measure candidates, or train a network for some iterations; after the last training, test or export one."""
        if self._limits.pending:
            self._measure(services)
            return
        if len(self._networks) == len(self._entries):
            ranks = self._training.runtime.ranks
            report = ranks.lead(lambda: self._concluded().step())
            if ranks.size > 1:
                written = ranks.agree(None if report is None else report.to_json())
                report = None if written is None else FinalReport.from_json(written)
            self._report = report
            return
        if self._fit is None:
            self._fit_begun = time.monotonic()
        fit = self._fit or self._start()
        iterations = self._settings.iterations_per_step
        if self._settings.validate_every is not None:  # a step then ends with its epoch
            iterations = min(iterations, fit.left_of_epoch)
        try:
            progress = fit.advance(iterations)
        except DivergedError as error:
            self._record_divergence(error)
            return
        self._fit = fit
        self._trained += progress.iterations
        services.log(
            {"network": len(self._networks), "loss": progress.loss, "learning_rate": progress.learning_rate},
            step=self._trained,
        )
        if self._settings.validate_every is not None:
            self._log_epoch(fit, progress, self._settings.validate_every, services)
        services.progress(self._trained, fit.iterations * len(self._entries), "iterations")
        if fit.done or self._ends_early(fit):
            self._store(fit)

    @property
    def done(self) -> bool:
        """Whether the delivered networks are tested and exported."""
        return self._report is not None

    @property
    def report(self) -> FinalReport:
        """The networks, their comparison and the exported files, once the stage is done."""
        assert self._report is not None
        return self._report

    def state_dict(self) -> dict[str, Any]:
        """Return the records of the trained networks and the state of the one in training."""
        # Only where it is needed: checkpoints of stages without curves are as before.
        epoch = {} if self._settings.validate_every is None else {"epoch_loss": list(self._epoch_loss)}
        return {
            **epoch,
            "networks": [network.to_json() for network in self._networks],
            "measured": self._limits.state_dict(),
            "trained": self._trained,
            "fit": self._fit.state_dict() if self._fit else None,
            "report": self._report.to_json() if self._report else None,
            **({"delivered": self._conclusion.state_dict()} if self._conclusion and not self._report else {}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            DamagedError: the state is not one of this stage.
        """
        if problem := problem_of(state, FINAL_STATE):
            raise DamagedError(f"the state of the final stage is damaged: {problem}")
        self._networks = [FinalNetwork.from_json(network) for network in state["networks"]]
        self._trained = state["trained"]
        self._report = FinalReport.from_json(state["report"]) if state["report"] is not None else None
        self._limits.load_state_dict(state["measured"])
        self._fit, self._planned_entries, self._conclusion = None, None, None
        total, count = state.get("epoch_loss", (0.0, 0))
        self._epoch_loss = (total, count)
        if state.get("delivered"):
            self._concluded().load_state_dict(state["delivered"])
        if state["fit"] is not None:
            self._fit = self._start()
            self._fit.load_state_dict(state["fit"])

    def _ends_early(self, fit: Fit) -> bool:
        """Whether the training ends here in a short run."""
        limit = self._training.limit
        if limit is None or fit.iteration < limit.iterations:
            return False
        return self._training.runtime.ranks.agree(time.monotonic() - self._fit_begun >= limit.seconds)

    @property
    def _entries(self) -> list[Entry]:
        """All trainings of the stage. They depend on the measurements, so nothing may be left to measure."""
        if self._planned_entries is None:
            entries = [Entry(self._searched[place], place) for place in self._limits.chosen]
            others = [Entry(candidate, -1 - position) for position, candidate in enumerate(self._baselines)]
            teachers = [entry for entry in others if entry.candidate.role == TEACHER]
            entries += [entry for entry in others if entry.candidate.role != TEACHER]
            self._planned_entries = teachers + [
                replace(entry, repetition=n) for entry in entries for n in range(self._settings.seeds)
            ]
        return self._planned_entries

    def _measure(self, services: Services) -> None:
        places = self._limits.pending
        if not self._limits.measured:
            places += [-1 - position for position in range(len(self._baselines))]
        candidates = [self._searched[place] if place >= 0 else self._baselines[-1 - place] for place in places]
        networks = [self._training.build(candidate, 0).eval() for candidate in candidates]
        ranks = self._training.runtime.ranks
        ranks.lead(lambda: self._measure_networks(places, candidates, networks))
        self._limits.load_state_dict(ranks.agree(self._limits.state_dict()))
        count = sum(place >= 0 for place in self._limits.measured)
        services.log({"measured": float(count)}, step=count)

    def _measure_networks(
        self, places: Sequence[int], candidates: Sequence[FinalCandidate], networks: Sequence[torch.nn.Module]
    ) -> None:
        self._limits.measure(places, networks, candidates[0].space.input_shape)
        self._learn(dict(zip(places, candidates, strict=True)))

    def _learn(self, candidates: Mapping[int, FinalCandidate]) -> None:
        """Give the measurements to the cost models, except for networks of another space than that of the models."""
        for limit in self._limits.limits:
            if limit.model is not None:
                name = limit.constraint.metric
                limit.model.learn(
                    [
                        (candidate.architecture, self._limits.measured[place][name])
                        for place, candidate in candidates.items()
                        if candidate.spec is None
                    ]
                )

    def _log_epoch(self, fit: Fit, progress: Progress, every: int, services: Services) -> None:
        """At the end of an epoch, log its mean training loss and the metrics on the held-out split.

        Args:
            fit: the training, after a step that did not go beyond the end of an epoch.
            progress: of the step.
            every: number of epochs between two lines.
            services: receive the numbers.
        """
        total, count = self._epoch_loss
        total, count = total + progress.loss * progress.iterations, count + progress.iterations
        at_end = fit.epoch * fit.iterations_per_epoch == fit.iteration
        self._epoch_loss = (0.0, 0) if at_end else (total, count)
        if not at_end or (fit.epoch % every and not fit.done):
            return
        values: dict[str, float] = {"network": len(self._networks), "epoch": fit.epoch, "train_loss": total / count}
        if self._settings.split == "train":
            with fit.averaged():
                held_out = self._training.score(fit.network, "search")
            values |= {f"held_out_{name}": value for name, value in held_out.items()}
        services.log(values, step=self._trained)

    def _start(self) -> Fit:
        entry = self._entries[len(self._networks)]
        distill = self._settings.distill
        if distill is None or entry.candidate.role == TEACHER:
            return self._training.start(entry.candidate, entry.repetition)
        if self._teacher is None:
            make = self._training.teacher
            self._teacher = self._load(0) if make is None else self._training.runtime.place(make())
        return self._training.start(entry.candidate, entry.repetition, self._teacher)

    def _new_record(self) -> FinalNetwork:
        """Return the record of the present network before it is scored."""
        entry = self._entries[len(self._networks)]
        candidate = entry.candidate
        return FinalNetwork(
            role=candidate.role,
            trial=candidate.trial,
            seed=entry.repetition,
            architecture=candidate.architecture,
            costs=candidate.costs,
            space=candidate.spec,
            measured=self._limits.measured.get(entry.place, {}),
        )

    def _record_divergence(self, error: DivergedError) -> None:
        """Record the failed training; raise the error if no network of the search is left to deliver."""
        if self._entries[len(self._networks)].candidate.role == TEACHER:
            raise error
        remaining = self._entries[len(self._networks) + 1 :]
        trained = [network for network in self._networks if network.role == "found" and network.failed is None]
        if not trained and not any(entry.candidate.role == "found" for entry in remaining):
            raise error
        self._networks.append(replace(self._new_record(), failed=str(error)))
        self._fit, self._epoch_loss = None, (0.0, 0)

    def _store(self, fit: Fit) -> None:
        record = self._new_record()
        if self._settings.split == "train":
            record = replace(record, search=finite(self._training.score(fit.network, "search"))[0])
        self._training.save(fit.network, len(self._networks))
        self._networks.append(record)
        self._fit = None

    def _load(self, position: int) -> torch.nn.Module:
        entry = self._entries[position]
        return self._training.load(entry.candidate, entry.repetition, position)

    def _concluded(self) -> Conclusion:
        """Return what tests and exports the trained networks."""
        if self._conclusion is None:
            self._conclusion = Conclusion(
                self._training, self._problem, self._limits, self._exporter, self._entries, self._networks
            )
        return self._conclusion
