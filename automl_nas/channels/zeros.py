"""Which channels can be removed if layers return zeros for them: a rule for each operator, besides that of its axes.

An operator is one of these for an axis: it processes its elements separately, it adds them up, or it mixes them in
another way. Elements can be removed if all that adds them up reads zeros, and nothing mixes them. What reads zeros is
followed back, through operators that map zeros to zeros, to layers whose outputs are zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from automl_nas.channels.axis import Axis
from automl_nas.channels.flow import Flow
from automl_nas.channels.operators import SPATIAL
from automl_nas.channels.owners import owners_of
from automl_nas.channels.rules import dims_of
from automl_nas.channels.trace import Step, Trace, TracedTensor


def removable(trace: Trace, layers: Mapping[TracedTensor, int]) -> dict[Axis, tuple[TracedTensor, ...]]:
    """Return atom -> the outputs of layers that must be zero at some of its elements, so that these can be removed.

    Zero there, all outputs of the network are the same with and without these elements. Atoms for which that
    cannot be achieved are left out.

    Args:
        trace: of a run.
        layers: outputs of layers that can be made zero -> the dimension of their channels, counted from the end, -1
            being the last.
    """
    tensors = _Tensors(trace, layers)
    result = {}
    for atom in owners_of(trace):
        if atom.fixed is None and atom.size > 1:
            needed = _Search(tensors, atom).needed()
            if needed:
                result[atom] = needed
    return result


class _Impossible(Exception):  # noqa: N818 - not an error
    """Elements of an axis cannot be removed."""


class _Tensors:
    """What all axes have in common.

    Attributes:
        flow: which operators make and read tensors.
        layers: outputs of layers that can be made zero -> the dimension of their channels, from the end.
        dims: tensor -> atom -> the dimensions that have it.
        readers: atom -> the operators that read a tensor that has it.
        constant: tensors that are computed from parameters alone.
        shared: operators that change other tensors, which are read later, by their memory.
        numbers: tensor -> its number in the order of the run.
    """

    def __init__(self, trace: Trace, layers: Mapping[TracedTensor, int]) -> None:
        self.flow, self.layers = Flow(trace), layers
        self.dims: dict[TracedTensor, dict[Axis, list[int]]] = {}
        self.readers: dict[Axis, list[Step]] = {}
        self.constant: set[TracedTensor] = set()
        for step in trace.steps:
            for tensor in (*step.operands, *step.results):
                if tensor not in self.dims:
                    self.dims[tensor] = _dims_of(tensor)
                    if tensor.owner is not None:
                        self.constant.add(tensor)
            for atom in dict.fromkeys(atom for each in step.operands for atom in self.dims[each]):
                self.readers.setdefault(atom, []).append(step)
            if step.operands and self.constant.issuperset(step.operands):
                self.constant.update(step.results)
        self.shared = {step for step, before, after in trace.aliases if self.flow.readers(after)}
        self.numbers = {tensor: number for number, tensor in enumerate(self.dims)}


def _dims_of(tensor: TracedTensor) -> dict[Axis, list[int]]:
    dims: dict[Axis, list[int]] = {}
    for dim, axis in enumerate(tensor.axes):
        for atom in dict.fromkeys(axis.atoms()):
            dims.setdefault(atom, []).append(dim)
    return dims


class _Search:
    """The search for the layers that must be zero for one atom."""

    def __init__(self, tensors: _Tensors, atom: Axis) -> None:
        self._tensors, self._atom = tensors, atom
        self._answers: dict[TracedTensor, frozenset[TracedTensor] | None] = {}

    def needed(self) -> tuple[TracedTensor, ...]:
        """Return the outputs of layers that must be zero; none: the elements cannot be removed."""
        layers: set[TracedTensor] = set()
        try:
            for step in self._tensors.readers.get(self._atom, ()):
                if factors := self._added(step):
                    layers |= self._any_zero(factors)
        except _Impossible:
            return ()
        return tuple(sorted(layers, key=self._tensors.numbers.__getitem__))

    def _dims(self, tensor: object) -> list[int]:
        """Return the dimensions of a tensor that have the atom."""
        return self._tensors.dims[tensor].get(self._atom, []) if isinstance(tensor, TracedTensor) else []

    def _added(self, step: Step) -> list[TracedTensor]:
        """Return the tensors of which one must be zero at elements of the atom, since the operator adds these up.

        Raises:
            _Impossible: the operator mixes elements in another way.
        """
        if step in self._tensors.shared:
            raise _Impossible
        for tensor in step.operands:
            if len(self._dims(tensor)) > 1 and tensor not in self._tensors.constant:
                raise _Impossible  # such as products of all pairs of channels
        name = step.name.rstrip("_")
        if name in _PRODUCTS:
            return self._inside_product(step, _PRODUCTS[name])
        if name in _CONVOLUTIONS:
            return self._inside_convolution(step)
        mixed = _mixed_dims(step, name)
        if mixed is None:
            raise _Impossible
        touched = [each for each in step.operands if not mixed.isdisjoint(self._dims(each))]
        if touched and name != "sum":
            raise _Impossible
        return touched

    def _inside_product(self, step: Step, first: int) -> list[TracedTensor]:
        left, right = step.args[first : first + 2]
        inner = [left] if len(left.axes) - 1 in self._dims(left) else []
        # The dimension before the last; of a vector the last one.
        inner += [right] if max(len(right.axes) - 2, 0) in self._dims(right) else []
        return inner

    def _inside_convolution(self, step: Step) -> list[TracedTensor]:
        x, weight, transposed, groups = step.args[0], step.args[1], step.args[6], step.args[8]
        if groups != 1 and transposed:
            raise _Impossible
        return [x, weight] if self._dims(x) and not self._separate(step) else []

    def _separate(self, step: Step) -> bool:
        """Whether the atom counts the groups of a convolution, which are separate; channels inside a group are not."""
        return bool(step.args[8] > 1 and self._atom not in set(step.args[1].axes[1].atoms()))

    def _zero(self, tensor: TracedTensor) -> frozenset[TracedTensor]:
        """Return the outputs of layers that must be zero at elements of the atom so that a tensor is zero there."""
        if tensor not in self._answers:
            self._answers[tensor] = None
            with contextlib.suppress(_Impossible):
                self._answers[tensor] = self._zero_by_operator(tensor)
        answer = self._answers[tensor]
        if answer is None:
            raise _Impossible
        return answer

    def _zero_by_operator(self, tensor: TracedTensor) -> frozenset[TracedTensor]:
        layers, dims = self._tensors.layers, self._dims(tensor)
        if tensor in layers and dims == [len(tensor.axes) + layers[tensor]]:
            return frozenset((tensor,))
        step = self._tensors.flow.maker(tensor)
        if step is None or self._tensors.flow.before(tensor) is not None:
            raise _Impossible
        name, args = step.name.rstrip("_"), step.args
        if name in _MADE_OF_ZEROS:
            return frozenset()
        operands = [each for each in step.operands if self._dims(each)]
        if name in _PARTS_OF:
            return self._all_zero(operands)
        if name in _ALL_OF or (name in ("max", "min") and len(args) > 1 and isinstance(args[1], TracedTensor)):
            # Neither a number nor a tensor without this axis is zero.
            if not all(self._dims(each) for each in args[:2]):
                raise _Impossible
            return self._all_zero(operands)
        if name == "mul" or (name == "bmm" and dims == [0]):
            return self._any_zero(operands)
        if name in _CONVOLUTIONS:
            if args[2] is not None or not self._dims(args[0]) or not self._separate(step):
                raise _Impossible
            return self._zero(args[0])
        if name in _ATTENTIONS or name == "copy":
            return self._zero(args[2 if name in _ATTENTIONS else 1])
        # Beside its values, a pooling returns indices.
        values = tensor is step.results[0] or name in _DIVISIONS
        if not values or not self._dims(args[0]) or not _keeps_zero(step, name):
            raise _Impossible
        return self._zero(args[0])

    def _all_zero(self, tensors: Sequence[TracedTensor]) -> frozenset[TracedTensor]:
        return frozenset().union(*(self._zero(each) for each in tensors))

    def _any_zero(self, factors: Sequence[TracedTensor]) -> frozenset[TracedTensor]:
        """Return the outputs of layers that must be zero so that a product is, which needs one factor that is."""
        for each in factors:
            with contextlib.suppress(_Impossible):
                return self._zero(each)
        raise _Impossible


_PRODUCTS = {"mm": 0, "addmm": 1, "mv": 0, "bmm": 0, "baddbmm": 1}
"""Matrix product -> position of its first factor."""

_CONVOLUTIONS = frozenset(("convolution", "_convolution"))
_ATTENTIONS = frozenset(
    (
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"),
        *("_scaled_dot_product_efficient_attention", "scaled_dot_product_attention"),
        *("_scaled_dot_product_attention_math", "_scaled_dot_product_fused_attention_overrideable"),
        "_scaled_dot_product_cudnn_attention",
    )
)
_MADE_OF_ZEROS = frozenset(("zeros", "zeros_like", "new_zeros"))
_PARTS_OF = frozenset(("cat", "stack"))
_ALL_OF = frozenset(("add", "sub", "rsub", "maximum", "minimum"))
_DIVISIONS = frozenset(
    ("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "tensor_split", "unbind", "var_mean")
)
_REARRANGEMENTS = frozenset(
    (
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "_view_copy", "squeeze", "unsqueeze", "expand"),
        *("t", "numpy_T", "transpose", "permute", "slice", "select", "index", "index_select", "as_strided", "clone"),
        *("detach", "alias", "_to_copy", "contiguous", "lift_fresh", "native_dropout", "repeat"),
    )
)
_REDUCTIONS = frozenset(
    (
        *("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "logsumexp", "argmax", "argmin"),
        *("prod", "linalg_vector_norm", "any", "all"),
    )
)
_NOT_ZERO_OF_ZEROS = frozenset(("logsumexp", "argmax", "argmin", "any", "all"))
_ALONG = frozenset(("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "flip", "roll"))
"""Operators that mix elements of the dimensions that they name: those of their second argument; of roll, the third."""

_NORMS = frozenset(
    (
        *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        *("cudnn_batch_norm", "_batch_norm_no_update"),
    )
)
_ZERO_AT_ZERO = frozenset(
    (
        *("relu", "leaky_relu", "gelu", "silu", "hardswish", "tanh", "elu", "mish", "_prelu_kernel", "neg", "abs"),
        *("sign", "sqrt", "sin", "tan", "asin", "atan", "sinh", "asinh", "erf", "expm1", "log1p", "trunc", "round"),
        *("floor", "ceil", "softshrink", "hardshrink", "frac"),
    )
)
"""Functions of one number that are 0 at 0."""

_SEPARATE = (
    _REARRANGEMENTS
    | _PARTS_OF
    | _ALL_OF
    | _DIVISIONS
    | _ZERO_AT_ZERO
    | frozenset(("embedding", "constant_pad_nd", "copy", "where", "masked_fill", "hardtanh", "hardsigmoid"))
)
"""Operators that process elements separately, besides those that torch calls pointwise."""


def _mixed_dims(step: Step, name: str) -> frozenset[int] | None:
    """Return the dimensions of the operands whose elements an operator does not process separately; None: all."""
    first = next(iter(step.operands), None)
    if first is None:
        return frozenset()
    dims, args = len(first.axes), step.args
    if name in SPATIAL:
        return frozenset(range(dims - SPATIAL[name], dims))
    if name in _REDUCTIONS and not (len(args) > 1 and isinstance(args[1], TracedTensor)):
        return dims_of(args.named("dim"), dims)
    if name in _ALONG:
        return dims_of(args[2] if name == "roll" else args[1], dims)
    if name in _NORMS:
        # Not the channels, the second dimension; the only one of the parameters, the first, is not in the range either.
        return frozenset(range(2, dims))
    if name in ("native_layer_norm", "_fused_rms_norm"):
        return frozenset(range(dims - len(args[1]), dims))
    if name in _ATTENTIONS:
        return frozenset((dims - 2, dims - 1))
    return frozenset() if name in _SEPARATE or torch.Tag.pointwise in step.func.tags else None


def _keeps_zero(step: Step, name: str) -> bool:
    """Whether an operator maps zeros of its first argument to zeros."""
    args = step.args
    if name in _ZERO_AT_ZERO or name in _REARRANGEMENTS or name in _DIVISIONS or name in SPATIAL:
        return True
    if name in _REDUCTIONS:
        return name not in _NOT_ZERO_OF_ZEROS
    if name in ("flip", "roll", "cumsum"):
        return True
    if name in ("hardtanh", "clamp"):
        return _at_most(args[1], 0) and _at_most(0, args[2])
    if name in ("constant_pad_nd", "masked_fill"):
        return bool(args[2] == 0)
    if name == "pow":
        return isinstance(args[1], int | float) and args[1] > 0
    # By a number, or by one for all channels.
    return name == "div" and not (isinstance(args[1], TracedTensor) and _shares(args[0], args[1]))


def _at_most(low: Any, high: Any) -> bool:
    """Whether bounds are in order; None: there is no such bound."""
    return all(each is None or isinstance(each, int | float) for each in (low, high)) and (
        low is None or high is None or low <= high
    )


def _shares(one: TracedTensor, other: TracedTensor) -> bool:
    atoms = {atom for axis in one.axes for atom in axis.atoms() if atom.fixed is None}
    return any(atom in atoms for axis in other.axes for atom in axis.atoms())
