"""The parts of which the networks of a space are put together, each of which can be measured alone: `Plan`.

Found by comparing networks, without knowing how the space makes them. Going from the whole network inwards, a module is
taken apart as long as its children divide the decisions among themselves; what remains is a block, a module that some
decisions shape together. Equal blocks in different places, with inputs of equal shapes, are one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.evaluation import corner
from automl_nas.space import Architecture, SearchSpace, Value, all_values, sample
from automl_nas.streams import stream
from automl_nas_costs.counting import preserve_rng
from automl_nas_costs.network_builder import network_of

Key: TypeAlias = str
"""What a block is: its modules, their settings, the shapes of its inputs."""

MOST_COMBINATIONS = 4096
"""Of the decisions that shape one block together."""

_BASES = 2  # random networks in which each decision is changed once: what is moot in one may matter in the other


@final
@dataclass(frozen=True)
class Part:
    """A place in the networks.

    Attributes:
        paths: of the modules, run one after another.
        decisions: that shape it; none for what is the same in all networks.
    """

    paths: tuple[str, ...]
    decisions: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first module's path."""
        return self.paths[0]


@final
@dataclass(frozen=True)
class Block:
    """Something to measure.

    Attributes:
        module: on the CPU, in evaluation mode.
        shapes: of its inputs, without the batch.
        name: where it was found, for messages.
    """

    module: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    name: str


@final
@dataclass(frozen=True)
class Plan:
    """How the networks of a space are put together.

    Attributes:
        parts: all places.
        uses: for each part, values of its decisions -> the blocks that run there, once for each call.
        blocks: the distinct blocks -> values of decisions of a network that holds it, and the part it is.
    """

    parts: tuple[Part, ...]
    uses: tuple[Mapping[tuple[Value, ...], tuple[Key, ...]], ...]
    blocks: Mapping[Key, tuple[Architecture, int]]

    def keys(self, architecture: Architecture) -> list[tuple[str, Key]]:
        """Return (place, block) of everything a network runs.

        Raises:
            KeyError: it is not of the space.
        """
        return [
            (part.name, key)
            for part, uses in zip(self.parts, self.uses, strict=True)
            for key in uses[tuple(architecture[name] for name in part.decisions)]
        ]

    def block(self, space: SearchSpace, key: Key) -> Block:
        """Build a network that holds a block, and return the block."""
        architecture, place = self.blocks[key]
        part = self.parts[place]
        network = network_of(space, architecture, "cpu")
        shapes = _calls(network, self.parts, space.input_shape)[place]
        modules = [network.get_submodule(path) if path else network for path in part.paths]
        module = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        for found, _ in shapes:
            if _key(modules, found) == key:
                return Block(module.eval(), found, part.name)
        raise AssertionError(f"the network of {architecture.key} does not hold the block it was found in")


@lru_cache(maxsize=4)
def plan(space: SearchSpace) -> Plan:
    """Find the parts and distinct blocks of a space's networks, on tensors without data; kept for the next caller.

    Raises:
        SpaceError: networks cannot be built or run, or too many decisions shape one block.
    """
    if not space.input_shape:
        raise SpaceError(f"{type(space).__name__} has no input shape, so its networks have no latency to measure")
    parts = _parts(space)
    waiting = [_combinations(space, part) for part in parts]
    uses: list[dict[tuple[Value, ...], tuple[Key, ...]]] = [{} for _ in parts]
    blocks: dict[Key, tuple[Architecture, int]] = {}
    first = True
    while first or any(waiting):
        first = False
        architecture = _showing(space, parts, waiting)
        network = network_of(space, architecture, "meta")
        for place, calls in enumerate(_calls(network, parts, space.input_shape)):
            values = tuple(architecture[name] for name in parts[place].decisions)
            waiting[place].pop(values, None)
            modules = [network.get_submodule(path) if path else network for path in parts[place].paths]
            keys = tuple(key for shapes, count in calls for key in [_key(modules, shapes)] * count)
            uses[place][values] = keys
            for key in keys:
                blocks.setdefault(key, (architecture, place))
    return Plan(parts, tuple(uses), blocks)


def _combinations(space: SearchSpace, part: Part) -> dict[tuple[Value, ...], None]:
    count = math.prod(space.decisions[name].size for name in part.decisions)
    if count > MOST_COMBINATIONS:
        shown = ", ".join(part.decisions[:8]) + ", ..." * (len(part.decisions) > 8)
        raise SpaceError(
            f"the decisions {shown} shape '{part.name or 'the whole network'}' together, in {count:,} ways; a table "
            f"is for blocks of at most {MOST_COMBINATIONS:,}: use latency_predictor"
        )
    values = product(*(all_values(space.decisions[name]) for name in part.decisions))
    return dict.fromkeys(values) if part.decisions else {}  # type: ignore[arg-type]


def _showing(
    space: SearchSpace, parts: Sequence[Part], waiting: Sequence[Mapping[tuple[Value, ...], None]]
) -> Architecture:
    """Return an architecture with as many combinations that were not seen as fit together, one for each part."""
    chosen: dict[str, Value] = {}
    for part, combinations in zip(parts, waiting, strict=True):
        for values in combinations:
            wanted = dict(zip(part.decisions, values, strict=True))
            if all(chosen.get(name, value) == value for name, value in wanted.items()):
                chosen.update(wanted)
                break
    return corner(space.decisions, first=True).replaced(chosen)


