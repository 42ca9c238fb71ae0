"""The time of a phase-2 step of DSO-NAS in three implementations, and its dependence on the number of pruned edges.

A step is forward, backward and an update of the weights on one batch, and the same for lambda on another batch. The
network is that of the paper for CIFAR-10 with fewer and narrower blocks.

- by hand, edge by edge: each edge multiplies a feature map by its lambda, the products are added one by one, and the
  output is a 1x1 convolution of the concatenation of the weighted maps.
- automl_nas: the same network and the same lambda, called as ``supernet(x, selection)``.
- operations alone, a lower bound: each operation reads the block's input, and the 1x1 convolution reads the
  concatenation of their outputs. This is the time of a step if edges took no time.

All three run in turns, in CPU time; the first two must agree in double precision. The goal is to close half of the gap
between the first and the last. Then edges are pruned at random. In the masked supernet, pruned edges are multiplied by
zero; in the restricted supernet, they are removed together with the operations that become unused.

    OMP_NUM_THREADS=1 python benchmarks/dso_step.py [--width 16] [--size 16] [--batch 64] [--rounds 11]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.space import Architecture, Dag, Weighted
from automl_nas.streams import stream
from automl_nas_dso.optimiser import APGNAG
from automl_nas_dso.space import DsoSpace

FRACTIONS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
Forward = Callable[["Side", Tensor, Mapping[str, Tensor]], tuple[Tensor, list[Tensor]]]
"""Returns the outputs, and the tensors of which the step for lambda computes gradients."""


class Side:
    """A network with its lambda, its optimisers and a function that runs it."""

    def __init__(self, space: DsoSpace, forward: Forward, live: Architecture | None = None) -> None:
        self.space, self.forward = space, forward
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.supernet = space.build_supernet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.live = all_edges(space) if live is None else live
        if live is not None:
            self.supernet.restrict({name: value for name, value in live.items() if isinstance(value, tuple)})
        self.weights = [parameter for parameter in self.supernet.parameters() if parameter.requires_grad]
        self.gates = {
            name: nn.Parameter(torch.ones(len(value), dtype=self.weights[0].dtype))
            for name, value in self.live.items()
            if isinstance(value, tuple) and value
        }
        self.sgd = torch.optim.SGD(self.weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        # Without a penalty, so that no edge dies during the comparison.
        self.apg = APGNAG(list(self.gates.values()), lr=0.1, momentum=0.9) if self.gates else None

    def double(self) -> Side:
        """Convert the network to double precision, and return this object."""
        self.supernet.double()
        for gate in self.gates.values():
            gate.data = gate.data.double()
        return self

    def step(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
        """Update the weights on one batch, and lambda on another."""
        x, y = first
        outputs, _ = self.forward(self, x, {name: gate.detach() for name, gate in self.gates.items()})
        for weight, grad in zip(
            self.weights, torch.autograd.grad(F.cross_entropy(outputs, y), self.weights), strict=True
        ):
            weight.grad = grad.clamp_(-2, 2)
        self.sgd.step()
        if self.apg is None:
            return
        x, y = second
        outputs, gate_inputs = self.forward(self, x, self.gates)
        grads = torch.autograd.grad(F.cross_entropy(outputs, y), gate_inputs)
        for gate, grad in zip(self.gates.values(), itertools.cycle(grads), strict=False):
            gate.grad = grad if grad.shape == gate.shape else torch.zeros_like(gate)
        self.apg.step()


def automl_nas(side: Side, x: Tensor, gates: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Call the supernet."""
    selection = {name: Weighted(side.live[name], gate) for name, gate in gates.items()}
    return side.supernet(x, selection), list(gates.values())


