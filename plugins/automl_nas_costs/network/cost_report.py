"""The costs of one network, as text and as data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.cli import table
from automl_nas.errors import ConfigurationError, SpaceError, did_you_mean
from automl_nas.run import exact
from automl_nas.space import Architecture
from automl_nas_costs.latency.cache import to_json
from automl_nas_costs.latency.graphs import fixed
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.latency.profile import node_times
from automl_nas_costs.latency.session import sentences
from automl_nas_costs.models import Flops
from automl_nas_costs.network.locate_network import NamedNetwork, OneNetwork
from automl_nas_costs.network.onnx_counts import count_onnx
from automl_nas_costs.network.onnx_memory import onnx_peak

if TYPE_CHECKING:
    from automl_nas.evaluation import CostModel
    from automl_nas.plugin import Registry

COUNTED = ("flops", "params", "memory_access", "peak_memory")
"""The registered cost models of the report."""

MEASURED = "latency_ms"

Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class NetworkCost:
    """One cost of a network.

    Attributes:
        name: of the cost model.
        unit: of the value.
        value: of the whole network.
        remarks: sentences about the value.
        layers: module or node -> its cost; empty if the report is not by layer.
        measurement: value and interval of a measured cost; None for one that is counted.
    """

    name: str
    unit: str
    value: float
    remarks: Sequence[str] = ()
    layers: Mapping[str, float] = field(default_factory=dict)
    measurement: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CostReport:
    """The costs of one network.

    Attributes:
        title: of the network.
        inputs: the shapes of its inputs, with the batch.
        costs: all costs.
        order: of the modules or nodes.
        unknown: cost -> why it cannot be computed for this network.
    """

    title: str
    inputs: Sequence[Sequence[int]]
    costs: Sequence[NetworkCost]
    order: Sequence[str] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    def as_text(self) -> list[str]:
        """Return the report as lines of text."""
        shapes = ", ".join("x".join(map(str, shape)) for shape in self.inputs)
        lines = [f"network: {self.title}", f"input: {shapes}", ""]
        rows = []
        for cost in self.costs:
            interval = ""
            if cost.measurement is not None:
                interval = f"{cost.measurement['low']:.4g} to {cost.measurement['high']:.4g}"
            rows.append([cost.name, cost.unit, exact(cost.value), interval])
        lines += table(["cost", "unit", "value", "interval"], rows, left=2)
        lines += ["", *(f"{cost.name}: {remark}" for cost in self.costs for remark in cost.remarks)]
        lines += [f"{name}: not known: {reason}" for name, reason in self.unknown.items()]
        if any(cost.layers for cost in self.costs):
            lines += ["", *self._layers()]
        return lines

    def _layers(self) -> list[str]:
        places = {name: place for place, name in enumerate(self.order)}
        layers = dict.fromkeys(name for cost in self.costs for name in cost.layers)
        names = sorted(layers, key=lambda name: places.get(name, len(places)))
        rows = [
            [name or "(network)", *(exact(c.layers[name]) if name in c.layers else "" for c in self.costs)]
            for name in names
        ]
        rows.append(["total", *(exact(cost.value) for cost in self.costs)])
        return table(["module", *(cost.name for cost in self.costs)], rows)

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "network": self.title,
            "inputs": [list(shape) for shape in self.inputs],
            "costs": {
                cost.name: {
                    "unit": cost.unit,
                    "value": cost.value,
                    "remarks": list(cost.remarks),
                    **({"by_layer": dict(cost.layers)} if cost.layers else {}),
                    **({"measurement": dict(cost.measurement)} if cost.measurement is not None else {}),
                }
                for cost in self.costs
            },
            **({"unknown": dict(self.unknown)} if self.unknown else {}),
        }


@dataclass(frozen=True)
class CostRequest:
    """The costs that a report shows.

    Attributes:
        settings: name of a cost model -> its settings.
        latency: whether to measure the latency.
        by_layer: whether to list the costs of modules or nodes.

    Raises:
        ConfigurationError: the settings name another cost model.
    """

    settings: Settings
    latency: bool
    by_layer: bool

    def __post_init__(self) -> None:
        for name in self.settings:
            if name not in (*COUNTED, MEASURED):
                raise ConfigurationError(
                    f"'{name}' is not a cost of a network{did_you_mean(name, (*COUNTED, MEASURED))}", path=name
                )

    def construct(self, name: str, registry: Registry, space: OneNetwork) -> CostModel:
        """Return a cost model with its settings."""
        model: CostModel = registry.construct("cost_models", {"name": name, **self.settings.get(name, {})}, [space], 0)
        return model


def costs_of_module(network: NamedNetwork, registry: Registry, request: CostRequest) -> CostReport:
    """Count a PyTorch network, and measure its latency if requested.

    Args:
        network: the network.
        registry: of cost models.
        request: the costs.

    Raises:
        UserError: the network cannot be counted or measured, or a setting is invalid.
    """
    space, only = OneNetwork(network.make, network.input_shape), Architecture({})
    costs = []
    for name in (*COUNTED, *([MEASURED] if request.latency else [])):
        model = request.construct(name, registry, space)
        costs.append(
            NetworkCost(
                name,
                model.unit,
                model.estimate(only),
                model.remarks(only),
                model.breakdown(only) if request.by_layer else {},
                to_json(model.measurement(only)) if isinstance(model, LatencyMs) else None,
            )
        )
    batch = request.settings.get(MEASURED, {}).get("batch", 1) if request.latency else 1
    order = [name for name, _ in network.make().named_modules()] if request.by_layer else []
    return CostReport(network.title, [(batch, *network.input_shape)], costs, order)


@contextlib.contextmanager
def _analysing(path: Path) -> Iterator[None]:
    """Turn an exception of an analysis into a SpaceError: a file may be valid by its format and still be ill-formed."""
    try:
        yield
    except SpaceError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SpaceError(f"{path} cannot be analysed, it may be ill-formed: {reason}") from error


def costs_of_file(path: Path, registry: Registry, request: CostRequest) -> CostReport:
    """Count an ONNX file, and measure its latency if requested; see `costs_of_module`.

    A free batch counts as 1, and is measured with the setting ``batch`` of ``latency_ms``.
    """
    model = fixed(path, 1)
    with _analysing(path):
        counts = count_onnx(model, str(path))
    listed = ", ".join(f"{name} ({calls})" for name, calls in sorted(counts.uncounted.items()))
    space = OneNetwork(_no_module, ())
    flops = request.construct("flops", registry, space)
    assert isinstance(flops, Flops)
    values: dict[str, tuple[str, Mapping[str, int], list[str]]] = {
        "flops": (
            flops.unit,
            {name: flops.factor * value for name, value in counts.macs.items()},
            [flops.convention, f"not counted: {listed}" if listed else "everything is counted"],
        ),
        "params": ("parameters", counts.weights, ["weights in the file; normalisation may be folded into them"]),
        "memory_access": ("elements", counts.accesses, []),
    }
    unknown: dict[str, str] = {}
    try:
        order = "nodes run in the file's order; transposed tensors and slices are copies"
        with _analysing(path):
            values["peak_memory"] = ("bytes", onnx_peak(model, str(path)), [order])
    except SpaceError as error:
        # Counts need the shapes of the tensors that are multiplied; peak memory needs the shapes of all tensors.
        unknown["peak_memory"] = str(error)
    costs = [
        NetworkCost(name, unit, sum(parts.values()), remarks, parts if request.by_layer else {})
        for name, (unit, parts, remarks) in values.items()
    ]
    if request.latency:
        measured = request.construct(MEASURED, registry, space)
        assert isinstance(measured, LatencyMs)
        (measurement,) = measured.measure_files([path])
        layers: dict[str, float] = {}
        if request.by_layer:
            times = node_times(fixed(path, measured.options.batch), measured.options)
            whole = sum(item.ms for item in times)
            layers = {item.name: measurement.value * item.ms / whole for item in times}
        remarks, data = sentences(measurement), to_json(measurement)
        costs.append(NetworkCost(MEASURED, LatencyMs.unit, measurement.value, remarks, layers, data))
    return CostReport(str(path), _inputs(model), costs, _nodes(model), unknown)


def _no_module() -> Any:
    raise AssertionError("an ONNX file is measured, not built")


def _inputs(model: bytes) -> list[tuple[int, ...]]:
    import onnx

    graph = onnx.load_from_string(model).graph
    weights = {item.name for item in graph.initializer}
    return [
        tuple(dimension.dim_value for dimension in item.type.tensor_type.shape.dim)
        for item in graph.input
        if item.name not in weights
    ]


def _nodes(model: bytes) -> list[str]:
    import onnx

    return [node.name or f"{node.op_type} {n}" for n, node in enumerate(onnx.load_from_string(model).graph.node)]
