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
"""In the order of the digits 0 to 4."""

DECISIONS = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
"""The decisions in the order of the digits: ``source>target``, one for each edge of the cell."""


@final
class NASBench201(CodedSpace):
    """The space. With the default settings its networks are those of the published table, for CIFAR-10.

    Decisions ``0>1`` to ``2>3`` are choices of an operation for that edge, the same in all cells of the network; the
    code ``"421211"`` lists their numbers, and `from_string` reads the benchmark's own ``|avg_pool_3x3~0|+...``.

    ``canonical`` is the first cell of the published table that the benchmark counts as the same, taking sums to commute
    and skips to be nothing: 6,466 are different. That is not quite equality of functions. A sum of nothing but zeros is
    not taken for zero, nor are sums within sums merged, so equal cells stay apart; and a convolution whose output is
    used twice counts like two convolutions of the same form. In a supernet all have weights of their own.

    Networks are built as they are written, as in the benchmark: operations whose result is not used run as well, and
    count among parameters and FLOPs. So costs add up over the decisions.

    Args:
        num_classes: outputs.
        input_shape: channels, height and width of an image, both multiples of 4: it is halved twice.
        channels: of the first stage; the others have 2 and 4 times as many.
        cells: of each of the three stages.
        affine: whether batch normalisation in the cells has weights and biases: yes in the published networks, no in
            most supernets. Elsewhere it always has.

    Raises:
        SpaceError: a number below 1, or images that cannot be halved twice.
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
                f"images are halved twice, so height and width are multiples of 4, not {height}x{width}; resize them"
            )
        super().__init__(
            DECISIONS,
            OPERATIONS,
            parametric=("nor_conv_1x1", "nor_conv_3x3"),
            input_shape=(image_channels, height, width),
        )
        self._num_classes, self._channels, self._cells, self._affine = num_classes, channels, cells, affine

    def network(self) -> nn.Module:
        """Return the network with its six choices, with fresh weights."""
        from automl_nas_benchmarks.spaces.nasbench201_network import nasbench201_network

        return nasbench201_network(
            num_classes=self._num_classes,
            image_channels=self.input_shape[0],
            channels=self._channels,
            cells=self._cells,
            affine=self._affine,
        )

    def canonical_code(self, code: str) -> str:
        """Return the code of the first cell of the published table that the benchmark counts as the same."""
        return _representatives()[code]

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return one part for each cell; all of them depend on all decisions."""
        return (DECISIONS,) * (3 * self._cells)

    def from_string(self, text: str) -> Architecture:
        """Return the architecture of the benchmark's notation: for each node, ``|operation~source|...``.

        Raises:
            SpaceError: it is no such text.
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
            raise SpaceError(f"'{text}' is no cell of NAS-Bench-201: {error}") from None

    def to_string(self, architecture: Architecture) -> str:
        """Invert `from_string`.

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
