"""Scores of candidates from the effects of their single decisions, measured with the weights of a supernet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation import Artifacts, Evaluator, Outcome, Request, Runtime, Shortened, State, Task
from automl_nas.space import Architecture, Choice, Decision, SearchSpace, SupernetSpace
from automl_nas.streams import stream
from automl_nas_oneshot.supernet_weights import SupernetWeights, check_settings

_LOG = logging.getLogger(__name__)
_SEED = 0
"""One seed for all runs: scores depend on weights, architecture and settings only."""
_PENALTY = 1.0
_DRAWS = 20
"""Draws for each network of the sample after which it stays smaller: the space has few networks."""
_WELL_EXPLAINED = 0.5

Values: TypeAlias = NDArray[np.float64]


@final
@dataclass(frozen=True)
class AdditiveModel:
    """Ridge regression of a value on the options of the decisions: a constant, and an effect for each option.

    The penalty is 1 and leaves the constant out, as that of scikit-learn's ``Ridge``.

    Attributes:
        constant: the value of a network whose effects are 0.
        effects: the effect of each feature, see `features`.
        explained: the share of the variance of the value that is explained, each network predicted by the model of the
            others; NaN if the value is constant.
    """

    constant: float
    effects: Values
    explained: float

    @classmethod
    def fit(cls, inputs: Values, values: Values) -> AdditiveModel:
        """Return the model of these networks.

        Args:
            inputs: features, shape ``(networks, features)``.
            values: shape ``(networks,)``.
        """
        mean, centre = values.mean(), inputs.mean(axis=0)
        centred = inputs - centre
        solved = np.linalg.solve(centred.T @ centred + _PENALTY * np.eye(centred.shape[1]), centred.T)
        effects: Values = solved @ (values - mean)
        residuals = values - mean - centred @ effects
        # The residual of a network in the model of the others, in closed form.
        leverage = 1 / len(values) + np.einsum("nf,fn->n", centred, solved)
        left_out = residuals / np.maximum(1 - leverage, 1e-9)
        variance = float(((values - mean) ** 2).sum())
        explained = 1 - float((left_out**2).sum()) / variance if variance > 0 else float("nan")
        return cls(float(mean - centre @ effects), effects, explained)

    def predict(self, inputs: Values) -> Values:
        """Return the predicted values of networks, shape ``(networks,)``."""
        predicted: Values = self.constant + inputs @ self.effects
        return predicted


def features(architectures: Sequence[Architecture], decisions: Mapping[str, Decision]) -> Values:
    """Return a column of zeros and ones for each option of each decision, shape ``(networks, options)``."""
    columns: list[Values] = []
    for name, decision in decisions.items():
        codes = np.array([decision.encode(architecture[name]) for architecture in architectures])
        columns.append(codes == np.arange(len(decision.options)) if isinstance(decision, Choice) else codes)
    return np.concatenate(columns, axis=1).astype(np.float64)


def random_networks(space: SearchSpace, count: int) -> list[Architecture]:
    """Return different random networks, uniformly drawn and sorted by their decisions; fewer if the space has fewer.

    Neighbours in this order have equal first decisions, so that their evaluations share work.
    """
    drawn: dict[Architecture, None] = {}
    for draw in range(count * _DRAWS):
        if len(drawn) == min(count, space.size):
            break
        drawn.setdefault(space.sample(stream(_SEED, "effects", draw)))
    decisions = space.decisions
    return sorted(drawn, key=lambda each: [decision.encode(each[name]) for name, decision in decisions.items()])


def check_effects(
    space: SupernetSpace,
    task: Task,
    runtime: Runtime,
    *,
    networks: int,
    own_weight: float,
    recalibration_images: int,
    cache_megabytes: float,
    together: int,
    share_megabytes: float | None,
) -> None:
    """Check the numbers.

    Raises:
        ConfigurationError: a setting is outside its range.
    """
    if networks < 2:
        raise ConfigurationError(f"must be at least 2, not {networks}", path="networks")
    if not 0 <= own_weight < 1:
        raise ConfigurationError(
            f"must be at least 0 and below 1, not {own_weight}; the evaluator supernet_weights gives candidates their "
            "own scores alone",
            path="own_weight",
        )
    check_settings(
        space,
        task,
        runtime,
        recalibration_images=recalibration_images,
        cache_megabytes=cache_megabytes,
        together=together,
        share_megabytes=share_megabytes,
        finetune_steps=0,
        finetune_rate=0.01,
        fidelity="recalibration_images",
    )


@final
class SupernetEffects(Evaluator):
    """Predict the scores of candidates from the effects of their single decisions.

    Before the first candidate, random networks are scored with the weights of a supernet, as `supernet_weights` does,
    and each metric gets an additive model: a constant and an effect for each option of each decision (ridge regression,
    penalty 1). The metrics of a candidate are the predictions. A supernet that was trained for a short time shows the
    effect of a block well, but not how several good blocks add up; on NAS-Bench-Macro the predictions order networks
    far better than the scores they are made from (docs/results/supernets.md). Where decisions depend on each other they
    cannot: the share of the variance of the scores that they explain is recorded with each trial, and a warning says if
    it is below a half.

    With ``own_weight`` above 0 each candidate is scored as well, and its metrics are a weighted mean of its own scores
    and of the predictions. What its own scores say about the combination of its decisions then counts in part. On
    NAS-Bench-Macro with blocks that share weights, equal weights order networks better than either of the two does.

    Metrics are a function of (weights, architecture, settings). Once the model is fitted, a candidate without an own
    score takes microseconds, so a search may evaluate all networks of a small space. The networks are scored again by
    each worker process, each stage, and after a restart.

    Args:
        space: the space whose supernet the weights belong to.
        task: training images and the score.
        runtime: where the evaluation runs.
        artifacts: the weights are loaded from it.
        weights: the artifact, as for `supernet_weights`.
        networks: the number of random networks, drawn from the whole space, whatever the constraints; about ten for
            each option of each decision are enough.
        own_weight: the weight of the scores of the candidate itself, at least 0 and below 1; 0: the predictions alone.
        recalibration_images: training images for the statistics of batch normalisation; see `supernet_weights`.
        split: the split on which networks are scored; held out of training.
        cache_megabytes: see `supernet_weights`.
        together: the largest number of networks that are evaluated together.
        share_megabytes: see `supernet_weights`.

    Raises:
        ConfigurationError: the weights do not exist or do not fit the space's supernet, or a setting is outside its
            range.
    """

    stochastic = False
    default_metric = "loss"

    def __init__(
        self,
        space: SupernetSpace,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        *,
        weights: str | None = "supernet",
        networks: int = 500,
        own_weight: float = 0.0,
        recalibration_images: int = 1024,
        split: Literal["search", "train"] = "search",
        cache_megabytes: float = 512.0,
        together: int = 50,
        share_megabytes: float | None = None,
    ) -> None:
        check_effects(
            space,
            task,
            runtime,
            networks=networks,
            own_weight=own_weight,
            recalibration_images=recalibration_images,
            cache_megabytes=cache_megabytes,
            together=together,
            share_megabytes=share_megabytes,
        )
        self._space, self._networks, self._own_weight = space, networks, own_weight
        self._scores = SupernetWeights(
            space,
            task,
            runtime,
            artifacts,
            weights=weights,
            recalibration_images=recalibration_images,
            split=split,
            cache_megabytes=cache_megabytes,
            together=together,
            share_megabytes=share_megabytes,
        )
        self._models: dict[str, AdditiveModel] = {}
        self._scored = 0
        self.taken_ahead = self._scores.taken_ahead if own_weight else 1

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks the numbers; the stage of the weights may not have started yet."""
        return check_effects

    @classmethod
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Refuse every fidelity; see `Evaluator.check_fidelity`."""
        raise ConfigurationError("the evaluator 'supernet_effects' has no fidelities: its scores do not depend on one")

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened:
        """Return settings with fewer networks; see `Evaluator.shortened`."""
        networks = max(2, int(settings["networks"] * share))
        return Shortened(min(1.0, networks / settings["networks"]), {"networks": networks})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes; the first one takes as long as the evaluation of all random networks.

        The order is that of the requests without own scores, and that of `SupernetWeights.evaluate` with them.

        Raises:
            EvaluationError: fewer than two of the random networks have finite metrics.
        """
        if not self._own_weight:
            for request in requests:
                begun = time.perf_counter()
                predicted = self._predict(request.architecture)
                seconds = time.perf_counter() - begun
                yield Outcome(request.number, predicted, seconds=seconds, info=self._info())
            return
        # The random networks are scored before the candidates: both use the same evaluator, which takes groups.
        self._fit()
        taken: dict[int, Architecture] = {}

        def noted() -> Iterator[Request]:
            for request in requests:
                taken[request.number] = request.architecture
                yield request

        for outcome in self._scores.evaluate(noted()):
            architecture = taken.pop(outcome.number)
            if outcome.state is not State.COMPLETE:
                yield outcome
                continue
            own, predicted = self._own_weight, self._predict(architecture)
            mixed = {name: own * value + (1 - own) * predicted[name] for name, value in outcome.metrics.items()}
            info = {**outcome.info, **self._info(), "own": dict(outcome.metrics)}
            yield replace(outcome, metrics=mixed, info=info)

    def _predict(self, architecture: Architecture) -> dict[str, float]:
        """Return the prediction of each metric."""
        self._fit()
        inputs = features([architecture], self._space.decisions)
        return {name: float(model.predict(inputs)[0]) for name, model in self._models.items()}

    def _info(self) -> dict[str, object]:
        explained = {name: round(model.explained, 4) for name, model in self._models.items()}
        return {
            "networks": self._scored,
            "explained": {name: share for name, share in explained.items() if not np.isnan(share)},
        }

    def _fit(self) -> None:
        """Score the random networks and fit the models, once."""
        if self._models:
            return
        architectures = random_networks(self._space, self._networks)
        requests = [Request(number, each, seed=_SEED) for number, each in enumerate(architectures)]
        outcomes = [each for each in self._scores.evaluate(requests) if each.state is State.COMPLETE]
        if len(outcomes) < 2:
            raise EvaluationError(
                f"{len(outcomes)} of {len(requests)} random networks have finite metrics with the weights of the "
                "supernet; train it with a lower learning rate"
            )
        inputs = features([architectures[outcome.number] for outcome in outcomes], self._space.decisions)
        for name in outcomes[0].metrics:
            values = np.array([outcome.metrics[name] for outcome in outcomes])
            self._models[name] = AdditiveModel.fit(inputs, values)
        self._scored = len(outcomes)
        explained = {name: model.explained for name, model in self._models.items()}
        least = explained.get(self.default_metric, next(iter(explained.values())))
        if least < _WELL_EXPLAINED:
            _LOG.warning(
                "the effects of single decisions explain %.0f %% of the variance of the scores of %d random networks; "
                "raise networks, or use the evaluator supernet_weights, which scores candidates themselves",
                100 * max(least, 0.0),
                self._scored,
            )
