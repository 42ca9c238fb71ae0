"""Rules of operators that compute nothing: they reorder, divide, join and select elements."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from automl_nas.channels.axis import Axis, MismatchError, concatenation, divide, joined, product, split
from automl_nas.channels.rules import Arguments, Axes, Recorder, constants, created, rule


@rule("t", "numpy_T")
def _t(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    return record.axes(args[0])[::-1]


@rule("transpose")
def _transpose(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = list(record.axes(args[0]))
    axes[args[1]], axes[args[2]] = axes[args[2]], axes[args[1]]
    return axes


@rule("permute")
def _permute(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = record.axes(args[0])
    return [axes[dim] for dim in args[1]]


@rule("unsqueeze")
def _unsqueeze(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = list(record.axes(args[0]))
    axes.insert(args[1] % out.dim(), Axis(1, ""))
    return axes


@rule("expand")
def _expand(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = record.axes(args[0])
    missing = out.dim() - len(axes)
    # A repeated dimension follows the tensor that it is added to.
    new = created(out.shape)
    for place, axis in enumerate(axes):
        if axis.size == out.shape[missing + place]:
            new[missing + place] = axis
    return new


@rule("repeat")
def _repeat(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes, times = record.axes(args[0]), args[1]
    axes = [*constants([1] * (len(times) - len(axes))), *axes]
    return [product([Axis(count, ""), axis]) for axis, count in zip(axes, times, strict=True)]


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "_view_copy")
def _view(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    sources, result = joined([axis for axis in record.axes(args[0]) if axis.size != 1], "product"), list[Axis]()
    if any(size == 0 for size in out.shape):
        return constants(out.shape)
    for size in reversed(out.shape):
        inside: Axes = []
        left = size
        try:
            while left > 1:
                axis = sources.pop()
                if axis.size > left or left % axis.size:
                    outer, axis = divide(axis, _common(axis.size, left))
                    sources.append(outer)
                inside.insert(0, axis)
                left //= axis.size
        except MismatchError as error:
            for axis in record.axes(args[0]):
                axis.pin(f"a reshape divides it: {error}")
            return constants(out.shape)
        result.insert(0, product(inside))
    return result


def _common(size: int, dimension: int) -> int:
    """Return how much of an axis a dimension takes; the axis has more elements, or a number that does not divide."""
    if size > dimension and size % dimension == 0:
        return dimension
    raise MismatchError(f"a dimension of {dimension} is not made of rows of {size}")


@rule("as_strided")
def _as_strided(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = record.axes(args[0])
    if out.shape == args[0].shape and _strides(out) == _strides(args[0]):
        return axes
    for axis in axes:
        axis.pin("its memory is read in another order")
    return constants(out.shape)


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """Return where a tensor begins in its memory, and the strides that matter."""
    own = (stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    return (int(tensor.storage_offset()), *own)


@rule("slice")
def _slice(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = list(record.axes(args[0]))
    dim = args[1] % len(axes)
    size, step = axes[dim].size, args[4]
    if out.shape[dim] == size:
        return axes
    start = min(args[2] or 0, size)
    start = start + size if start < 0 else start
    axes[dim] = _piece(axes[dim], start, out.shape[dim], step)
    return axes


def _piece(axis: Axis, start: int, length: int, step: int = 1) -> Axis:
    try:
        if step != 1:
            raise MismatchError("every other element is taken")
        sizes = [start, length, axis.size - start - length]
        pieces = iter(split(axis, [size for size in sizes if size]))
        return [next(pieces) if size else None for size in sizes][1] or Axis(0, "")
    except MismatchError as error:
        axis.pin(f"a slice divides it: {error}")
        return Axis(length, "")


@rule("select")
def _select(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = list(record.axes(args[0]))
    dim = args[1] % len(axes)
    axes.pop(dim).pin("single elements of it are read")
    return axes


@rule("cat")
def _cat(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    dim = args[1] % out.dim()
    parts = [record.axes(tensor) for tensor in args[0] if tensor.dim() == out.dim()]
    result = list(parts[0])
    for place in range(out.dim()):
        if place == dim:
            result[place] = concatenation([axes[place] for axes in parts])
        else:
            for axes in parts[1:]:
                record.same(result[place], axes[place])
    return result


@rule("stack")
def _stack(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    dim = args[1] % out.dim()
    parts = [record.axes(tensor) for tensor in args[0]]
    result = list(parts[0])
    for axes in parts[1:]:
        for one, other in zip(result, axes, strict=True):
            record.same(one, other)
    result.insert(dim, Axis(len(parts), ""))
    return result


@rule("index")
def _index(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes, indices = list(record.axes(args[0])), args[1]
    places = [place for place, index in enumerate(indices) if index is not None]
    for place in places:
        axes[place].pin("the entries of a table")
    if len(places) == 1:
        return [*axes[: places[0]], *record.axes(indices[places[0]]), *axes[places[0] + 1 :]]
    for axis in axes:
        axis.pin("it is indexed together with other dimensions")
    return constants(out.shape)


@rule("index_select")
def _index_select(record: Recorder, args: Arguments, out: Tensor) -> Axes:
    axes = list(record.axes(args[0]))
    axes[args[1]].pin("single elements of it are read")
    axes[args[1]] = Axis(out.shape[args[1]], "")
    return axes


def pieces_of(record: Recorder, name: str, args: Arguments, outs: Sequence[Tensor]) -> list[Axes] | None:
    """Return the axes of the outputs of an operator that divides a tensor; None: it is not such an operator."""
    if name in ("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "tensor_split"):
        axes = record.axes(args[0])
        dim = args[2] % len(axes)
        sizes = [out.shape[dim] for out in outs]
        try:
            parts = split(axes[dim], sizes)
        except MismatchError as error:
            axes[dim].pin(f"a split divides it: {error}")
            parts = constants(sizes)
        return [[*axes[:dim], part, *axes[dim + 1 :]] for part in parts]
    if name == "unbind":
        axes = list(record.axes(args[0]))
        dim = args[1] % len(axes)
        axes.pop(dim).pin("single elements of it are read")
        return [list(axes) for _ in outs]
    return None
