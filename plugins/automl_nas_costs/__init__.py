"""The plugin `costs`: multiply-adds, parameters, memory and measured latency of the networks of any search space."""

from __future__ import annotations

from typing import Any

from automl_nas.plugin import hookimpl


@hookimpl
def register_commands(cli: Any) -> None:
    """Add the commands for single networks and other devices."""
    from automl_nas_costs.commands import bundle, collect, network_cost

    for command in (network_cost, bundle, collect):
        cli.add_command(command)


@hookimpl
def register_cost_models(register: Any) -> None:
    """Register the cost models."""
    register(
        "flops",
        "automl_nas_costs.models:Flops",
        summary="Multiply-adds of convolutions, linear layers and matrix products, batch 1.",
    )
    register("params", "automl_nas_costs.models:Params", summary="Parameters, shared ones counted once.")
    register(
        "memory_access",
        "automl_nas_costs.models:MemoryAccess",
        summary="Elements read and written by convolutions, linear layers and pools, batch 1.",
    )
    register(
        "peak_memory",
        "automl_nas_costs.models:PeakMemory",
        summary="Largest number of bytes of activations that live at a time, batch 1, without parameters.",
    )
    register(
        "latency_ms",
        "automl_nas_costs.latency.model:LatencyMs",
        summary="Latency in ONNX Runtime, each network measured in rounds, with an interval.",
    )
    register(
        "latency_table",
        "automl_nas_costs.prediction.latency_table:LatencyTable",
        summary="Latency as a sum over measured blocks, corrected by a few measured networks.",
    )
    register(
        "device_table",
        "automl_nas_costs.prediction.device_table:DeviceTable",
        summary="A cost as a sum over a table of operations that was measured elsewhere.",
    )
    register(
        "latency_predictor",
        "automl_nas_costs.prediction.predicted_costs:LatencyPredictor",
        summary="Latency predicted from measured samples, the regressor chosen by cross-validation.",
    )
    register(
        "cost_predictor",
        "automl_nas_costs.prediction.predicted_costs:CostPredictor",
        summary="A cost predicted from samples of another cost model or of a file, such as a device's latency.",
    )


@hookimpl
def search_finished(run: Any, result: Any) -> None:
    """Log how often the machine was not steady while candidates were measured."""
    from automl_nas_costs.latency.stability import log_totals

    log_totals()
