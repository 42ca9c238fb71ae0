"""The search space of NAS-Bench-Macro: eight layers, three candidates each, 6,561 networks.

Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021, arXiv 2103.11922.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from automl_nas_benchmarks.spaces.coded_space import CodedSpace, check_positive

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("identity", "k3_e3", "k5_e6")
"""The options in the order of the digits: identity, and MobileNetV2 blocks of kernel 3, expansion 3 and of 5, 6."""

LAYERS = tuple(f"layer_{number}" for number in range(1, 9))
"""The decisions in the order of the digits. Layers 1, 3 and 6 halve height and width."""

_EXCHANGEABLE = ((3, 5), (6, 8))
"""Ranges of digits of consecutive layers that keep the shape: the order of identities and blocks is irrelevant."""


@final
class NASBenchMacro(CodedSpace):
    """The space of NAS-Bench-Macro. With the default settings its networks are those of the table, for CIFAR-10.

    The decisions ``layer_1`` to ``layer_8`` are choices of `OPERATIONS`; the code ``"22212220"`` lists their numbers.
    In layers 1, 3 and 6, which halve height and width and double the channels, ``identity`` is a 1x1 convolution with
    stride 2 and batch normalisation.

    ``canonical`` moves identities before blocks among layers 4 and 5, and among layers 7 and 8: 3,969 networks are
    different. In the published table equal networks have equal accuracies. In a supernet they have weights of their
    own, so their scores may differ.

    In a supernet the block ``k3_e3`` of a layer is a part of its block ``k5_e6``: the centre of its kernels and its
    first channels. Batch normalisation is separate. Such a supernet orders the networks better
    (docs/results/supernets.md).

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. The network halves it three times.
        channels: channels of the stem; the stages have 2, 4 and 8 times as many. 16 with ``last_channels`` 640 is half
            width.
        last_channels: channels of the 1x1 convolution before the pooling.
        affine: whether batch normalisation has weights and biases: yes in the published networks; SPOS trains
            supernets without them.
        shared: whether blocks share weights in a supernet; False: each has its own, as in the paper. Networks that are
            built alone are the same.

    Raises:
        SpaceError: a number is below 1.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        channels: int = 32,
        last_channels: int = 1280,
        affine: bool = True,
        shared: bool = True,
    ) -> None:
        image_channels, height, width = input_shape
        check_positive(
            num_classes=num_classes,
            image_channels=image_channels,
            height=height,
            width=width,
            channels=channels,
            last_channels=last_channels,
        )
        super().__init__(LAYERS, OPERATIONS, parametric=OPERATIONS[1:], input_shape=(image_channels, height, width))
        self._num_classes, self._channels, self._last_channels = num_classes, channels, last_channels
        self._affine, self._shared = affine, shared

    def network(self) -> nn.Module:
        """Return the network with its eight decisions as choice modules, with fresh weights."""
        from automl_nas_benchmarks.spaces.nasbench_macro_network import macro_network

        return macro_network(
            num_classes=self._num_classes,
            image_channels=self.input_shape[0],
            channels=self._channels,
            last_channels=self._last_channels,
            affine=self._affine,
            shared=self._shared,
        )

    def canonical_code(self, code: str) -> str:
        """Return the lowest code of an equal network: identities come before blocks that keep the shape."""
        for first, last in _EXCHANGEABLE:
            blocks = code[first:last].replace("0", "")
            code = code[:first] + blocks.rjust(last - first, "0") + code[last:]
        return code

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return one segment for each layer."""
        return tuple((name,) for name in LAYERS)
