"""Training a supernet one path at a time (SPOS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import (
    Artifacts,
    Distillation,
    Fit,
    InitialWeights,
    Recipe,
    Runtime,
    Shortened,
    Task,
    WeightAverage,
    WeightMean,
    full_batches,
    shortened_training,
)
from automl_nas.space import SearchSpace, SupernetSpace
from automl_nas.strategy import Problem, Services, Strategy
from automl_nas_oneshot.paths import (
    BinnedPaths,
    FairPaths,
    FeasiblePaths,
    Paths,
    SandwichPaths,
    UniformPaths,
    WideningPaths,
)

PathRule: TypeAlias = Literal["uniform", "feasible", "bins", "fair", "sandwich"]
"""How the paths of a training are drawn; see `SinglePath`."""

Teacher: TypeAlias = Literal["largest", "initial"]
"""Whose outputs paths learn; see `SinglePath`."""

TEACHER_WEIGHT, TEMPERATURE = 0.5, 4.0
"""Of the distillation from the initial network: the defaults of ``final.distill``."""


def choose_paths(
    space: SupernetSpace,
    task: Task,
    problem: Problem,
    *,
    seed: int,
    train: Recipe,
    paths: PathRule,
    bins: Mapping[str, list[str]] | None,
    widen_epochs: int,
    sandwich_paths: int,
    distill: bool,
    teacher: Teacher,
    iterations_per_step: int,
    split: Literal["train", "train+search"],
    max_draws: int,
    ema: float | None,
    swa_epochs: int,
    initial_weights: InitialWeights | None,
) -> Paths:
    """Return the sampler of paths after checking the settings and, with ``paths: feasible``, the constraints.

    The initial weights are loaded into a supernet, which is not used.

    Raises:
        ConfigurationError: a setting is outside its range, or does not fit the space or the task, or the initial
            weights do not fit the supernet.
        InfeasibleError: with ``paths: feasible``, too few paths meet the constraints; with ``paths: bins``, a bin has
            no path.
    """
    if iterations_per_step < 1:
        raise ConfigurationError(
            f"iterations_per_step must be at least 1, not {iterations_per_step}", path="iterations_per_step"
        )
    train.refuse("single_path", "accumulate", "patience")
    batches = full_batches(task, split)
    if not 0 <= widen_epochs <= train.epochs:
        raise ConfigurationError(
            f"must be between 0 and train.epochs ({train.epochs}), not {widen_epochs}", path="widen_epochs"
        )
    _check_averages(train, ema, swa_epochs)
    if widen_epochs and paths != "uniform":
        raise ConfigurationError(f"can only be set with paths: uniform, not {paths}", path="widen_epochs")
    if (bins is not None) != (paths == "bins"):
        raise ConfigurationError(
            "paths: bins and the setting bins, such as {flops: [290M..300M, 300M..310M]}, belong together: set both or "
            "neither",
            path="bins",
        )
    if distill:
        _check_distillation(task, paths)
    elif teacher != "largest":
        raise ConfigurationError("only distill: true has a teacher; set both", path="teacher")
    chosen: Paths
    if widen_epochs:
        chosen = WideningPaths(space, seed, widen_epochs * batches)
    elif paths == "feasible":
        chosen = FeasiblePaths(space.decisions, seed, problem, max_draws)
    elif bins is not None:
        chosen = BinnedPaths(seed, problem, bins)
    elif paths == "fair":
        chosen = FairPaths(space, seed)
    elif paths == "sandwich":
        chosen = SandwichPaths(space, seed, sandwich_paths)
    else:
        chosen = UniformPaths(space, seed)
    chosen(0)
    if isinstance(chosen, FeasiblePaths):
        chosen.check(train.epochs * batches)
    if initial_weights is not None:
        initial_weights.load_into(space.build_supernet())
    return chosen


def _check_averages(train: Recipe, ema: float | None, swa_epochs: int) -> None:
    if ema is not None and not 0 < ema < 1:
        raise ConfigurationError(f"must be above 0 and below 1, not {ema}", path="ema")
    if not 0 <= swa_epochs <= train.epochs:
        raise ConfigurationError(
            f"must be between 0 and train.epochs ({train.epochs}), not {swa_epochs}", path="swa_epochs"
        )
    if ema is not None and train.average is not None:
        raise ConfigurationError(
            "train.average replaces the weights by such an average at the end; leave one of the two out", path="ema"
        )


def _check_distillation(task: Task, paths: PathRule) -> None:
    if paths != "sandwich":
        raise ConfigurationError(
            f"the largest path is in each batch only with paths: sandwich, not {paths}", path="distill"
        )
    meaning = task.outputs()
    if meaning is not None and meaning.get("kind") != "classes":
        raise ConfigurationError(
            f"it compares the logits of classes, and outputs of this task are {meaning.get('kind')}; leave it out",
            path="distill",
        )


class SinglePath(Strategy):
    """Train a supernet by single-path sampling and save its weights (Guo et al. 2020, arXiv 1904.00420, section 3).

    Each iteration samples one path for the whole batch. Parameters outside the path get no gradient (None), so neither
    weight decay nor momentum changes them. The path of an iteration is a function of the seed and the iteration: the
    same on every data-parallel process and after a resume. The stage proposes no trials; its last step saves the
    artifact ``weights``.

    Args:
        space: the space whose supernet is trained.
        task: training batches and loss.
        runtime: where the training runs.
        artifacts: the weights are saved in it.
        problem: its constraints on costs are used by ``paths: feasible``, its costs by ``paths: bins``.
        seed: of weights, batches and paths.
        train: the recipe of the training.
        paths: ``uniform`` (the paper); ``feasible``: uniformly among the paths that meet the constraints on costs;
            ``bins``: one of the ``bins`` uniformly, then uniformly among the paths in it (the authors' code);
            ``fair``: each batch goes through m paths, and each of the m options is in one of them (FairNAS), so an
            iteration costs m times as much; ``sandwich``: each batch goes through the largest path, the smallest one
            and ``sandwich_paths`` random ones (slimmable networks, Yu & Huang 2019, arXiv 1903.05134), for spaces with
            `Ordinal` decisions, such as widths.
        bins: for ``paths: bins``, the cost and its intervals, such as ``{flops: [290M..300M, 300M..310M]}``; the cost
            must be additive over the decisions.
        widen_epochs: for ``paths: uniform`` in a space with `Ordinal` decisions, such as widths: the number of epochs
            until all of their options are sampled; the training begins with the largest options.
        sandwich_paths: for ``paths: sandwich``, the number of random paths in each batch.
        distill: for ``paths: sandwich``: whether paths learn the outputs of a teacher.
        teacher: for ``distill``. ``largest``: the largest path of the batch, which learns the targets itself; the
            others learn its outputs only (in-place distillation, section 3.3 of the same paper). ``initial``: the
            largest network with the weights that the training begins with, such as those of a trained model; all paths
            learn the targets and its outputs, as with the defaults of ``final.distill``, and each batch goes through
            it, too.
        iterations_per_step: iterations between two points at which a checkpoint can be written or the run
            interrupted; a step should take well under a minute.
        split: the split to train on.
        max_draws: for ``paths: feasible`` with a cost that is not additive, or with too many distinct costs, the number
            of paths sampled for one iteration before an error is raised.
        ema: decay of an exponential moving average of the weights, updated after each iteration and saved beside them
            as the artifact ``ema``: ``weights: supernet/ema`` scores candidates with it. null: none.
        swa_epochs: number of last epochs whose weights, each at its end, are averaged (stochastic weight averaging,
            Izmailov et al. 2018, arXiv 1803.05407) and saved as the artifact ``swa``; 0: none.
        initial_weights: weights that the supernet begins with instead of fresh ones; null: fresh weights.

    Raises:
        ConfigurationError: a setting is outside its range, or does not fit the space or the task.
        InfeasibleError: with ``paths: feasible``, too few paths meet the constraints; with ``paths: bins``, a bin has
            no path.
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
        train: Recipe = Recipe(),  # noqa: B008 - frozen
        paths: PathRule = "uniform",
        bins: Mapping[str, list[str]] | None = None,
        widen_epochs: int = 0,
        sandwich_paths: int = 2,
        distill: bool = False,
        teacher: Teacher = "largest",
        iterations_per_step: int = 50,
        split: Literal["train", "train+search"] = "train",
        max_draws: int = 1000,
        ema: float | None = None,
        swa_epochs: int = 0,
        initial_weights: InitialWeights | None = None,
    ) -> None:
        self._paths = choose_paths(
            space,
            task,
            problem,
            seed=seed,
            train=train,
            paths=paths,
            bins=bins,
            widen_epochs=widen_epochs,
            sandwich_paths=sandwich_paths,
            distill=distill,
            teacher=teacher,
            iterations_per_step=iterations_per_step,
            split=split,
            max_draws=max_draws,
            ema=ema,
            swa_epochs=swa_epochs,
            initial_weights=None,  # they are loaded into the supernet below
        )
        self._artifacts, self._runtime = artifacts, runtime
        self._iterations_per_step = iterations_per_step
        with runtime.seeded(seed, "init"):
            supernet = space.build_supernet()
        if initial_weights is not None:
            initial_weights.load_into(supernet)
        distillation = None
        if distill and teacher == "initial":
            initial = supernet.extract(self._paths(0))  # a copy, made again when a run is resumed
            distillation = Distillation(runtime.place(initial), TEACHER_WEIGHT, TEMPERATURE)
        self._supernet = runtime.place(supernet)
        self._averages: dict[str, WeightAverage | WeightMean] = {}
        if ema is not None:
            self._averages["ema"] = WeightAverage(ema)
        if swa_epochs:
            batches = full_batches(task, split)
            self._averages["swa"] = WeightMean((train.epochs - swa_epochs) * batches, batches)
        self._fit = Fit(
            self._supernet,
            task,
            runtime,
            train,
            seed=seed,
            split=split,
            forward=self._forward,
            passes=self._paths.passes,
            distillation=distillation,
            in_place=distill and distillation is None,
            averages=self._averages,
        )

    @classmethod
    def artifact_names(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Return ``weights``, and ``ema`` and ``swa`` if they are kept; see `Strategy.artifact_names`."""
        names = ["weights"]
        if settings["ema"] is not None:
            names.append("ema")
        if settings["swa_epochs"]:
            names.append("swa")
        return frozenset(names)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks the settings of the paths and the initial weights."""
        return choose_paths

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened:
        """Return settings with fewer epochs; see `Strategy.shortened`."""
        return shortened_training(settings, share, epochs=["widen_epochs", "swa_epochs"])

    def step(self, services: Services) -> None:
        """Train for a fixed number of iterations; the last step saves the weights."""
        fit = self._fit
        progress = fit.advance(self._iterations_per_step)
        services.log({"loss": progress.loss, "learning_rate": progress.learning_rate}, step=fit.iteration)
        services.progress(fit.iteration, fit.iterations, "iterations")
        if fit.done:
            for name, average in self._averages.items():
                self._artifacts.save(average.tensors(), name=name)
            self._artifacts.save(self._supernet.state_dict())

    @property
    def done(self) -> bool:
        """Whether all iterations are done and the weights saved."""
        return self._fit.done

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training; paths have no state, since each is a function of its number."""
        return {"fit": self._fit.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of the training; the continuation is bit-equal."""
        self._fit.load_state_dict(state["fit"])

    def _forward(self, network: nn.Module, inputs: Tensor, count: int) -> Tensor:
        outputs: Tensor = network(inputs, self._paths(count))
        return outputs
