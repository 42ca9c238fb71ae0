"""Tabular NAS benchmarks, the comparison of strategies on them, and how well a supernet ranks."""

from __future__ import annotations

from typing import Any

from automl_nas.plugin import hookimpl


@hookimpl
def register_spaces(register: Any) -> None:
    """Register the benchmarks' spaces, with their real networks."""
    register(
        "nasbench201",
        "automl_nas_benchmarks.spaces.nasbench201:NASBench201",
        summary="a cell of six edges with five operations each (NAS-Bench-201): 15,625 networks",
    )
    register(
        "nasbench_macro",
        "automl_nas_benchmarks.spaces.nasbench_macro:NASBenchMacro",
        summary="eight layers of identity and MobileNetV2 blocks (NAS-Bench-Macro): 6,561 networks",
    )
    register(
        "table",
        "automl_nas_benchmarks.tables.table_space:TableSpace",
        summary="the architectures of a table of your own (CSV, Parquet)",
    )


@hookimpl
def register_evaluators(register: Any) -> None:
    """Register what looks results up."""
    register(
        "nasbench201",
        "automl_nas_benchmarks.tables.evaluators:NASBench201Evaluator",
        summary="accuracy on three data sets from the table of NAS-Bench-201",
    )
    register(
        "nasbench_macro",
        "automl_nas_benchmarks.tables.evaluators:NASBenchMacroEvaluator",
        summary="accuracy on CIFAR-10 from the table of NAS-Bench-Macro",
    )
    register(
        "tabular",
        "automl_nas_benchmarks.tables.evaluators:TabularEvaluator",
        summary="metrics from a table of your own (CSV, Parquet)",
    )


@hookimpl
def register_cost_models(register: Any) -> None:
    """Register costs that are read from tables."""
    register(
        "hw_nas_bench",
        "automl_nas_benchmarks.tables.table_costs:HWNASBench",
        summary="latency or energy of a cell of NAS-Bench-201 on one of six devices",
    )
    register(
        "table_cost",
        "automl_nas_benchmarks.tables.table_costs:TableCost",
        summary="a column of a table, your own or ours",
    )
    register(
        "listed",
        "automl_nas_benchmarks.tables.table_costs:Listed",
        summary="1 if a table holds the architecture, else 0",
    )


@hookimpl
def register_strategies(register: Any) -> None:
    """Register what looks at a space without searching it."""
    register(
        "survey",
        "automl_nas_benchmarks.rank.sample_strategy:SampleStrategy",
        summary="a fixed sample of the space, each network once: how well does an evaluator rank it?",
    )


@hookimpl
def register_commands(cli: Any) -> None:
    """Add ``automl-nas benchmark`` and ``automl-nas rank``."""
    from automl_nas_benchmarks.comparison.command import benchmark
    from automl_nas_benchmarks.rank.command import rank

    cli.add_command(benchmark)
    cli.add_command(rank)
