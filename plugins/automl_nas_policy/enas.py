"""ENAS: a controller and shared weights trained in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import (
    Artifacts,
    Fit,
    Recipe,
    Runtime,
    Shortened,
    Task,
    full_batches,
    recalibrate,
    score,
    shortened_training,
)
from automl_nas.space import Architecture, SearchSpace, SupernetSpace
from automl_nas.strategy import Problem, Proposal, Services, Strategy
from automl_nas.streams import stream, stream_seed
from automl_nas_policy.actions import ActionSequence
from automl_nas_policy.batch_reward import BatchReward, Reward, Statistics
from automl_nas_policy.learner import LearnerSettings, PolicyLearner
from automl_nas_policy.limits import LimitedDraws
from automl_nas_policy.policies import PolicySettings, make_policy

_MEASURE_SEED = 0  # of recalibration: all candidates see the same images


@dataclass(frozen=True)
class ElementPenalty:
    """A price of the elements of `Subset` decisions, such as skip connections (ENAS, section 3.1).

    Attributes:
        weight: of the mean Kullback-Leibler divergence between the probabilities of the elements and the target.
        target: the share of elements that is free.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    weight: float = 0.0
    target: float = 0.4

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ConfigurationError(f"must be at least 0, not {self.weight}", path="weight")
        if not 0 < self.target < 1:
            raise ConfigurationError(f"must be between 0 and 1, not {self.target}", path="target")


def check_enas(
    space: SupernetSpace,
    task: Task,
    problem: Problem,
    *,
    seed: int,
    train: Recipe,
    policy: PolicySettings,
    controller_steps: int,
    samples: int,
    reward: Reward,
    candidates: int,
    final_candidates: int,
    recalibration_images: int,
    iterations_per_step: int,
    attempts: int,
) -> None:
    """Check the settings of `Enas`.

    Raises:
        ConfigurationError: a setting is outside its range, or does not fit the task.
        InfeasibleError: no architecture that meets the limits has been found.
    """
    for name, value, least in (
        ("controller_steps", controller_steps, 1),
        ("samples", samples, 1),
        ("candidates", candidates, 0),
        ("final_candidates", final_candidates, 1),
        ("recalibration_images", recalibration_images, 0),
        ("iterations_per_step", iterations_per_step, 1),
    ):
        if value < least:
            raise ConfigurationError(f"{name} must be at least {least}, not {value}", path=name)
    train.refuse("enas", "accumulate", "patience")
    full_batches(task, "train")
    full_batches(task, "search")
    meaning = task.outputs()
    if reward == "accuracy" and meaning is not None and meaning.get("kind") != "classes":
        raise ConfigurationError(
            f"outputs of this task are {meaning.get('kind')}, which have no accuracy; set reward: loss", path="reward"
        )
    sequence = ActionSequence(space.decisions)
    draws = LimitedDraws(space, problem, sequence, make_policy(sequence, policy, seed), attempts)
    draws.draw(stream(seed, "check"))


