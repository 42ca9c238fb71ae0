"""What can be searched: decisions, architectures, spaces, supernets, and the modules that make spaces of networks.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.space.architecture import Architecture as Architecture
    from automl_nas.space.architecture import Scalar as Scalar
    from automl_nas.space.architecture import Value as Value
    from automl_nas.space.decision_space import DecisionSpace as DecisionSpace
    from automl_nas.space.decisions import Choice as Choice
    from automl_nas.space.decisions import Decision as Decision
    from automl_nas.space.decisions import Ordinal as Ordinal
    from automl_nas.space.decisions import Subset as Subset
    from automl_nas.space.modules.choice import OneOf as OneOf
    from automl_nas.space.modules.dag.graph import OUTPUT as OUTPUT
    from automl_nas.space.modules.dag.graph import DagGraph as DagGraph
    from automl_nas.space.modules.dag.module import Dag as Dag
    from automl_nas.space.modules.elastic import (
        ElasticBatchNorm2d as ElasticBatchNorm2d,
    )
    from automl_nas.space.modules.elastic import (
        ElasticConv2d as ElasticConv2d,
    )
    from automl_nas.space.modules.elastic import (
        ElasticLinear as ElasticLinear,
    )
    from automl_nas.space.modules.space import ModuleSpace as ModuleSpace
    from automl_nas.space.operators import (
        all_values as all_values,
    )
    from automl_nas.space.operators import (
        crossover as crossover,
    )
    from automl_nas.space.operators import (
        decode as decode,
    )
    from automl_nas.space.operators import (
        encode as encode,
    )
    from automl_nas.space.operators import (
        enumerate_all as enumerate_all,
    )
    from automl_nas.space.operators import (
        mutate as mutate,
    )
    from automl_nas.space.operators import (
        neighbours as neighbours,
    )
    from automl_nas.space.operators import (
        sample as sample,
    )
    from automl_nas.space.selection import Selection as Selection
    from automl_nas.space.selection import Weighted as Weighted
    from automl_nas.space.space import SearchSpace as SearchSpace
    from automl_nas.space.space import SupernetSpace as SupernetSpace
    from automl_nas.space.supernet import Segment as Segment
    from automl_nas.space.supernet import Supernet as Supernet

_HOMES = {
    "architecture": (
        "Architecture",
        "Scalar",
        "Value",
    ),
    "decisions": (
        "Choice",
        "Decision",
        "Ordinal",
        "Subset",
    ),
    "decision_space": ("DecisionSpace",),
    "space": (
        "SearchSpace",
        "SupernetSpace",
    ),
    "supernet": (
        "Segment",
        "Supernet",
    ),
    "selection": (
        "Selection",
        "Weighted",
    ),
    "operators": (
        "all_values",
        "crossover",
        "decode",
        "encode",
        "enumerate_all",
        "mutate",
        "neighbours",
        "sample",
    ),
    "modules.space": ("ModuleSpace",),
    "modules.choice": ("OneOf",),
    "modules.elastic": (
        "ElasticBatchNorm2d",
        "ElasticConv2d",
        "ElasticLinear",
    ),
    "modules.dag.module": ("Dag",),
    "modules.dag.graph": (
        "OUTPUT",
        "DagGraph",
    ),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
