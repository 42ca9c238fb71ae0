"""The layers of a delivered network, for its drawing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from automl_nas.errors import AutoMLNASError
from automl_nas.run import Result
from automl_nas.space import example_input, run_on_example

if TYPE_CHECKING:
    from torch import nn

TIMES = "\u00d7"

MOST_LAYERS = 250
"""The largest number of layers that are drawn."""


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        name: path of the module, or of the tensor.
        description: kind and settings.
        kind: ``conv``, ``linear``, ``norm``, ``pool`` or ``other``.
        shape: of its output without the batch, or of the tensor.
        parameters: number of its parameters.
    """

    name: str
    description: str
    kind: str
    shape: str
    parameters: int


def found_layers(result: Result) -> tuple[list[Layer], str]:
    """Return the layers of the delivered network and a sentence about where they come from.

    The network is constructed with fresh weights and run once on zeros if its space is registered by an installed
    plugin or was passed to `open_run`: nothing that only the run directory names is imported. Otherwise the shapes of
    the saved weights are listed.
    """
    try:
        network, shape = result.build(), result.parts.final_space.input_shape
        return _run_once(network.eval(), shape), "In the order of execution, for one input; branches follow each other."
    except AutoMLNASError as error:
        reason = str(error)
    except Exception as error:  # of a space: the report is written without the drawing
        reason = f"{type(error).__name__}: {error}"
    weights = result.directory / "artifacts" / "final" / "weights.safetensors"
    return _stored(weights), f"The network cannot be constructed here ({reason}); these are its saved tensors, by name."


def _run_once(network: nn.Module, shape: Sequence[int]) -> list[Layer]:
    import torch

    layers: list[Layer] = []
    names = {module: name for name, module in network.named_modules() if not list(module.children())}
    numbered = dict.fromkeys(names, 0)

    def record(module: nn.Module, _: object, output: object) -> None:
        numbered[module] += 1
        layer = _layer(names[module], module, output)
        if numbered[module] > 1:  # its parameters are counted once
            layer = replace(layer, parameters=0)
        before = layers[-1] if layers else None
        if before is not None and layer.kind == "addition" and _folder(before.name) == _folder(layer.name):
            layers[-1] = replace(
                before,
                description=f"{before.description} · {layer.description}",
                shape=layer.shape or before.shape,
                parameters=before.parameters + layer.parameters,
            )
        else:
            layers.append(replace(layer, kind="other") if layer.kind == "addition" else layer)

    # A module that computes with the weights of its only child instead of calling it, as quantised layers do.
    owners = {module: child for module in network.modules() if (child := _only_layer(module)) is not None}
    calls_before = dict.fromkeys(owners, 0)

    def count(module: nn.Module, _: object) -> None:
        calls_before[module] = numbered[owners[module]]

    def record_child(module: nn.Module, inputs: object, output: object) -> None:
        child = owners[module]
        if numbered[child] == calls_before[module]:
            record(child, inputs, output)
            note = module.extra_repr()
            layers[-1] = replace(layers[-1], description=f"{layers[-1].description}{f' ({note})' if note else ''}")

    def run(inputs: object) -> None:
        layers.clear()
        numbered.update(dict.fromkeys(numbered, 0))
        network(inputs)

    handles = [module.register_forward_hook(record) for module in names]
    handles += [module.register_forward_pre_hook(count) for module in owners]
    handles += [module.register_forward_hook(record_child) for module in owners]
    try:
        with torch.no_grad():
            run_on_example(run, example_input(network, shape))
    finally:
        for handle in handles:
            handle.remove()
    return layers


def _only_layer(module: nn.Module) -> nn.Module | None:
    """Return the only child of a module if it is a convolution or a linear layer."""
    from torch import nn

    children = list(module.children())
    return children[0] if len(children) == 1 and isinstance(children[0], nn.modules.conv._ConvNd | nn.Linear) else None


def _layer(name: str, module: nn.Module, output: object) -> Layer:
    import torch
    from torch import nn

    title, settings = type(module).__name__, ""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    kind = "other"
    if isinstance(module, nn.modules.conv._ConvNd):
        kind = "conv"
        size = TIMES.join(map(str, module.kernel_size))
        settings = f" {size}, {module.in_channels} → {module.out_channels}"
        settings += f", stride {_brief(module.stride)}" if set(module.stride) != {1} else ""
        settings += f", {module.groups} groups" if module.groups > 1 else ""
    elif isinstance(module, nn.Linear):
        kind, settings = "linear", f" {module.in_features} → {module.out_features}"
    elif "Pool" in title:
        kind = "pool"
    elif "Norm" in title or not parameters:
        kind = "addition"
    shape = f" {TIMES} ".join(map(str, output.shape[1:])) if isinstance(output, torch.Tensor) else ""
    return Layer(name, title + settings, kind, shape, parameters)


def _folder(name: str) -> str:
    """Return the path of the module that contains a module."""
    return name.rpartition(".")[0]


def _brief(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else TIMES.join(map(str, values))


def _stored(path: Path) -> list[Layer]:
    """Return the tensors of a file of weights; empty if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    layers = []
    try:
        with safe_open(path, framework="numpy") as file:
            for name in sorted(file.keys(), key=_natural):
                shape = file.get_slice(name).get_shape()
                kind = {4: "conv", 2: "linear", 1: "norm"}.get(len(shape), "other")
                layers.append(Layer(name, "tensor", kind, f" {TIMES} ".join(map(str, shape)), math.prod(shape)))
    except (OSError, SafetensorError):
        return []
    return layers


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts ``blocks.2`` before ``blocks.10``."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
