"""Derived cells, and the published ones."""

from __future__ import annotations

from dataclasses import dataclass

Inputs = tuple[tuple[str, int], ...]
"""The inputs of a node: (operation, source). Sources 0 and 1 are the outputs of the two cells before, 2 is a node."""


@dataclass(frozen=True)
class CellPlan:
    """A derived cell.

    Attributes:
        nodes: the inputs of each node.
        output: the states whose concatenation is the output of the cell.
    """

    nodes: tuple[Inputs, ...]
    output: tuple[int, ...] = (2, 3, 4, 5)


@dataclass(frozen=True)
class Genotype:
    """The two derived cells of a network.

    Attributes:
        normal: the cell that keeps the size of its input.
        reduce: the cell that halves it.
    """

    normal: CellPlan
    reduce: CellPlan


_SHORT = {
    "s3": "sep_conv_3x3",
    "s5": "sep_conv_5x5",
    "s7": "sep_conv_7x7",
    "d3": "dil_conv_3x3",
    "d5": "dil_conv_5x5",
    "id": "skip_connect",
    "mp": "max_pool_3x3",
    "ap": "avg_pool_3x3",
    "c7": "conv_7x1_1x7",
}


def _cell(text: str, output: tuple[int, ...] = (2, 3, 4, 5)) -> CellPlan:
    """Return the cell of a short notation: ``operation source`` twice for each node, nodes separated by commas."""
    nodes = []
    for node in text.split(","):
        words = node.split()
        nodes.append(tuple((_SHORT[words[at]], int(words[at + 1])) for at in range(0, len(words), 2)))
    return CellPlan(tuple(nodes), output)


_ALL = (2, 3, 4, 5, 6)

PUBLISHED = {
    "DARTS_V1": Genotype(
        _cell("s3 1 s3 0, id 0 s3 1, id 0 s3 1, s3 0 id 2"), _cell("mp 0 mp 1, id 2 mp 0, mp 0 id 2, id 2 ap 0")
    ),
    "DARTS_V2": Genotype(
        _cell("s3 0 s3 1, s3 0 s3 1, s3 1 id 0, id 0 d3 2"), _cell("mp 0 mp 1, id 2 mp 1, mp 0 id 2, id 2 mp 1")
    ),
    "PC_DARTS_cifar": Genotype(
        _cell("s3 1 id 0, s3 0 d3 1, s5 0 s3 1, ap 0 d3 1"), _cell("s5 1 mp 0, s5 1 s5 2, s3 0 s3 3, s3 1 s3 2")
    ),
    "PC_DARTS_image": Genotype(
        _cell("id 1 s3 0, s3 0 id 1, s3 1 s3 3, s3 1 d5 4"), _cell("s3 0 id 1, d5 2 mp 1, s3 2 s3 1, s5 0 s3 3")
    ),
    "DrNAS_cifar10": Genotype(
        _cell("s3 0 s5 1, s3 1 s3 2, id 0 s3 1, s3 2 d5 3"), _cell("mp 0 s5 1, d5 2 s5 1, s5 1 d5 3, id 4 s5 1")
    ),
    "DrNAS_imagenet": Genotype(
        _cell("s3 1 s3 0, s3 0 s3 1, s3 0 d3 3, id 0 s3 1"), _cell("mp 0 s3 1, s3 0 id 2, s3 0 s3 2, s3 3 s3 1")
    ),
    "NASNet": Genotype(
        _cell("s5 1 s3 0, s5 0 s3 0, ap 1 id 0, ap 0 ap 0, s3 1 id 1", _ALL),
        _cell("s5 1 s7 0, mp 1 s7 0, ap 1 s5 0, id 3 ap 2, s3 2 mp 1", (4, 5, 6)),
    ),
    "AmoebaNet": Genotype(
        _cell("ap 0 mp 1, s3 0 s5 2, s3 0 ap 3, s3 1 id 1, id 0 ap 1", (4, 5, 6)),
        _cell("ap 0 s3 1, mp 0 s7 2, s7 0 ap 1, mp 0 mp 1, c7 0 s3 5", (3, 4, 6)),
    ),
}
"""Cells of published searches, as their authors' codes list them."""
