"""What one network costs, for people and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.cli import exact, table
from automl_nas.errors import ConfigurationError, SpaceError, did_you_mean
from automl_nas.space import Architecture
from automl_nas_costs.latency.cache import to_json
from automl_nas_costs.latency.graphs import fixed
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.latency.profile import node_times
from automl_nas_costs.latency.session import sentences
from automl_nas_costs.models import Flops
from automl_nas_costs.network.locate_network import FoundNetwork, OneNetwork
from automl_nas_costs.network.onnx_counts import count_onnx
from automl_nas_costs.network.onnx_memory import onnx_peak

if TYPE_CHECKING:
    from automl_nas.evaluation import CostModel
    from automl_nas.plugin import Registry

COUNTED = ("flops", "params", "memory_access", "peak_memory")
"""The registered cost models that are shown."""

MEASURED = "latency_ms"

Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class NetworkCost:
    """One cost of a network.

    Attributes:
        name: of the cost model.
        unit: of the value.
        value: of the whole network.
        remarks: what belongs beside it.
        layers: the same by module or node; empty if not asked for.
        measurement: how it was measured; None for what is counted.
    """

    name: str
    unit: str
    value: float
    remarks: Sequence[str] = ()
    layers: Mapping[str, float] = field(default_factory=dict)
    measurement: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class NetworkAccount:
    """What one network costs.

    Attributes:
        title: what it is.
        inputs: the shapes of its inputs, with the batch.
        costs: all of them.
        order: of the modules or nodes.
        unknown: cost -> why it is not known of this network.
    """

    title: str
    inputs: Sequence[Sequence[int]]
    costs: Sequence[NetworkCost]
    order: Sequence[str] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    def as_text(self) -> list[str]:
        """Return lines for people."""
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
        found = dict.fromkeys(name for cost in self.costs for name in cost.layers)
        names = sorted(found, key=lambda name: places.get(name, len(places)))
        rows = [
            [name or "(network)", *(exact(c.layers[name]) if name in c.layers else "" for c in self.costs)]
            for name in names
        ]
        rows.append(["total", *(exact(cost.value) for cost in self.costs)])
        return table(["module", *(cost.name for cost in self.costs)], rows)

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain data."""
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


def account_of_module(
    found: FoundNetwork, registry: Registry, settings: Settings, *, latency: bool, by_layer: bool
) -> NetworkAccount:
    """Count a PyTorch network, and measure its latency if wanted.

    Args:
        found: the network.
        registry: of cost models.
        settings: name of a cost model -> its settings.
        latency: whether to measure.
        by_layer: whether the costs of modules are wanted.

    Raises:
        UserError: the network cannot be counted or measured, or a setting is wrong.
    """
    names = _names(settings, latency)
    space, only = OneNetwork(found.make, found.input_shape), Architecture({})
    costs = []
    for name in names:
        model: CostModel = registry.construct("cost_models", {"name": name, **settings.get(name, {})}, [space], 0)
        costs.append(
            NetworkCost(
                name,
                model.unit,
                model.estimate(only),
                model.remarks(only),
                model.breakdown(only) if by_layer else {},
                to_json(model.measurement(only)) if isinstance(model, LatencyMs) else None,
            )
        )
    batch = settings.get(MEASURED, {}).get("batch", 1) if latency else 1
    order = [name for name, _ in found.make().named_modules()] if by_layer else []
    return NetworkAccount(found.title, [(batch, *found.input_shape)], costs, order)


def account_of_file(
    path: Path, registry: Registry, settings: Settings, *, latency: bool, by_layer: bool
) -> NetworkAccount:
    """Count an ONNX file, and measure its latency if wanted; see `account_of_module`.

    A free batch counts as 1, and is measured with the setting ``batch`` of ``latency_ms``.
    """
    _names(settings, latency)
    model = fixed(path, 1)
    counts = count_onnx(model, str(path))
    listed = ", ".join(f"{name} ({calls})" for name, calls in sorted(counts.uncounted.items()))
    space = OneNetwork(_no_module, ())
    flops = registry.construct("cost_models", {"name": "flops", **settings.get("flops", {})}, [space], 0)
    assert isinstance(flops, Flops)
    values: dict[str, tuple[str, Mapping[str, int], list[str]]] = {
        "flops": (
            flops.unit,
            {name: flops.factor * value for name, value in counts.macs.items()},
            [flops.convention, f"not counted: {listed}" if listed else "everything is counted"],
        ),
        "params": ("parameters", counts.weights, ["weights in the file, in which normalisation may be folded"]),
        "memory_access": ("elements", counts.accesses, []),
    }
    unknown: dict[str, str] = {}
    try:
        order = "nodes run in the file's order; transposed tensors and slices are copies"
        values["peak_memory"] = ("bytes", onnx_peak(model, str(path)), [order])
    except SpaceError as error:
        # Counts need the shapes of what multiplies alone; here those of all tensors must be known.
        unknown["peak_memory"] = str(error)
    costs = [
        NetworkCost(name, unit, sum(parts.values()), remarks, parts if by_layer else {})
        for name, (unit, parts, remarks) in values.items()
    ]
    if latency:
        measured = registry.construct("cost_models", {"name": MEASURED, **settings.get(MEASURED, {})}, [space], 0)
        assert isinstance(measured, LatencyMs)
        (found,) = measured.measure_files([path])
        layers: dict[str, float] = {}
        if by_layer:
            times = node_times(fixed(path, measured.options.batch), measured.options)
            whole = sum(item.ms for item in times)
            layers = {item.name: found.value * item.ms / whole for item in times}
        costs.append(NetworkCost(MEASURED, LatencyMs.unit, found.value, sentences(found), layers, to_json(found)))
    return NetworkAccount(str(path), _inputs(model), costs, _nodes(model), unknown)


def _names(settings: Settings, latency: bool) -> list[str]:
    names = [*COUNTED, *([MEASURED] if latency else [])]
    for name in settings:
        if name not in (*COUNTED, MEASURED):
            raise ConfigurationError(f"'{name}' is no cost{did_you_mean(name, (*COUNTED, MEASURED))}", path=name)
    return names


def _no_module() -> Any:
    raise AssertionError("an ONNX file is measured, not built")


def _inputs(model: bytes) -> list[tuple[int, ...]]:
    import onnx

    graph = onnx.load_from_string(model).graph
    held = {item.name for item in graph.initializer}
    return [
        tuple(dimension.dim_value for dimension in item.type.tensor_type.shape.dim)
        for item in graph.input
        if item.name not in held
    ]


def _nodes(model: bytes) -> list[str]:
    import onnx

    return [node.name or f"{node.op_type} {n}" for n, node in enumerate(onnx.load_from_string(model).graph.node)]
