"""The search space of NAS-Bench-201: a cell of six edges, five operations each, 15,625 networks.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020,
arXiv 2001.00326.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, final

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture
from automl_nas_benchmarks.spaces.coded_space import CodedSpace, check_positive

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The options of every decision, in the order of the digits 0 to 4."""

DECISIONS = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
"""The decisions in the order of the digits: ``source>target``, one for each edge of the cell."""


@final
class NASBench201(CodedSpace):
    """The space of NAS-Bench-201. With the default settings its networks are those of the table for CIFAR-10.

    The decisions ``0>1`` to ``2>3`` choose the operation of an edge, the same in all cells of the network. The code
    ``"421211"`` lists the numbers of the operations; `from_string` reads the benchmark's notation
    ``|avg_pool_3x3~0|+...``.

    ``canonical`` is the first cell of the published table that the benchmark counts as equal; it treats sums as
    commutative and skip connections as identities, which gives 6,466 different cells. This is not exactly equality of
    functions: a sum of zeros is not replaced by zero and nested sums are not merged, so some equal cells count as
    different; and a convolution whose output is used twice counts as equal to two convolutions of the same form. In a
    supernet all of these have weights of their own.

    As in the benchmark, a network also runs operations whose output is not used; they count among parameters and
    FLOPs. So costs are sums over the decisions.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. The network halves it twice: height and width must be
            multiples of 4.
        channels: channels of the first stage; the other stages have 2 and 4 times as many.
        cells: number of cells of each of the three stages.
        affine: whether batch normalisation in the cells has weights and biases: yes in the published networks, no in
            most supernets. Outside the cells it always has them.

    Raises:
        SpaceError: a number is below 1, or an image cannot be halved twice.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        channels: int = 16,
        cells: int = 5,
        affine: bool = True,
    ) -> None:
        image_channels, height, width = input_shape
        check_positive(num_classes=num_classes, image_channels=image_channels, channels=channels, cells=cells)
        if height < 4 or width < 4 or height % 4 or width % 4:
            raise SpaceError(
                f"height and width must be multiples of 4 (images are halved twice), not {height}x{width}; "
                "resize the images"
            )
        super().__init__(
            DECISIONS,
            OPERATIONS,
            parametric=("nor_conv_1x1", "nor_conv_3x3"),
            input_shape=(image_channels, height, width),
        )
        self._num_classes, self._channels, self._cells, self._affine = num_classes, channels, cells, affine

    def network(self) -> nn.Module:
        """Return the network with its six decisions as choice modules, with fresh weights."""
        from automl_nas_benchmarks.spaces.nasbench201_network import nasbench201_network

        return nasbench201_network(
            num_classes=self._num_classes,
            image_channels=self.input_shape[0],
            channels=self._channels,
            cells=self._cells,
            affine=self._affine,
        )

    def canonical_code(self, code: str) -> str:
        """Return the code of the first cell of the published table that the benchmark counts as equal."""
        return _representatives()[code]

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return one segment for each cell; every segment depends on all decisions."""
        return (DECISIONS,) * (3 * self._cells)

    def from_string(self, text: str) -> Architecture:
        """Return the architecture of a string in the benchmark's notation: for each node, ``|operation~source|...``.

        Raises:
            SpaceError: the string is not a cell in this notation.
        """
        nodes = [[part for part in node.split("|") if part] for node in text.split("+")]
        values: dict[str, str] = {}
        for target, parts in enumerate(nodes, start=1):
            for part in parts:
                operation, _, source = part.rpartition("~")
                values[f"{source}>{target}"] = operation
        try:
            return self.validate(values)
        except SpaceError as error:
            raise SpaceError(f"'{text}' is not a cell of NAS-Bench-201: {error}") from None

    def to_string(self, architecture: Architecture) -> str:
        """Return an architecture in the benchmark's notation, the inverse of `from_string`.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        values = self.validate(architecture)
        return "+".join(
            "|" + "|".join(f"{values[f'{source}>{target}']}~{source}" for source in range(target)) + "|"
            for target in (1, 2, 3)
        )


@cache
def _representatives() -> dict[str, str]:
    from automl_nas_benchmarks.tables.packaged import load_table

    table = load_table("nasbench201")
    assert table.representatives is not None
    return {code: table.codes[row] for code, row in zip(table.codes, table.representatives.tolist(), strict=True)}
