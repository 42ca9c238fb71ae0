"""Additions of residual branches: where they are in a run and in the code, and modules without them."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from automl_nas.channels import Flow, Step, Trace, TracedTensor

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_LAYERS = frozenset(("convolution", "_convolution", "mm", "addmm", "mv", "bmm", "baddbmm"))


@dataclass(frozen=True)
class Addition:
    """An addition of a branch to something else.

    Attributes:
        branch: the branch's output.
        container: path of the module whose forward adds them, or calls a module that does nothing else.
        through: paths of modules that do nothing but add, relative to the container.
        node: name of the addition in the graph of the container's forward.
        place: number of the branch among the two arguments.
    """

    branch: TracedTensor
    container: str
    through: frozenset[str]
    node: str
    place: int


def additions(network: nn.Module, trace: Trace, ends: Collection[TracedTensor]) -> Iterator[Addition]:
    """Yield the additions from which a branch can be removed: that with more layers, if nothing else reads it.

    Args:
        network: that was run.
        trace: of its run.
        ends: outputs with which a branch can end.
    """
    flow = Flow(trace)
    steps = [step for step in trace.steps if step.name in ("add", "add_") and _of_two(step)]
    adders = {step.path for step in steps if _only_adds(network.get_submodule(step.path))}
    calls = {call.path: call.result for call in trace.calls if trace.called[call.path] == 1}
    graphs: dict[str, fx.Graph | None] = {}
    for step in steps:
        branch = _branch(flow, step)
        if branch is None or branch not in ends or flow.readers(branch) != (step,):
            continue
        container = step.path.rpartition(".")[0] if step.path in adders else step.path
        inside = f"{container}." if container else ""
        through = frozenset(path.removeprefix(inside) for path in adders if path.startswith(inside))
        if container not in graphs:
            graphs[container] = _graph(network.get_submodule(container), through)
        for node, place in _nodes(graphs[container]):
            origin = _origin(node.args[place])
            if origin is not None and calls.get(f"{inside}{origin}") is branch:
                yield Addition(branch, container, through, node.name, place)
                break


def without(network: nn.Module, dead: Iterable[Addition]) -> nn.Module:
    """Return the network in which additions are replaced by what is not the branch.

    Their containers become torch.fx.GraphModules, in place, without the modules that are not needed any more.
    """
    containers: dict[str, list[Addition]] = {}
    for addition in dead:
        containers.setdefault(addition.container, []).append(addition)
    # From the innermost on, so that a path leads to the module of that name.
    for path in sorted(containers, key=lambda path: path.count(".") + bool(path), reverse=True):
        whole = network.get_submodule(path)
        plain = _without(whole, containers[path])
        if whole is network:
            network = plain
        for module in list(network.modules()):
            for name, child in module._modules.items():
                if child is whole:
                    module._modules[name] = plain
    for module in network.modules():
        # A module that changed the sum in place would now change the shortcut, which other modules may read.
        if containers and getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return network


def _without(container: nn.Module, dead: Iterable[Addition]) -> nn.Module:
    dead = list(dead)
    graph = _graph(container, dead[0].through)
    assert graph is not None
    plain = fx.GraphModule(container, graph)
    nodes = {node.name: node for node in plain.graph.nodes}
    for addition in dead:
        node = nodes[addition.node]
        other = node.args[1 - addition.place]
        assert isinstance(other, fx.Node)
        node.replace_all_uses_with(other)
    plain.graph.eliminate_dead_code()
    plain.delete_all_unused_submodules()
    plain.recompile()
    plain.training = container.training
    return plain


def _of_two(step: Step) -> bool:
    """Whether an addition has two tensors of the same shape, without a factor."""
    one, other = step.args[:2]
    if not (isinstance(one, TracedTensor) and isinstance(other, TracedTensor)) or step.args.named("alpha") != 1:
        return False
    return [axis.size for axis in one.axes] == [axis.size for axis in other.axes]


def _only_adds(module: nn.Module) -> bool:
    return not module._modules and not module._parameters and not module._buffers


def _branch(flow: Flow, step: Step) -> TracedTensor | None:
    """Return the argument that is computed by more layers; None: both have the same number."""
    own = [flow.ancestors(each) for each in step.args[:2]]
    depths = [sum(each.name in _LAYERS for each in one - other) for one, other in (own, own[::-1])]
    branch: TracedTensor = step.args[depths[1] > depths[0]]
    return None if depths[0] == depths[1] else branch


class _Tracer(fx.Tracer):
    """Traces one forward; the modules that it calls are nodes."""

    def __init__(self, through: frozenset[str]) -> None:
        super().__init__()
        self._through = through

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether the module is one node."""
        return module_qualified_name not in self._through


def _graph(container: nn.Module, through: frozenset[str]) -> fx.Graph | None:
    """Return the graph of a module's own forward; None: torch.fx cannot trace it."""
    try:
        return _Tracer(through).trace(container)
    except Exception:  # whatever code raises that meets a value without a shape
        return None


def _nodes(graph: fx.Graph | None) -> Iterator[tuple[fx.Node, int]]:
    """Yield each addition of two nodes, with the number of each of its arguments."""
    for node in graph.nodes if graph is not None else ():
        added = (node.op == "call_function" and node.target in _ADDITIONS) or (
            node.op == "call_method" and node.target in ("add", "add_")
        )
        if added and not node.kwargs and len(node.args) == 2 and all(isinstance(each, fx.Node) for each in node.args):
            yield node, 0
            yield node, 1


def _origin(node: fx.node.Argument) -> str | None:
    """Return the path of the module behind functions of one argument; None: there is no such module."""
    while isinstance(node, fx.Node):
        if node.op == "call_module":
            return str(node.target)
        if len(node.all_input_nodes) != 1:
            return None
        node = node.all_input_nodes[0]
    return None
