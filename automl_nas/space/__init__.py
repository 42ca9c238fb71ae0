"""What can be searched: decisions, architectures, spaces, supernets, and the modules that make spaces of networks.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.space.architecture import Architecture as Architecture, Scalar as Scalar, Value as Value
    from automl_nas.space.decision_space import DecisionSpace as DecisionSpace
    from automl_nas.space.decisions import Choice as Choice, Decision as Decision, Ordinal as Ordinal, Subset as Subset
    from automl_nas.space.example_inputs import example_input as example_input, run_on_example as run_on_example
    from automl_nas.space.exclusions import Exclusions as Exclusions
    from automl_nas.space.meta_pass import MetaPass as MetaPass, meta_result as meta_result
    from automl_nas.space.modules.choice import (
        ChoiceModule as ChoiceModule,
        ModuleResolver as ModuleResolver,
        OneOf as OneOf,
        ResolvedChoice as ResolvedChoice,
    )
    from automl_nas.space.modules.dag.graph import OUTPUT as OUTPUT, DagGraph as DagGraph
    from automl_nas.space.modules.dag.module import Dag as Dag
    from automl_nas.space.modules.elastic_layers.convolution import ElasticConv2d as ElasticConv2d
    from automl_nas.space.modules.elastic_layers.convolution1d import ElasticConv1d as ElasticConv1d
    from automl_nas.space.modules.elastic_layers.embedding import ElasticEmbedding as ElasticEmbedding
    from automl_nas.space.modules.elastic_layers.layer_norm import ElasticLayerNorm as ElasticLayerNorm
    from automl_nas.space.modules.elastic_layers.linear import ElasticLinear as ElasticLinear
    from automl_nas.space.modules.elastic_layers.normalisation import (
        ElasticBatchNorm1d as ElasticBatchNorm1d,
        ElasticBatchNorm2d as ElasticBatchNorm2d,
    )
    from automl_nas.space.modules.elastic_layers.parameter import ElasticParameter as ElasticParameter
    from automl_nas.space.modules.elastic_layers.squeeze_excitation import (
        ElasticSqueezeExcitation as ElasticSqueezeExcitation,
    )
    from automl_nas.space.modules.repeat import Repeat as Repeat
    from automl_nas.space.modules.replacement import KEEP as KEEP, replace as replace
    from automl_nas.space.modules.running import running_modules as running_modules
    from automl_nas.space.modules.space import ModuleSpace as ModuleSpace
    from automl_nas.space.modules.supernet import ModuleSupernet as ModuleSupernet
    from automl_nas.space.operators import (
        all_values as all_values,
        crossover as crossover,
        decode as decode,
        encode as encode,
        enumerate_all as enumerate_all,
        mutate as mutate,
        neighbours as neighbours,
        sample as sample,
        sample_neighbours as sample_neighbours,
    )
    from automl_nas.space.selection import Selection as Selection, Weighted as Weighted
    from automl_nas.space.space import SearchSpace as SearchSpace, SupernetSpace as SupernetSpace
    from automl_nas.space.supernet import Segment as Segment, Supernet as Supernet

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
    "exclusions": ("Exclusions",),
    "example_inputs": (
        "example_input",
        "run_on_example",
    ),
    "meta_pass": (
        "MetaPass",
        "meta_result",
    ),
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
        "sample_neighbours",
    ),
    "modules.running": ("running_modules",),
    "modules.space": ("ModuleSpace",),
    "modules.supernet": ("ModuleSupernet",),
    "modules.choice": (
        "ChoiceModule",
        "ModuleResolver",
        "OneOf",
        "ResolvedChoice",
    ),
    "modules.elastic_layers.convolution": ("ElasticConv2d",),
    "modules.elastic_layers.convolution1d": ("ElasticConv1d",),
    "modules.elastic_layers.embedding": ("ElasticEmbedding",),
    "modules.elastic_layers.layer_norm": ("ElasticLayerNorm",),
    "modules.elastic_layers.linear": ("ElasticLinear",),
    "modules.elastic_layers.normalisation": (
        "ElasticBatchNorm1d",
        "ElasticBatchNorm2d",
    ),
    "modules.elastic_layers.parameter": ("ElasticParameter",),
    "modules.elastic_layers.squeeze_excitation": ("ElasticSqueezeExcitation",),
    "modules.repeat": ("Repeat",),
    "modules.replacement": (
        "KEEP",
        "replace",
    ),
    "modules.dag.module": ("Dag",),
    "modules.dag.graph": (
        "OUTPUT",
        "DagGraph",
    ),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
