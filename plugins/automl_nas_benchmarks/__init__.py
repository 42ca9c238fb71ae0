"""Tabular NAS benchmarks, the comparison of strategies on them, and how well a supernet ranks."""

from __future__ import annotations

from typing import Any

from automl_nas.plugin.markers import hookimpl


@hookimpl
def register_spaces(register: Any) -> None:
    """Register the benchmarks' spaces, with their real networks."""
    register(
        "nasbench201",
        "automl_nas_benchmarks.nasbench201:NASBench201",
        summary="a cell of six edges with five operations each (NAS-Bench-201): 15,625 networks",
    )
    register(
        "nasbench_macro",
        "automl_nas_benchmarks.nasbench_macro:NASBenchMacro",
        summary="eight layers of identity and MobileNetV2 blocks (NAS-Bench-Macro): 6,561 networks",
    )


@hookimpl
def register_strategies(register: Any) -> None:
    """Register what looks at a space without searching it."""
    register(
        "survey",
        "automl_nas_benchmarks.survey:Survey",
        summary="a fixed sample of the space, each network once: how well does an evaluator rank it?",
    )