def masked(mask: Mapping[str, Tensor]) -> Forward:
    """Return a function that calls the whole supernet with lambda multiplied by a mask."""

    def forward(side: Side, x: Tensor, gates: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        return side.supernet(x, {name: gate * mask[name] for name, gate in gates.items()}), list(gates.values())

    return forward


def by_hand(side: Side, x: Tensor, gates: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Compute the equations edge by edge."""

    def block(dag: Dag, number: int, x: Tensor) -> Tensor:
        graph, maps = side.space.blocks[number], {"input": x}
        for node in graph.operations:
            lambdas = gates[graph.decisions[node]].unbind(0)
            terms = [gate * maps[source] for gate, source in zip(lambdas, graph.sources[node], strict=True)]
            maps[node] = dag.nodes[node](sum(terms[1:], terms[0]))
        lambdas = gates[graph.decisions["output"]].unbind(0)
        return combine(dag, x, {s: gate * maps[s] for gate, s in zip(lambdas, graph.sources["output"], strict=True)})

    return run(side, x, block)[0], list(gates.values())


def operations_alone(side: Side, x: Tensor, gates: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Run the operations and the 1x1 convolutions without the edges."""

    def block(dag: Dag, number: int, x: Tensor) -> Tensor:
        return combine(dag, x, {node: dag.nodes[node](x) for node in side.space.blocks[number].operations})

    outputs, stem = run(side, x, block)
    return outputs, [stem]


def combine(dag: Dag, x: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
    """Return the output of a block: concatenate the maps, convolve, and add the shortcut."""
    assert dag.projection is not None
    assert dag.after is not None
    assert dag.shortcut is not None
    weight = torch.cat([dag.projection[source] for source in maps], dim=1)
    result: Tensor = dag.after(F.conv2d(torch.cat(list(maps.values()), dim=1), weight)) + dag.shortcut(x)
    return result


def run(side: Side, x: Tensor, block: Callable[[Dag, int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Run the network, and its blocks with a function; return the outputs and the input of the first block."""
    network = side.supernet.get_submodule("network")
    number = 0
    h = stem = network.get_submodule("stem")(x)
    for stage in range(1, len(side.space.layout.blocks) + 1):
        for name, module in network.get_submodule(f"stage{stage}").named_children():
            if name.startswith("block"):
                assert isinstance(module, Dag)
                h, number = block(module, number, h), number + 1
            else:
                h = module(h)
    return network.get_submodule("head")(h), stem


def all_edges(space: DsoSpace) -> Architecture:
    """Return the architecture with all edges."""
    return Architecture({name: decision.options for name, decision in space.decisions.items()})


def batches(options: argparse.Namespace, dtype: torch.dtype, size: int) -> list[tuple[Tensor, Tensor]]:
    """Return two batches of noise."""
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 3, options.size, options.size, generator=generator)
            .to(dtype)
            .contiguous(memory_format=torch.channels_last),
            torch.randint(10, (size,), generator=generator),
        )
        for _ in range(2)
    ]


def in_turns(sides: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Return the CPU seconds of each side in each round; every second round has the reverse order."""
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            begun = time.process_time()
            sides[name]()
            times[name].append(time.process_time() - begun)
    return {name: np.array(each) for name, each in times.items()}


def with_interval(values: np.ndarray) -> str:
    """Return the median with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (10_000, len(values))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return f"{np.median(values):.2f} ({low:.2f} to {high:.2f})"


def agreement(space: DsoSpace, options: argparse.Namespace) -> float:
    """Return the largest difference of weights and lambda between both sides after two steps in double precision."""
    sides = [Side(space, forward).double() for forward in (by_hand, automl_nas)]
    data = batches(options, torch.float64, 4)
    for _ in range(2):
        for side in sides:
            side.step(data[0], data[1])
    pairs = zip(*([*side.weights, *side.gates.values()] for side in sides), strict=True)
    return max((one - other).abs().max().item() for one, other in pairs)


def dense(space: DsoSpace, options: argparse.Namespace) -> None:
    """Print the comparison of the three implementations."""
    data = batches(options, torch.float32, options.batch)
    names = {"by hand": by_hand, "automl_nas": automl_nas, "operations alone": operations_alone}
    sides = {name: Side(space, forward) for name, forward in names.items()}
    times = in_turns(steps(sides, data), options.rounds)
    print(f"largest difference after two steps in double precision: {agreement(space, options):.1e}")
    naive, ours, ceiling = (times[name] for name in names)
    for name, each in times.items():
        print(f"{name:<18} {np.median(each) * 1e3:8.1f} ms   by hand / this: {with_interval(naive / each)}")
    print(f"closed part of the gap: {with_interval((naive - ours) / (naive - ceiling))}")


def edges_at_random(space: DsoSpace) -> list[tuple[str, str]]:
    """Return all edges in a random order of pruning."""
    edges = [(name, str(source)) for name, decision in space.decisions.items() for source in decision.options]
    return stream(1, "edges").sample(edges, len(edges))


def operation_by_operation(space: DsoSpace) -> list[tuple[str, str]]:
    """Return all edges in an order of pruning that keeps the edges from and to an operation together."""
    block = space.blocks[0]
    nodes = stream(1, "operations").sample(list(block.operations), len(block.operations))
    edges = edges_at_random(space)
    of = [[edge for edge in edges if node in (edge[0].rpartition(".")[2], edge[1])] for node in nodes]
    return list(dict.fromkeys(edge for own in of for edge in own))


def sparse(space: DsoSpace, options: argparse.Namespace) -> None:
    """Print the times of masked and restricted supernets relative to the dense one, by the share of pruned edges."""
    data = batches(options, torch.float32, options.batch)
    whole = sum(block.full_cost.flops for block in space.blocks)
    for order in (operation_by_operation, edges_at_random):
        edges = order(space)
        print(f"\npruned {order.__name__.replace('_', ' ')}; time relative to the dense network")
        print(f"{'pruned':>7} {'live edges':>11} {'operations':>11} {'FLOPs':>6} {'masked':>22} {'restricted':>22}")
        for fraction in FRACTIONS:
            pruned = set(edges[: round(fraction * len(edges))])
            remaining = {
                name: tuple(source for source in decision.options if (name, source) not in pruned)
                for name, decision in space.decisions.items()
            }
            live = space.canonical(Architecture(remaining))
            mask = {
                name: torch.tensor([float(source in remaining[name]) for source in decision.options])
                for name, decision in space.decisions.items()
            }
            graph = space.blocks[0].live(live)
            flops = sum(block.cost(block.live(live)).flops for block in space.blocks)
            sides = {
                "dense": Side(space, automl_nas),
                "masked": Side(space, masked(mask)),
                "restricted": Side(space, automl_nas, live),
            }
            times = in_turns(steps(sides, data), options.rounds)
            print(
                f"{fraction:7.0%} {sum(map(len, graph.values())):>11} {len(graph.keys() - {'output'}):>11} "
                f"{flops / whole:>6.2f} {with_interval(times['masked'] / times['dense']):>22} "
                f"{with_interval(times['restricted'] / times['dense']):>22}"
            )


def steps(sides: Mapping[str, Side], data: list[tuple[Tensor, Tensor]]) -> dict[str, Callable[[], None]]:
    """Return functions that make a step of each side on the same data."""
    return {name: (lambda own=side: own.step(data[0], data[1])) for name, side in sides.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
    parser.add_argument("--size", type=int, default=16, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=1, help="blocks of each of the three stages")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--dense", action="store_true", help="print the first table only")
    options = parser.parse_args()
    size = options.size
    space = DsoSpace(width=options.width, blocks=(options.blocks,) * 3, input_shape=(3, size, size))
    print(
        f"3 x {options.blocks} blocks of 4 x 4 operations, {options.width} channels, batch {options.batch}, "
        f"{size}x{size} images, {torch.get_num_threads()} threads"
    )
    dense(space, options)
    if not options.dense:
        sparse(space, options)


if __name__ == "__main__":
    main()
