"""The blocks of a space's networks, each of which can be measured alone: `BlockStructure`.

They are derived by comparing networks, without knowledge of how the space builds them. From the whole network inwards,
a module is split into its children as long as these divide the decisions among themselves; what cannot be split is a
block, a module that some decisions shape together. Equal blocks in different places, with inputs of equal shapes, are
one block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.evaluation import corner
from automl_nas.space import (
    Architecture,
    Decision,
    MetaPass,
    SearchSpace,
    Value,
    all_values,
    example_input,
    run_on_example,
    sample,
)
from automl_nas.streams import stream
from automl_nas_costs.network_builder import measurable_shape, network_of, preserve_rng

Key: TypeAlias = str
"""What identifies a block: its modules, their settings, the shapes of its inputs."""

MOST_COMBINATIONS = 4096
"""Of the values of the decisions that shape one block together."""

_BASES = 2  # random networks in which each decision is changed once: one without effect in one may have one in another


@final
@dataclass(frozen=True)
class Part:
    """A place in the networks.

    Attributes:
        paths: of its modules, which run one after another.
        decisions: those that shape it; empty for a part that is the same in all networks.
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
    """A module to measure.

    Attributes:
        module: on the CPU, in evaluation mode.
        shapes: of its inputs, without the batch.
        name: of its part, for messages.
    """

    module: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    name: str


