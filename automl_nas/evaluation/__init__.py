"""Evaluating candidates: tasks, training, evaluators, cost models.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.evaluation.artifacts import Artifacts as Artifacts
    from automl_nas.evaluation.costs.additivity import corner as corner
    from automl_nas.evaluation.costs.knapsack import CostInterval as CostInterval
    from automl_nas.evaluation.costs.knapsack import Optimum as Optimum
    from automl_nas.evaluation.costs.knapsack import best_under_limits as best_under_limits
    from automl_nas.evaluation.costs.measured import MeasuredCost as MeasuredCost
    from automl_nas.evaluation.costs.measured import Measurement as Measurement
    from automl_nas.evaluation.costs.model import CostModel as CostModel
    from automl_nas.evaluation.costs.table import CostTable as CostTable
    from automl_nas.evaluation.costs.table import NotAdditiveError as NotAdditiveError
    from automl_nas.evaluation.costs.tabulated import Extremes as Extremes
    from automl_nas.evaluation.costs.tabulated import TabulatedCost as TabulatedCost
    from automl_nas.evaluation.evaluator import (
        Evaluator as Evaluator,
    )
    from automl_nas.evaluation.evaluator import (
        Outcome as Outcome,
    )
    from automl_nas.evaluation.evaluator import (
        Request as Request,
    )
    from automl_nas.evaluation.evaluator import (
        State as State,
    )
    from automl_nas.evaluation.exporter import Delivery as Delivery
    from automl_nas.evaluation.exporter import Exporter as Exporter
    from automl_nas.evaluation.runtime import Runtime as Runtime
    from automl_nas.evaluation.sampling import (
        Indices as Indices,
    )
    from automl_nas.evaluation.sampling import (
        below as below,
    )
    from automl_nas.evaluation.sampling import (
        permutation as permutation,
    )
    from automl_nas.evaluation.sampling import (
        sample_draws as sample_draws,
    )
    from automl_nas.evaluation.sampling import (
        sample_generator as sample_generator,
    )
    from automl_nas.evaluation.sampling import (
        seeded_batches as seeded_batches,
    )
    from automl_nas.evaluation.sampling import (
        uniform as uniform,
    )
    from automl_nas.evaluation.statistics import wilson_interval as wilson_interval
    from automl_nas.evaluation.task import (
        SPLITS as SPLITS,
    )
    from automl_nas.evaluation.task import (
        Batch as Batch,
    )
    from automl_nas.evaluation.task import (
        Direction as Direction,
    )
    from automl_nas.evaluation.task import (
        Predictor as Predictor,
    )
    from automl_nas.evaluation.task import (
        Task as Task,
    )
    from automl_nas.evaluation.training.autotune import tune as tune
    from automl_nas.evaluation.training.batch_norm import (
        batch_norms as batch_norms,
    )
    from automl_nas.evaluation.training.batch_norm import (
        full_batches as full_batches,
    )
    from automl_nas.evaluation.training.batch_norm import (
        recalibrate as recalibrate,
    )
    from automl_nas.evaluation.training.batch_norm import (
        recalibrate_on as recalibrate_on,
    )
    from automl_nas.evaluation.training.batch_norm import (
        recalibration_inputs as recalibration_inputs,
    )
    from automl_nas.evaluation.training.fit import (
        Fit as Fit,
    )
    from automl_nas.evaluation.training.fit import (
        Progress as Progress,
    )
    from automl_nas.evaluation.training.fit import (
        learning_rate as learning_rate,
    )
    from automl_nas.evaluation.training.fit import (
        make_optimizer as make_optimizer,
    )
    from automl_nas.evaluation.training.fit import (
        score as score,
    )
    from automl_nas.evaluation.training.recipe import Recipe as Recipe

_HOMES = {
    "task": (
        "SPLITS",
        "Batch",
        "Direction",
        "Predictor",
        "Task",
    ),
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
    "statistics": ("wilson_interval",),
    "evaluator": (
        "Evaluator",
        "Outcome",
        "Request",
        "State",
    ),
    "artifacts": ("Artifacts",),
    "exporter": (
        "Delivery",
        "Exporter",
    ),
    "training.recipe": ("Recipe",),
    "training.fit": (
        "Fit",
        "Progress",
        "learning_rate",
        "make_optimizer",
        "score",
    ),
    "training.autotune": ("tune",),
    "training.batch_norm": (
        "batch_norms",
        "full_batches",
        "recalibrate",
        "recalibrate_on",
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
    "costs.knapsack": (
        "Optimum",
        "CostInterval",
        "best_under_limits",
    ),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
