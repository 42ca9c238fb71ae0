"""What operators of torch that compute say about the axes of their inputs and outputs; `views` has the others.

Operators are those that torch dispatches in evaluation mode without gradients, so composite layers (attention, SE,
window partitions) need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from automl_nas.channels.axis import Axis, MismatchError, divide, product, unify
from automl_nas.channels.rules import Arguments, Axes, Recorder, Rule, constants, created, dims_of, registered, rule

ATTENTION = "the width of an attention head, over which dot products are scaled"
NUMBERED = "it meets values that the code makes from the positions of its elements"
MOVED = "the network moves, counts or adds up its elements by their positions"
NEIGHBOURS = "a convolution, pooling or resizing combines neighbours along it"
SHARES = "a softmax divides 1 among its elements"


def rule_of(func: Any) -> Rule | None:
    """Return the rule of an operator; None: it has none."""
    name = func.overloadpacket.__name__
    own = registered(name)
    if own is None and torch.Tag.pointwise in func.tags:
        return pointwise
    return own


@rule("elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "mish", "_prelu_kernel", "copy", "where", "masked_fill")
@rule("native_dropout", "_to_copy", "clone", "detach", "alias", "contiguous", "lift_fresh", "bernoulli", "silu")
def pointwise(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    """Unify the dimensions of all inputs, aligned at the last one; a dimension of size 1 is repeated."""
    result: list[Axis | None] = [None] * out.dim()
    for tensor in (each for each in args if isinstance(each, Tensor)):
        for place, axis in enumerate(reversed(record.axes(tensor))):
            place = out.dim() - 1 - place
            if axis.size != out.shape[place]:
                continue
            if result[place] is None:
                result[place] = axis
            else:
                record.same(result[place], axis)  # type: ignore[arg-type]
    return [Axis(size, "") if axis is None else axis for axis, size in zip(result, out.shape, strict=True)]


@rule("_softmax", "_log_softmax", "_safe_softmax")
def _softmax(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = record.axes(args[0])
    # With fewer elements each has a larger share, and an element of zeros has one, too.
    axes[args.named("dim")].pin(SHARES)
    return axes


@rule("flip", "cumsum")
def _by_position(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    """Fix the dimensions along which the place of an element matters."""
    axes = record.axes(args[0])
    for dim in dims_of(args.named("dim" if "dim" in args.names else "dims"), len(axes)):
        axes[dim].pin(MOVED)
    return axes


@rule("roll")
def _roll(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes, shifts, dims = record.axes(args[0]), args.named("shifts"), args.named("dims")
    if dims:
        for shift, dim in zip(shifts, dims, strict=True):
            if shift % max(axes[dim].size, 1):
                axes[dim].pin(MOVED)
    elif any(shifts):  # of the flattened tensor
        for axis in axes:
            axis.pin(MOVED)
    return axes


@rule("convolution", "_convolution")
def _convolution(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    x, weight, bias, transposed, groups = record.axes(args[0]), record.axes(args[1]), args[2], args[6], args[8]
    inputs, outputs = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    channels = x[-weight_dims(args[1])]
    for axis in weight[2:]:
        axis.pin()
    for axis in x[-weight_dims(args[1]) + 1 :]:
        axis.pin(NEIGHBOURS)
    kind = torch.nn.modules.conv._ConvNd
    if groups == 1:
        record.same(channels, inputs)
    else:
        try:
            count, width = divide(channels, args[0].shape[-weight_dims(args[1])] // groups)
            if transposed:
                unify(inputs, product([count, width]))
                outputs = product([count, outputs])
            else:
                unify(inputs, width)
                unify(outputs, product([count, divide(outputs, args[1].shape[0] // groups)[1]]))
        except MismatchError as error:
            for axis in (channels, inputs, outputs):
                axis.pin(f"the groups of a convolution divide it: {error}")
            count = Axis(groups, "")
        record.attribute(kind, "groups", count)
    record.attribute(kind, "in_channels", channels)
    record.attribute(kind, "out_channels", outputs)
    if bias is not None:
        record.same(record.axes(bias)[0], outputs)
    spatial = weight_dims(args[1]) - 1
    return [*x[: -spatial - 1], outputs, *constants(out.shape[-spatial:])]


def weight_dims(weight: Tensor) -> int:
    """Return the number of dimensions of a sample: channels and spatial ones."""
    return weight.dim() - 1


@rule("mm")
def _mm(record: Recorder, args: Sequence[Any], out: Tensor) -> Axes:
    a, b = record.axes(args[0]), record.axes(args[1])
    record.same(a[1], b[0])
    record.attribute(torch.nn.Linear, "in_features", b[0])
    record.attribute(torch.nn.Linear, "out_features", b[1])
    return [a[0], b[1]]


@rule("mv")
def _mv(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    a, b = record.axes(args[0]), record.axes(args[1])
    record.same(a[1], b[0])
    return [a[0]]


@rule("addmm")
def _addmm(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = _mm(record, args[1:3], out)
    record.same(record.axes(args[0])[-1], axes[1])
    return axes


@rule("bmm")
def _bmm(record: Recorder, args: Sequence[Any], out: Tensor) -> Axes:
    a, b = record.axes(args[0]), record.axes(args[1])
    record.same(a[0], b[0])
    record.same(a[2], b[1])
    # A product of two activations is attention: query and key, then scores and values.
    for axis in (a[2], b[2]):
        axis.pin(ATTENTION)
    return [a[0], a[1], b[2]]


@rule("baddbmm")
def _baddbmm(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = _bmm(record, args[1:3], out)
    for own, axis in zip(reversed(record.axes(args[0])), reversed(axes), strict=False):
        if own.size == axis.size:
            record.same(own, axis)
    return axes


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
@rule("_batch_norm_no_update")
def _batch_norm(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = record.axes(args[0])
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            record.same(axes[1], record.axes(tensor)[0])
    record.attribute(torch.nn.modules.batchnorm._BatchNorm, "num_features", axes[1])
    return axes


@rule("native_layer_norm", "_fused_rms_norm")
def _layer_norm(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes, shape = record.axes(args[0]), args[1]
    for tensor in args[2:4]:
        if isinstance(tensor, Tensor):
            for own, axis in zip(record.axes(tensor), axes[-len(shape) :], strict=True):
                record.same(own, axis)
    record.attribute((torch.nn.LayerNorm, torch.nn.RMSNorm), "normalized_shape", axes[-len(shape) :])
    return axes


@rule("native_group_norm")
def _group_norm(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes, groups = record.axes(args[0]), args[6]
    for tensor in args[1:3]:
        if isinstance(tensor, Tensor):
            record.same(axes[1], record.axes(tensor)[0])
    try:
        count, _ = divide(axes[1], args[0].shape[1] // groups)
    except MismatchError as error:
        axes[1].pin(f"the groups of a normalisation divide it: {error}")
        count = Axis(groups, "")
    record.attribute(torch.nn.GroupNorm, "num_groups", count)
    record.attribute(torch.nn.GroupNorm, "num_channels", axes[1])
    return axes


SPATIAL = {
    "max_pool1d_with_indices": 1,
    "max_pool2d_with_indices": 2,
    "max_pool3d_with_indices": 3,
    "adaptive_max_pool2d": 2,
    "avg_pool1d": 1,
    "avg_pool2d": 2,
    "avg_pool3d": 3,
    "adaptive_avg_pool1d": 1,
    "adaptive_avg_pool2d": 2,
    "_adaptive_avg_pool2d": 2,
    "_adaptive_avg_pool3d": 3,
    "replication_pad1d": 1,
    "replication_pad2d": 2,
    "reflection_pad1d": 1,
    "reflection_pad2d": 2,
    "upsample_nearest1d": 1,
    "upsample_nearest2d": 2,
    "_upsample_nearest_exact2d": 2,
    "upsample_linear1d": 1,
    "upsample_bilinear2d": 2,
    "upsample_bicubic2d": 2,
}
"""Operator that combines neighbours -> the number of last dimensions in which it does."""


def _resized(spatial: int) -> Rule:
    """Return the rule of operators that combine neighbours: the last dimensions are fixed, also if sizes stay."""

    def apply(record: Recorder, args: Arguments, out: Tensor) -> Axes:
        axes = list(record.axes(args[0]))
        for place in range(len(axes) - spatial, len(axes)):
            axes[place] = _resized_axis(axes[place], out.shape[place], NEIGHBOURS)
        return axes

    return apply


for _name, _spatial in SPATIAL.items():
    rule(_name)(_resized(_spatial))


@rule("constant_pad_nd")
def _pad(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes, pad = list(record.axes(args[0])), args.named("pad")
    for place, before in enumerate(pad[::2]):  # the last dimension first
        dim = len(axes) - 1 - place
        if before or pad[2 * place + 1]:
            axes[dim] = _resized_axis(axes[dim], out.shape[dim], "the network pads or shifts it")
    return axes


def _resized_axis(axis: Axis, size: int, reason: str) -> Axis:
    """Fix an axis, and return what it is with a size that may be another one: fixed for the same reason."""
    axis.pin(reason)
    return axis if axis.size == size else Axis(size, next(axis.atoms()).fixed)


@rule("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "logsumexp", "argmax", "argmin", "prod")
@rule("linalg_vector_norm", "any", "all")
def _reduction(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    if isinstance(args.named("other"), Tensor):
        return pointwise(record, args, out)
    axes = record.axes(args[0])
    gone = dims_of(args.named("dim"), len(axes))
    if out.dim() == len(axes):
        return [Axis(1, "") if place in gone else axis for place, axis in enumerate(axes)]
    return [axis for place, axis in enumerate(axes) if place not in gone]


def numbered(record: Recorder, name: str, args: Arguments) -> Axes:
    """Return the axes of whose elements a reduction also returns the positions; none: it does not."""
    if name not in ("argmax", "argmin", "max", "min") or len(args) < 2 or isinstance(args[1], Tensor):
        return []
    axes = record.axes(args[0])
    return [axes[dim] for dim in dims_of(args.named("dim"), len(axes))]


@rule("embedding")
def _embedding(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    weight = record.axes(args[0])
    weight[0].pin("the entries of a table")
    record.attribute(torch.nn.Embedding, "embedding_dim", weight[1])
    return [*record.axes(args[1]), weight[1]]


@rule("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention")
@rule("_scaled_dot_product_efficient_attention", "scaled_dot_product_attention", "_scaled_dot_product_attention_math")
@rule("_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_cudnn_attention")
def _attention(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    query, key, value = (record.axes(tensor) for tensor in args[:3])
    for own in (key, value):
        for one, other in zip(query[:-2], own[:-2], strict=True):
            if one.size == other.size:
                record.same(one, other)
    record.same(query[-1], key[-1])
    for axes in (query, value):
        axes[-1].pin(ATTENTION)
    return [*query[:-1], value[-1]]


@rule("zeros", "ones", "empty", "full", "zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones")
@rule("new_full", "new_empty", "scalar_tensor", "rand", "randn", "rand_like", "randn_like", "new_empty_strided")
@rule("empty_strided")
def _created(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    return created(out.shape)


@rule("arange", "linspace", "logspace", "eye", "range", "tril_indices", "triu_indices", "randperm")
def _table(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    """Fix what meets a table that code makes by position: made for fewer elements, it is not a slice of this one."""
    return [Axis(size, NUMBERED if size > 1 else "") for size in out.shape]
