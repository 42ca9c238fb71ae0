"""The cost model `bit_ops`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from automl_nas.errors import SpaceError, UserError
from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace, example_input, run_on_example
from automl_nas_quantization.layers import QuantizedLayer
from automl_nas_quantization.precision import FLOAT, Precision

_FLOAT = Precision(FLOAT, FLOAT)


@final
class BitOps(CostModel):
    """Bit operations: multiply-adds times bits of weights times bits of activations, for one input.

    The sum is over all convolutions, linear layers and matrix products, as SPOS (arXiv 1904.00420, section 4) counts
    quantised networks. What is not quantised counts as 32 times 32 bits. Biases, normalisation, activations and
    elementwise arithmetic count 0. The numbers of the paper's table are those of the searched layers, in units of 2^30.

    Args:
        space: any search space that can build networks.
        layers: ``all``, or ``searched``: only layers whose precision is a decision, so neither the first nor the last
            layer, as in the paper's table.
    """

    metric: ClassVar[str] = "bit_ops"
    unit: ClassVar[str] = "bit operations"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, *, layers: Literal["all", "searched"] = "all") -> None:
        self._space, self._searched_only = space, layers == "searched"

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> bit operations of the module itself; those of other matrix products have an empty path.

        Raises:
            SpaceError: the network cannot be built or run.
        """
        network, macs, total = multiply_adds(self._space, architecture)
        costs: dict[str, float] = {}
        counted = 0
        for path, _ in network.named_modules():
            if path in macs:
                counted += macs[path]
                precision, searched = _precision_of(network, path)
                if searched or not self._searched_only:
                    costs[path] = macs[path] * precision.weights * precision.activations
        if (rest := total - counted) and not self._searched_only:
            costs[""] = costs.get("", 0) + rest * FLOAT * FLOAT
        return costs

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return the convention."""
        layers = "searched layers only" if self._searched_only else "all layers; float32 counts as 32 x 32 bits"
        return [f"multiply-adds times weight bits times activation bits of {layers}"]


def _precision_of(network: nn.Module, path: str) -> tuple[Precision, bool]:
    """Return the precision of a layer, and whether it is a decision."""
    parent = path.rpartition(".")[0]
    owner = network.get_submodule(parent)
    if isinstance(owner, QuantizedLayer):
        return owner.precision, owner.searched
    return _FLOAT, False


def multiply_adds(space: SearchSpace, architecture: Architecture) -> tuple[nn.Module, Mapping[str, int], int]:
    """Return a network on meta tensors, multiply-adds of its convolutions and linear layers by path, and of all of it.

    Raises:
        SpaceError: the network cannot be built or run on meta tensors.
    """
    if not space.input_shape:
        raise SpaceError(
            f"{type(space).__name__} has no input shape, so its networks cannot be run to count their cost"
        )
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            network = space.build(architecture).eval()
        macs, total = _count(network, tuple(space.input_shape))
        return network, macs, total
    except UserError:
        raise
    except Exception as error:
        raise SpaceError(
            f"the network of {architecture.key} cannot be run on one input of shape {tuple(space.input_shape)} without "
            f"data: {type(error).__name__}: {error}"
        ) from error


def _count(network: nn.Module, shape: tuple[int, ...]) -> tuple[Mapping[str, int], int]:
    macs: dict[str, int] = {}

    def record(path: str, weight: Tensor, output: Tensor) -> None:
        macs[path] = macs.get(path, 0) + output.numel() * math.prod(weight.shape[1:])

    handles = []
    for path, module in network.named_modules():
        # A quantised layer does not call the layer inside it.
        inner = module.layer if isinstance(module, QuantizedLayer) else module
        if isinstance(inner, nn.Conv1d | nn.Conv2d | nn.Linear):
            place = f"{path}.layer" if inner is not module else path

            def hook(_module: nn.Module, _inputs: Any, output: Tensor, place: str = place, layer: Any = inner) -> None:
                record(place, layer.weight, output)

            handles.append(module.register_forward_hook(hook))
    counter = FlopCounterMode(display=False)

    def run(inputs: Tensor) -> None:
        macs.clear()
        with counter:  # which begins at 0
            network(inputs)

    try:
        with torch.no_grad():
            run_on_example(run, example_input(network, shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    # It counts a multiplication and an addition as two.
    return macs, counter.get_total_flops() // 2