def _parts(space: SearchSpace) -> tuple[Part, ...]:
    shaped = _dependence(space)
    base = network_of(space, sample(space.decisions, stream(0, "blocks/base", 0)), "meta")

    def visit(path: str, module: nn.Module) -> list[Part]:
        mine = shaped.get(path, frozenset())
        whole = [Part((path,), tuple(name for name in space.decisions if name in mine))]
        children = {f"{path}.{name}" if path else name: child for name, child in module.named_children()}
        inner = {child: shaped.get(child, frozenset()) for child in children}
        if len(mine) < 2 or frozenset().union(*inner.values()) != mine:
            return whole
        found: list[Part] = []
        fixed: list[str] = []
        chained = type(module).forward is nn.Sequential.forward
        for name, child in children.items():
            if not inner[name] and chained:
                fixed.append(name)  # run one after another: what a runtime fuses stays together
                continue
            found += [Part(tuple(fixed), ())] * bool(fixed)
            fixed = []
            found += visit(name, child)
        found += [Part(tuple(fixed), ())] * bool(fixed)
        return whole if any(frozenset(part.decisions) == mine for part in found) else found

    return tuple(visit("", base))


def _dependence(space: SearchSpace) -> dict[str, frozenset[str]]:
    """Return module path -> the decisions that change the module or the shapes of its inputs, in two networks."""
    found: dict[str, set[str]] = {}
    for number in range(_BASES):
        rng = stream(0, "blocks/base", number)
        base = sample(space.decisions, rng)
        known = _signatures(space, base)
        for name, decision in space.decisions.items():
            others = [value for value in all_values(decision) if value != base[name]] if decision.size <= 64 else []
            other = others[rng.randrange(len(others))] if others else decision.sample(rng)
            changed = _signatures(space, base.replaced({name: other}))
            for path in known.keys() | changed.keys():
                if known.get(path) != changed.get(path):
                    found.setdefault(path, set()).add(name)
    return {path: frozenset(names) for path, names in found.items()}


def _signatures(space: SearchSpace, architecture: Architecture) -> dict[str, tuple[str, Any]]:
    network = network_of(space, architecture, "meta")
    shapes: dict[str, list[Any]] = {}
    hooks = []
    for path, module in network.named_modules():

        def note(module: nn.Module, args: Any, path: str = path) -> None:
            shapes.setdefault(path, []).append(_shapes(args))

        hooks.append(module.register_forward_pre_hook(note))
    _run(network, space.input_shape)
    for hook in hooks:
        hook.remove()
    texts: dict[nn.Module, str] = {}
    return {path: (text_of(module, texts), shapes.get(path)) for path, module in network.named_modules()}


def _calls(
    network: nn.Module, parts: Sequence[Part], input_shape: Sequence[int]
) -> list[list[tuple[tuple[tuple[int, ...], ...], int]]]:
    """Return, for each part, the shapes of its inputs and how often it is called with them."""
    found: list[dict[Any, int]] = [{} for _ in parts]
    hooks = []
    for place, part in enumerate(parts):

        def note(module: nn.Module, args: Any, place: int = place) -> None:
            shapes = _shapes(args)
            found[place][shapes] = found[place].get(shapes, 0) + 1

        first = network.get_submodule(part.paths[0]) if part.paths[0] else network
        hooks.append(first.register_forward_pre_hook(note))
    _run(network, input_shape)
    for hook in hooks:
        hook.remove()
    return [list(calls.items()) for calls in found]


def _run(network: nn.Module, input_shape: Sequence[int]) -> None:
    device = next((tensor.device for tensor in (*network.parameters(), *network.buffers())), torch.device("cpu"))
    with torch.no_grad(), preserve_rng():
        network.eval()(torch.zeros(1, *input_shape, device=device))


def _shapes(args: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(arg.shape[1:]) for arg in args if isinstance(arg, Tensor))


def _key(modules: Sequence[nn.Module], shapes: Any) -> Key:
    texts: dict[nn.Module, str] = {}
    return f"{shapes} {' > '.join(text_of(module, texts) for module in modules)}"


def text_of(module: nn.Module, known: dict[nn.Module, str]) -> str:
    """Return what a module is: its class, plain settings, the shapes of its tensors, and its children.

    ``known`` is filled with the texts of its parts, which may be parts of other modules too.
    """
    if module not in known:
        plain = {
            name: value
            for name, value in vars(module).items()
            if not name.startswith("_") and name != "training" and isinstance(value, str | int | float | tuple | None)
        }
        tensors = {
            name: tuple(tensor.shape)
            for name, tensor in (*module._parameters.items(), *module._buffers.items())
            if tensor is not None
        }
        code = module.code if isinstance(module, torch.fx.GraphModule) else ""
        children = {name: text_of(child, known) for name, child in module.named_children()}
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        known[module] = f"{kind}({plain}, {tensors}, {code}, {children})"
    return known[module]