@final
@dataclass(frozen=True)
class BlockStructure:
    """The blocks of which the networks of a space consist.

    Attributes:
        decisions: of the space.
        parts: all parts of its networks, in order.
        uses: for each part, values of its decisions -> the blocks that run there, once for each call.
        blocks: each distinct block -> an architecture whose network holds it, and the number of the part.
    """

    decisions: Mapping[str, Decision]
    parts: tuple[Part, ...]
    uses: tuple[Mapping[tuple[Value, ...], tuple[Key, ...]], ...]
    blocks: Mapping[Key, tuple[Architecture, int]]

    def keys(self, architecture: Architecture) -> list[tuple[str, Key]]:
        """Return (name of the part, block) for each block that a network runs.

        Raises:
            KeyError: the architecture is not of the space.
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
        for input_shapes, _ in shapes:
            if _key(modules, input_shapes) == key:
                return Block(module.eval(), input_shapes, part.name)
        raise AssertionError(f"the network of {architecture.key} does not hold the block that is recorded for it")


@lru_cache(maxsize=4)
def block_structure(space: SearchSpace) -> BlockStructure:
    """Derive the parts and distinct blocks of a space's networks, on tensors without data; cached for each space.

    Raises:
        SpaceError: the networks cannot be built or run, too many decisions shape one block, or the space excludes
            combinations of options.
    """
    if space.exclusions:
        raise SpaceError(
            "blocks are found by changing each option alone, and the space excludes combinations of options: use "
            "latency_predictor"
        )
    measurable_shape(space)
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
    return BlockStructure(space.decisions, parts, tuple(uses), blocks)


def _combinations(space: SearchSpace, part: Part) -> dict[tuple[Value, ...], None]:
    count = math.prod(space.decisions[name].size for name in part.decisions)
    if count > MOST_COMBINATIONS:
        shown = ", ".join(part.decisions[:8]) + ", ..." * (len(part.decisions) > 8)
        raise SpaceError(
            f"the decisions {shown} shape '{part.name or 'the whole network'}' together, in {count:,} combinations; "
            f"blocks of at most {MOST_COMBINATIONS:,} can be measured: use latency_predictor"
        )
    values = product(*(all_values(space.decisions[name]) for name in part.decisions))
    return dict.fromkeys(values) if part.decisions else {}  # type: ignore[arg-type]


def _showing(
    space: SearchSpace, parts: Sequence[Part], waiting: Sequence[Mapping[tuple[Value, ...], None]]
) -> Architecture:
    """Return an architecture with a combination not yet visited for as many parts as possible."""
    chosen: dict[str, Value] = {}
    for part, combinations in zip(parts, waiting, strict=True):
        for values in combinations:
            combination = dict(zip(part.decisions, values, strict=True))
            if all(chosen.get(name, value) == value for name, value in combination.items()):
                chosen.update(combination)
                break
    return corner(space.decisions, first=True).replace(chosen)


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
        parts: list[Part] = []
        fixed: list[str] = []
        chained = type(module).forward is nn.Sequential.forward
        for name, child in children.items():
            if not inner[name] and chained:
                fixed.append(name)  # consecutive: what a runtime fuses stays together
                continue
            parts += [Part(tuple(fixed), ())] * bool(fixed)
            fixed = []
            parts += visit(name, child)
        parts += [Part(tuple(fixed), ())] * bool(fixed)
        return whole if any(frozenset(part.decisions) == mine for part in parts) else parts

    return tuple(visit("", base))


def _dependence(space: SearchSpace) -> dict[str, frozenset[str]]:
    """Return module path -> the decisions that change the module or the shapes of its inputs, in two networks."""
    shaping: dict[str, set[str]] = {}
    for number in range(_BASES):
        rng = stream(0, "blocks/base", number)
        base = sample(space.decisions, rng)
        original = _signatures(space, base)
        for name, decision in space.decisions.items():
            others = [value for value in all_values(decision) if value != base[name]] if decision.size <= 64 else []
            other = others[rng.randrange(len(others))] if others else decision.sample(rng)
            changed = _signatures(space, base.replace({name: other}))
            for path in original.keys() | changed.keys():
                if original.get(path) != changed.get(path):
                    shaping.setdefault(path, set()).add(name)
    return {path: frozenset(names) for path, names in shaping.items()}


def _signatures(space: SearchSpace, architecture: Architecture) -> dict[str, tuple[str, Any]]:
    network = network_of(space, architecture, "meta")
    shapes: dict[str, list[Any]] = {}
    hooks = []
    for path, module in network.named_modules():

        def record(module: nn.Module, args: Any, path: str = path) -> None:
            shapes.setdefault(path, []).append(_shapes(args))

        hooks.append(module.register_forward_pre_hook(record))
    _run(network, space.input_shape, shapes.clear)
    for hook in hooks:
        hook.remove()
    described: dict[nn.Module, str] = {}
    return {path: (text_of(module, described), shapes.get(path)) for path, module in network.named_modules()}


def _calls(
    network: nn.Module, parts: Sequence[Part], input_shape: Sequence[int]
) -> list[list[tuple[tuple[tuple[int, ...], ...], int]]]:
    """Return, for each part, the shapes of its inputs and how often it is called with them."""
    counts: list[dict[Any, int]] = [{} for _ in parts]
    hooks = []
    for place, part in enumerate(parts):

        def count(module: nn.Module, args: Any, place: int = place) -> None:
            shapes = _shapes(args)
            counts[place][shapes] = counts[place].get(shapes, 0) + 1

        first = network.get_submodule(part.paths[0]) if part.paths[0] else network
        hooks.append(first.register_forward_pre_hook(count))

    def begin() -> None:
        for calls in counts:
            calls.clear()

    _run(network, input_shape, begin)
    for hook in hooks:
        hook.remove()
    return [list(calls.items()) for calls in counts]


def _run(network: nn.Module, input_shape: Sequence[int], begin: Callable[[], object]) -> None:
    """Run a network once; ``begin`` is called before, again if the network refuses the first inputs."""

    def run(inputs: Tensor) -> None:
        begin()
        network(inputs)

    with torch.no_grad(), preserve_rng(), MetaPass():
        run_on_example(run, example_input(network.eval(), input_shape))


def _shapes(args: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(arg.shape[1:]) for arg in args if isinstance(arg, Tensor))


def _key(modules: Sequence[nn.Module], shapes: Any) -> Key:
    described: dict[nn.Module, str] = {}
    return f"{shapes} {' > '.join(text_of(module, described) for module in modules)}"


def text_of(module: nn.Module, described: dict[nn.Module, str]) -> str:
    """Return a module as a string: its class, plain settings, the shapes of its tensors, and its children.

    Args:
        module: any module.
        described: module -> its string; filled with the module and all modules inside.
    """
    if module not in described:
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
        children = {name: text_of(child, described) for name, child in module.named_children()}
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        described[module] = f"{kind}({plain}, {tensors}, {code}, {children})"
    return described[module]
