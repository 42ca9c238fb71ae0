"""What one operator costs: multiply-adds and memory accesses from the shapes of its tensors.

Conventions (SPOS, section 4; DSO-NAS, section 4.4; ShuffleNetV2, guideline 1):

- multiply-adds: one multiplication and one addition count as one. Adding a bias, normalisation, activations, pooling
  and all elementwise operators count 0. Padding is multiplied like any other value.
- memory access: every element of the inputs is read once, every weight is read once, every element of the output is
  written once; biases are left out. For a 1x1 convolution that is ``h w (c1 + c2) + c1 c2`` (ShuffleNetV2, equation 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

Formula: TypeAlias = "Callable[[Sequence[Any], Tensor], Cost]"


@dataclass(frozen=True)
class Cost:
    """What one call of one operator costs.

    Attributes:
        macs: multiply-adds.
        accesses: elements read and written.
    """

    macs: int
    accesses: int


def convolution(args: Sequence[Any], out: Tensor) -> Cost:
    """Cost a convolution of any dimension, stride, dilation and number of groups, transposed or not.

    Each output element (each input element, if transposed) takes one filter: ``c_in / groups`` (``c_out / groups``)
    times the kernel's area.
    """
    x, weight, transposed = args[0], args[1], args[6]
    points = x.numel() if transposed else out.numel()
    return Cost(points * (weight.numel() // weight.shape[0]), x.numel() + weight.numel() + out.numel())


def _product(a: Tensor, b: Tensor, out: Tensor) -> Cost:
    # The last dimension of `a` is summed over, whatever the number of batch, row and column dimensions.
    return Cost(out.numel() * a.shape[-1], a.numel() + b.numel() + out.numel())


def product(args: Sequence[Any], out: Tensor) -> Cost:
    """Cost ``a @ b`` for matrices, batches of matrices and vectors."""
    return _product(args[0], args[1], out)


def added_product(args: Sequence[Any], out: Tensor) -> Cost:
    """Cost ``c + a @ b``; the addition of c is a bias."""
    return _product(args[1], args[2], out)


def summed_product(args: Sequence[Any], out: Tensor) -> Cost:
    """Cost ``c + sum over the batch of a @ b``."""
    a, b = args[1], args[2]
    return Cost(a.numel() * b.shape[-1], a.numel() + b.numel() + out.numel())


def attention(args: Sequence[Any], out: Tensor) -> Cost:
    """Cost a fused attention as the two matrix products that it fuses.

    The whole score matrix counts, also under a causal mask, and is written and read, so that the cost does not depend
    on the kernel that a device chooses. Keys and values shared by several query heads count once per head.
    """
    query, key, value = args[0], args[1], args[2]
    scores = query.numel() // query.shape[-1] * key.shape[-2]
    repeats = query.shape[1] // key.shape[1]
    first = query.numel() + key.numel() * repeats + scores
    second = scores + value.numel() * repeats + out.numel()
    return Cost(scores * (query.shape[-1] + value.shape[-1]), first + second)


def bilinear(args: Sequence[Any], out: Tensor) -> Cost:
    """Cost a bilinear layer, ``sum over i and j of weight[o, i, j] x[i] y[j]``, as the two products that torch makes.

    For each sample and output x is multiplied with a matrix, and the result, which is written and read, with y.
    """
    x, weight, y = args[0], args[1], args[2]
    between = out.numel() * y.shape[-1]
    first = x.numel() + weight.numel() + between
    second = between + y.numel() + out.numel()
    return Cost(between * x.shape[-1] + between, first + second)


def moved(args: Sequence[Any], out: Tensor) -> Cost:
    """Cost a pooling: its input is read, its output written, nothing is multiplied."""
    return Cost(0, args[0].numel() + out.numel())


_FORMULAS: dict[str, Formula] = {
    "convolution": convolution,
    "_convolution": convolution,
    "mm": product,
    "bmm": product,
    "mv": product,
    "dot": product,
    "vdot": product,
    "addmm": added_product,
    "addmv": added_product,
    "baddbmm": added_product,
    "addbmm": summed_product,
    "_trilinear": bilinear,  # torch calls it for bilinear layers alone
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_scaled_dot_product_cudnn_attention": attention,
    "_scaled_dot_product_fused_attention_overrideable": attention,
}

# Operators that multiply matrices and have no formula: fused layers, sparse and quantised kernels.
_MULTIPLIES = re.compile(
    r"(?:^|_)(?:add|b|int|sp|bsr_dense_)?(?:mm|mv|matmul|dot|conv|conv[123]d|convolution|linear|trilinear"
    r"|attention|rnn|lstm|gru|cdist)(?:_|$)"
)
_REDUCTIONS = frozenset({"mean", "amax"})


def formula(namespace: str, name: str, args: Sequence[Any]) -> Formula | None:
    """Return the formula of an operator, or None if the operator counts 0.

    Args:
        namespace: ``aten`` for torch's own operators.
        name: the operator's name without its overload.
        args: of the call.

    Raises:
        LookupError: the operator may multiply and has no formula.
    """
    if namespace not in ("aten", "prim", "prims"):
        raise LookupError
    if name in _FORMULAS:
        return _FORMULAS[name]
    if "pool" in name or (name in _REDUCTIONS and _is_global_pool(args)):
        return moved
    if _MULTIPLIES.search(name):
        raise LookupError
    return None


def _is_global_pool(args: Sequence[Any]) -> bool:
    """Whether a reduction runs over all spatial dimensions: torch turns adaptive pooling to size 1 into a mean."""
    rank = args[0].dim()
    dims = args[1] if len(args) > 1 else None
    return rank > 2 and isinstance(dims, Sequence) and sorted(d % rank for d in dims) == list(range(2, rank))
