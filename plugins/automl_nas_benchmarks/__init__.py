"""Tabular NAS benchmarks, comparisons of strategies on them, and measures of how well a supernet ranks networks."""

from __future__ import annotations

from typing import Any

from automl_nas.plugin import hookimpl


@hookimpl
def register_spaces(register: Any) -> None:
    """Register the spaces of the benchmarks, which can build the real networks."""
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
    """Register the evaluators that look results up in tables."""
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
    """Register the cost models that look costs up in tables."""
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
    """Register the strategy that evaluates a sample of a space."""
    register(
        "survey",
        "automl_nas_benchmarks.rank.sample_strategy:SampleStrategy",
        summary="evaluates a fixed sample of the space, to measure how well an evaluator ranks networks",
    )


@hookimpl
def register_commands(cli: Any) -> None:
    """Add ``automl-nas benchmark``, ``automl-nas rank`` and ``automl-nas compare-one-shot``."""
    from automl_nas_benchmarks.comparison.command import benchmark
    from automl_nas_benchmarks.one_shot.command import compare_one_shot
    from automl_nas_benchmarks.rank.command import rank

    cli.add_command(benchmark)
    cli.add_command(compare_one_shot)
    cli.add_command(rank)
