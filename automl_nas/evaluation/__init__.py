"""Evaluating candidates: tasks, training, evaluators, cost models.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.evaluation.artifacts import Artifacts as Artifacts
    from automl_nas.evaluation.costs.additivity import corner as corner
    from automl_nas.evaluation.costs.joint_counting import CostSampler as CostSampler
    from automl_nas.evaluation.costs.knapsack import (
        CostInterval as CostInterval,
        Optimum as Optimum,
        best_under_limits as best_under_limits,
    )
    from automl_nas.evaluation.costs.measured import MeasuredCost as MeasuredCost, Measurement as Measurement
    from automl_nas.evaluation.costs.model import CostModel as CostModel
    from automl_nas.evaluation.costs.table import CostTable as CostTable, NotAdditiveError as NotAdditiveError
    from automl_nas.evaluation.costs.tabulated import Extremes as Extremes, TabulatedCost as TabulatedCost
    from automl_nas.evaluation.evaluator import (
        Earlier as Earlier,
        EarlierTrial as EarlierTrial,
        Evaluator as Evaluator,
        Outcome as Outcome,
        Request as Request,
        State as State,
    )
    from automl_nas.evaluation.exporter import (
        Conversion as Conversion,
        ConversionValue as ConversionValue,
        Delivery as Delivery,
        Exporter as Exporter,
    )
    from automl_nas.evaluation.pruner import Judge as Judge, Pruner as Pruner
    from automl_nas.evaluation.rank_correlation import kendall_tau as kendall_tau
    from automl_nas.evaluation.runtime import Runtime as Runtime
    from automl_nas.evaluation.sampling import (
        Indices as Indices,
        below as below,
        permutation as permutation,
        sample_draws as sample_draws,
        sample_generator as sample_generator,
        seeded_batches as seeded_batches,
        uniform as uniform,
    )
    from automl_nas.evaluation.shortened import Shortened as Shortened
    from automl_nas.evaluation.standardization import mean_and_deviation as mean_and_deviation, varies as varies
    from automl_nas.evaluation.statistics import wilson_interval as wilson_interval
    from automl_nas.evaluation.task import (
        SPLITS as SPLITS,
        Batch as Batch,
        Direction as Direction,
        Predictor as Predictor,
        Task as Task,
        TaskReport as TaskReport,
    )
    from automl_nas.evaluation.tasks.dataset_task import DatasetTask as DatasetTask
    from automl_nas.evaluation.tasks.losses import Loss as Loss, make_loss as make_loss
    from automl_nas.evaluation.tasks.metrics import Metric as Metric, make_metrics as make_metrics
    from automl_nas.evaluation.tasks.npz_file import NpzFile as NpzFile
    from automl_nas.evaluation.tasks.outputs import (
        check_class_outputs as check_class_outputs,
        check_same_shape as check_same_shape,
    )
    from automl_nas.evaluation.tasks.split_task import (
        ClassWeights as ClassWeights,
        LossSettings as LossSettings,
        Sampler as Sampler,
        Sizes as Sizes,
        SplitSettings as SplitSettings,
        SplitTask as SplitTask,
    )
    from automl_nas.evaluation.tasks.splits import hold_out as hold_out
    from automl_nas.evaluation.tasks.supervised import SupervisedTask as SupervisedTask
    from automl_nas.evaluation.tasks.tensor_task import TensorTask as TensorTask
    from automl_nas.evaluation.training.autotune import tune as tune
    from automl_nas.evaluation.training.batch_norm import (
        batch_norms as batch_norms,
        full_batches as full_batches,
        recalibrate as recalibrate,
        recalibrate_on as recalibrate_on,
        recalibrating as recalibrating,
        recalibration_inputs as recalibration_inputs,
    )
    from automl_nas.evaluation.training.distillation import Distillation as Distillation
    from automl_nas.evaluation.training.fit import (
        Fit as Fit,
        Progress as Progress,
        learning_rate as learning_rate,
        make_optimizer as make_optimizer,
        report as report,
        score as score,
        score_outputs as score_outputs,
    )
    from automl_nas.evaluation.training.initial_weights import (
        InitialWeights as InitialWeights,
        check_initial_weights as check_initial_weights,
    )
    from automl_nas.evaluation.training.numbered_batches import NumberedBatches as NumberedBatches
    from automl_nas.evaluation.training.recipe import Recipe as Recipe
    from automl_nas.evaluation.training.shortened_training import shortened_training as shortened_training
    from automl_nas.evaluation.training.weight_states import (
        WeightAverage as WeightAverage,
        WeightMean as WeightMean,
    )

_HOMES = {
    "task": (
        "SPLITS",
        "Batch",
        "Direction",
        "Predictor",
        "Task",
        "TaskReport",
    ),
    "tasks.dataset_task": ("DatasetTask",),
    "tasks.tensor_task": ("TensorTask",),
    "tasks.losses": (
        "Loss",
        "make_loss",
    ),
    "tasks.metrics": (
        "Metric",
        "make_metrics",
    ),
    "tasks.npz_file": ("NpzFile",),
    "tasks.outputs": (
        "check_class_outputs",
        "check_same_shape",
    ),
    "tasks.split_task": (
        "ClassWeights",
        "LossSettings",
        "Sampler",
        "Sizes",
        "SplitSettings",
        "SplitTask",
    ),
    "tasks.splits": ("hold_out",),
    "tasks.supervised": ("SupervisedTask",),
    "rank_correlation": ("kendall_tau",),
    "runtime": ("Runtime",),
    "sampling": (
        "Indices",
        "below",
        "permutation",
        "sample_draws",
        "sample_generator",
        "seeded_batches",
        "uniform",
    ),
    "shortened": ("Shortened",),
    "standardization": (
        "mean_and_deviation",
        "varies",
    ),
    "statistics": ("wilson_interval",),
    "evaluator": (
        "Earlier",
        "EarlierTrial",
        "Evaluator",
        "Outcome",
        "Request",
        "State",
    ),
    "pruner": (
        "Judge",
        "Pruner",
    ),
    "artifacts": ("Artifacts",),
    "exporter": (
        "Conversion",
        "ConversionValue",
        "Delivery",
        "Exporter",
    ),
    "training.initial_weights": (
        "InitialWeights",
        "check_initial_weights",
    ),
    "training.distillation": ("Distillation",),
    "training.recipe": ("Recipe",),
    "training.shortened_training": ("shortened_training",),
    "training.weight_states": (
        "WeightAverage",
        "WeightMean",
    ),
    "training.fit": (
        "Fit",
        "Progress",
        "learning_rate",
        "make_optimizer",
        "report",
        "score",
        "score_outputs",
    ),
    "training.numbered_batches": ("NumberedBatches",),
    "training.autotune": ("tune",),
    "training.batch_norm": (
        "batch_norms",
        "full_batches",
        "recalibrate",
        "recalibrate_on",
        "recalibrating",
        "recalibration_inputs",
    ),
    "costs.model": ("CostModel",),
    "costs.measured": (
        "MeasuredCost",
        "Measurement",
    ),
    "costs.additivity": ("corner",),
    "costs.table": (
        "CostTable",
        "NotAdditiveError",
    ),
    "costs.tabulated": (
        "Extremes",
        "TabulatedCost",
    ),
    "costs.joint_counting": ("CostSampler",),
    "costs.knapsack": (
        "Optimum",
        "CostInterval",
        "best_under_limits",
    ),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
