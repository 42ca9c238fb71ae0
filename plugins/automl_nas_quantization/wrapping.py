"""Quantising the layers of a network that contains choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, ChoiceModule, Decision, ModuleSupernet, Subset, run_on_example
from automl_nas.streams import stream_seed
from automl_nas_quantization.layers import KINDS, QuantizedLayer, Scheme, SearchedPrecision
from automl_nas_quantization.precision import Precision

_BATCH = 8


@final
@dataclass(frozen=True)
class Layers:
    """What was observed of the layers of a supernet: their paths, in the order of their first calls.

    Attributes:
        called: all layers that can be quantised.
        first: those that are called first in some architecture.
        last: those that are called last in some architecture.
        signed: those whose inputs had a negative value.
    """

    called: tuple[str, ...]
    first: frozenset[str]
    last: frozenset[str]
    signed: frozenset[str]


def observe(supernet: ModuleSupernet, input_shape: Sequence[int]) -> Layers:
    """Run a supernet on normal numbers, on architectures that have every option, and return what its layers receive.

    Batch normalisation uses the statistics of the batch, so what follows it has values of both signs.

    Raises:
        SpaceError: no layer was called that can be quantised.
    """
    layers = {module: path for path, module in supernet.network.named_modules() if type(module) in KINDS}
    called: dict[str, None] = {}
    signed: set[str] = set()
    order: list[str] = []

    def record(path: str, inputs: tuple[Tensor, ...]) -> None:
        order.append(path)
        if bool((inputs[0] < 0).any()):
            signed.add(path)

    # Views of elastic layers are shallow copies: they share the hooks of the original.
    handles = [
        module.register_forward_pre_hook(lambda _module, inputs, path=path: record(path, inputs))
        for module, path in layers.items()
    ]
    first, last = set(), set()
    try:
        for architecture in _covering(supernet.decisions):
            order.clear()
            _run(supernet, architecture, input_shape)
            if order:
                first.add(order[0])
                last.add(order[-1])
            called.update(dict.fromkeys(order))
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        names = ", ".join(kind.__name__ for kind in KINDS)
        raise SpaceError(f"the networks have no layer that can be quantised ({names})")
    return Layers(tuple(called), frozenset(first), frozenset(last), frozenset(signed))


def _run(supernet: ModuleSupernet, architecture: Architecture, input_shape: Sequence[int]) -> None:
    generator = torch.Generator().manual_seed(stream_seed(0, "observed layers"))
    inputs = torch.randn(_BATCH, *input_shape, generator=generator)
    with torch.no_grad():
        run_on_example(lambda images: supernet(images, architecture), inputs)


def _covering(decisions: Mapping[str, Decision]) -> Iterator[Architecture]:
    """Yield architectures that have every option of each decision."""
    for number in range(max(len(decision.options) for decision in decisions.values())):
        values: dict[str, object] = {}
        for name, decision in decisions.items():
            if isinstance(decision, Subset):
                values[name] = decision.options[: decision.largest]
            else:
                values[name] = decision.options[number % len(decision.options)]
        yield Architecture(values)


def blocks_of(network: nn.Module) -> dict[str, str]:
    """Return path of a layer -> name of its block: the outermost choice among modules that contains it."""
    blocks: dict[str, str] = {}

    def visit(module: nn.Module, path: str, block: str | None) -> None:
        if block is None and isinstance(module, ChoiceModule) and type(module) not in KINDS:
            block = module.decision_name or path
        if block is not None:
            blocks[path] = block
        for name, child in module.named_children():
            visit(child, f"{path}.{name}" if path else name, block)

    visit(network, "", None)
    return blocks


def quantize_layers(
    network: nn.Module,
    layers: Layers,
    blocks: Mapping[str, str],
    options: Sequence[Precision],
    ends: Precision,
    scheme: Scheme,
) -> nn.Module:
    """Replace the layers of a network, in place, and return it.

    Args:
        network: with choices.
        layers: what was observed of its layers.
        blocks: path of a layer -> name of its block, whose layers share a decision; other layers have their own.
        options: of the decisions.
        ends: the precision of the first and last layers. Their weights are symmetric, whatever the scheme says:
            nothing normalises the outputs of the last one.
        scheme: the quantisers.
    """
    modules = dict(network.named_modules())
    end_scheme = Scheme("symmetric", scheme.initial_clip, scheme.full_gradient)
    replacements: dict[nn.Module, nn.Module] = {}
    for path in layers.called:
        layer, signed = modules[path], path in layers.signed
        if path not in layers.first | layers.last:
            replacements[layer] = SearchedPrecision(
                layer, options, signed=signed, scheme=scheme, name=blocks.get(path, path)
            )
        elif ends.quantizes:
            replacements[layer] = QuantizedLayer(layer, ends, signed=signed, scheme=end_scheme)
    # Modules are looked up before any is replaced: a replacement contains the layer.
    places = [
        (parent, name, replacements[child])
        for parent in modules.values()
        for name, child in parent.named_children()
        if child in replacements
    ]
    for parent, name, replacement in places:
        setattr(parent, name, replacement)
    return network


def check_signed(layers: Layers, options: Sequence[Precision], ends: Precision) -> None:
    """Raise an error if inputs of both signs would have one bit.

    Raises:
        SpaceError: names the layer.
    """
    for path in layers.called:
        one_bit = [ends] if path in layers.first | layers.last else options
        if path in layers.signed and any(each.activations == 1 for each in one_bit):
            raise SpaceError(
                f"the input of layer '{path}' has values of both signs, which one bit cannot hold beside 0; use pairs "
                "with 2 or more bits of activations"
            )