@final
class Enas(Strategy):
    """Efficient neural architecture search via parameter sharing (Pham et al. 2018, arXiv 1802.03268).

    Each epoch has two phases. First the shared weights of a supernet are trained on the split ``train`` for one epoch;
    each iteration trains one architecture drawn by the controller, an LSTM. Then the controller makes
    ``controller_steps`` steps of REINFORCE; the reward of an architecture is its accuracy with the shared weights on
    one batch of the split ``search``. After each epoch the controller draws ``candidates`` architectures, which are
    measured on the whole split ``search`` and recorded as trials with the epoch as their fidelity; after the last epoch
    ``final_candidates``, the best of which is the result. The weights are saved as the artifact ``weights``.

    Every architecture that is drawn meets the limits on costs.

    Args:
        space: the space whose supernet is trained.
        task: images, loss and score.
        runtime: where the training runs; the controller is on the CPU.
        artifacts: the weights are saved in it.
        problem: objective and limits.
        seed: of weights, batches, controller and draws.
        train: the recipe of the shared weights (defaults: those for NAS-Bench-201 without its cosine restarts).
        policy: the controller.
        learner: how the controller is trained.
        controller_steps: steps of the controller in each epoch.
        samples: architectures whose gradients are averaged in a step of the controller.
        reward: ``accuracy`` on a batch, or ``loss``, whose negative is the reward.
        statistics: ``batch``: rewards are computed with the batch's own statistics in batch normalisation; ``running``:
            with the supernet's running statistics, which are averages over many architectures.
        element_penalty: a price of skip connections.
        candidates: architectures measured after each epoch but the last.
        final_candidates: architectures measured after the last epoch.
        recalibration_images: training images from which the statistics of batch normalisation of a measured
            architecture are computed, in whole batches; 0: the running statistics of the supernet.
        iterations_per_step: iterations between two points at which a checkpoint can be written or the run
            interrupted; a step should take well under a minute.
        attempts: draws for one architecture that meets the limits.

    Raises:
        ConfigurationError: a setting is outside its range, or does not fit the task.
        InfeasibleError: no architecture that meets the limits has been found.
        DivergedError: a loss, or the controller, became NaN or infinite.
    """

    space_type: ClassVar[type[SearchSpace]] = SupernetSpace  # type: ignore[type-abstract]

    def __init__(
        self,
        space: SupernetSpace,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        problem: Problem,
        *,
        seed: int,
        train: Recipe = Recipe(  # noqa: B008 - frozen
            epochs=250,
            learning_rate=0.05,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            schedule="cosine",
            clip_norm=5.0,
        ),
        policy: PolicySettings = PolicySettings(temperature=5.0, tanh_constant=2.5),  # noqa: B008 - frozen
        learner: LearnerSettings = LearnerSettings(  # noqa: B008 - frozen
            learning_rate=1e-3, entropy=1e-4, baseline_decay=0.99
        ),
        controller_steps: int = 50,
        samples: int = 20,
        reward: Reward = "accuracy",
        statistics: Statistics = "batch",
        element_penalty: ElementPenalty = ElementPenalty(),
        candidates: int = 10,
        final_candidates: int = 100,
        recalibration_images: int = 1024,
        iterations_per_step: int = 20,
        attempts: int = 1000,
    ) -> None:
        check_enas(
            space,
            task,
            problem,
            seed=seed,
            train=train,
            policy=policy,
            controller_steps=controller_steps,
            samples=samples,
            reward=reward,
            candidates=candidates,
            final_candidates=final_candidates,
            recalibration_images=recalibration_images,
            iterations_per_step=iterations_per_step,
            attempts=attempts,
        )
        self._task, self._runtime, self._artifacts, self._seed = task, runtime, artifacts, seed
        self._space, self._epochs = space, train.epochs
        self._controller_steps, self._samples = controller_steps, samples
        self._candidates, self._final_candidates = candidates, final_candidates
        self._images, self._iterations_per_step = recalibration_images, iterations_per_step
        self._sequence = ActionSequence(space.decisions)
        controller = make_policy(self._sequence, policy, stream_seed(seed, "controller"))
        self._draws = LimitedDraws(space, problem, self._sequence, controller, attempts)
        self._learner = PolicyLearner(
            controller, learner, element_weight=element_penalty.weight, element_target=element_penalty.target
        )
        with runtime.seeded(seed, "init"):
            self._supernet = runtime.place(space.build_supernet())
        self._reward = BatchReward(self._supernet, task, runtime, seed=seed, reward=reward, statistics=statistics)
        self._fit = Fit(self._supernet, task, runtime, train, seed=seed, forward=self._forward)
        self._steps = 0  # of the controller, in all epochs
        self._measured = 0  # candidates of this epoch
        self._epoch = 0  # the epoch whose phases are not finished

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks all settings."""
        return check_enas

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened:
        """Return settings with fewer epochs; see `Strategy.shortened`."""
        return shortened_training(settings, share)

    @property
    def planned(self) -> int:
        """The candidates that are measured."""
        return (self._epochs - 1) * self._candidates + self._final_candidates

    @property
    def done(self) -> bool:
        """Whether the candidates of the last epoch have been measured."""
        return self._epoch == self._epochs

    def step(self, services: Services) -> None:
        """Train the weights for some iterations, or the controller for some steps, or measure one candidate."""
        if not self._fit.done and self._fit.epoch == self._epoch:
            self._train_weights(services)
        elif self._steps < (self._epoch + 1) * self._controller_steps:
            self._train_controller(services)
        else:
            self._measure(services)
        # A training iteration is a forward and a backward pass, which takes about twice as long as a forward pass.
        passes = 3 * self._fit.iteration + self._steps * self._samples
        total = 3 * self._fit.iterations + self._epochs * self._controller_steps * self._samples
        services.progress(passes, total, "forward passes")

    def _train_weights(self, services: Services) -> None:
        progress = self._fit.advance(min(self._iterations_per_step, self._fit.left_of_epoch))
        services.log({"loss": progress.loss, "learning_rate": progress.learning_rate}, step=self._fit.iteration)

    def _forward(self, network: nn.Module, inputs: Tensor, count: int) -> Tensor:
        outputs: Tensor = network(inputs, self._draw("path", count))
        return outputs

    def _draw(self, purpose: str, count: int) -> Architecture:
        architecture, _ = self._draws.draw(stream(self._seed, purpose, count))
        assert architecture is not None  # nothing is taken, so that one is left
        return architecture

    def _train_controller(self, services: Services) -> None:
        """Make steps whose forward passes take about as long as a step of the weights."""
        left = (self._epoch + 1) * self._controller_steps - self._steps
        for _ in range(min(left, max(1, 3 * self._iterations_per_step // self._samples))):
            drawn = [
                self._draws.draw(stream(self._seed, "sample", self._steps * self._samples + number))
                for number in range(self._samples)
            ]
            # The controller does not learn from random architectures, which replace draws outside the limits.
            own = [architecture for architecture, by_policy in drawn if architecture is not None and by_policy]
            if own:
                rewards = self._reward(own, self._steps)
                self._learner.update([self._sequence.encode(architecture) for architecture in own], rewards)
                values = {"reward": sum(rewards) / len(rewards), "entropy": self._learner.entropy}
                services.log(values, step=self._fit.iteration)
            self._steps += 1

    def _measure(self, services: Services) -> None:
        last = self._epoch == self._epochs - 1
        count = self._final_candidates if last else self._candidates
        if self._measured < count and services.remaining != 0:
            architecture = self._draw(f"candidate/{self._epoch}", self._measured)
            services.record(Proposal(architecture, fidelity=float(self._epoch + 1)), self._score(architecture))
            self._measured += 1
        if self._measured >= count or services.remaining == 0:
            if last:
                self._artifacts.save(self._supernet.state_dict())
            self._measured = 0
            self._epoch += 1

    def _score(self, architecture: Architecture) -> Mapping[str, float]:
        with self._runtime.seeded(_MEASURE_SEED, "measure"):
            network = self._supernet.extract(architecture)
            recalibrate(network, self._task, self._runtime, images=self._images, seed=_MEASURE_SEED)
            return score(network, self._task, self._runtime, "search")

    def state_dict(self) -> dict[str, Any]:
        """Return the state of weights, controller and counters, without copying tensors."""
        return {
            "fit": self._fit.state_dict(),
            "learner": self._learner.state_dict(),
            "steps": self._steps,
            "measured": self._measured,
            "epoch": self._epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the continuation is bit-equal."""
        self._fit.load_state_dict(state["fit"])
        self._learner.load_state_dict(state["learner"])
        self._reward.rewind()
        self._steps, self._measured, self._epoch = state["steps"], state["measured"], state["epoch"]
