"""Axes of tensors, and what follows when two of them must have the same elements.

A dimension of a tensor is an `Axis`. Residual additions make two axes one (`unify`); a reshape divides an axis into the
product of two; a concatenation makes an axis of the sum of its parts. What is left undivided, an atom, is a set of
channels that a network can have more or fewer of; the indices that stay in a weight tensor follow from its axes
(`positions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["atom", "product", "sum"]


class MismatchError(Exception):
    """Two axes cannot have the same elements, or an axis cannot be divided where an operator divides it."""


class Axis:
    """A dimension of a tensor: an atom, a product of axes (outermost first), or axes one after the other (a sum).

    Args:
        size: number of elements.
        fixed: the reason why the size cannot change; empty: a size that nobody expects to change, such as the batch;
            None: it can change.
    """

    __slots__ = ("_alias", "_fixed", "form", "parts", "size")

    def __init__(self, size: int, fixed: str | None = None) -> None:
        self.size = size
        self.form: Form = "atom"
        self.parts: tuple[Axis, ...] = ()
        self._alias: Axis | None = None
        self._fixed = fixed

    def root(self) -> Axis:
        """Return the axis that stands for this one after all unifications."""
        axis = self
        while axis._alias is not None:
            axis = axis._alias
        while self._alias is not None:  # the next search is short
            self._alias, self = axis, self._alias
        return axis

    @property
    def fixed(self) -> str | None:
        """The reason why an atom's size cannot change; None: it can."""
        return self.root()._fixed

    def atoms(self) -> Iterator[Axis]:
        """Yield the atoms of the axis, in order; an atom that occurs twice is yielded twice."""
        axis = self.root()
        if axis.form == "atom":
            yield axis
        for part in axis.parts:
            yield from part.atoms()

    def pin(self, reason: str = "") -> None:
        """Fix the size of all atoms; those that are fixed keep their reason."""
        for atom in self.atoms():
            if atom._fixed is None:
                atom._fixed = reason

    @property
    def constant(self) -> bool:
        """Whether no atom can change."""
        return all(atom._fixed is not None for atom in self.atoms())

    def _become(self, form: Form, parts: Sequence[Axis]) -> None:
        """Divide an atom."""
        if self._fixed is not None:
            for part in parts:
                part.pin(self._fixed)
        self.form, self.parts = form, tuple(parts)

    def _replace(self, other: Axis) -> None:
        self._alias = other


def product(axes: Sequence[Axis]) -> Axis:
    """Return the axis of all combinations of elements, the last axis innermost."""
    factors = joined([f for axis in axes for f in _flat(axis, "product") if f.size != 1], "product")
    if len(factors) == 1:
        return factors[0]
    axis = Axis(prod(factor.size for factor in factors), None if factors else "")
    if factors:
        axis._become("product", factors)
    return axis


def concatenation(axes: Sequence[Axis]) -> Axis:
    """Return the axis of the elements of several axes, one after the other."""
    terms = [term for axis in axes for term in _flat(axis, "sum")]
    if len(terms) == 1:
        return terms[0]
    if all(term.constant for term in terms):
        return Axis(sum(term.size for term in terms), "")
    axis = Axis(sum(term.size for term in terms))
    axis._become("sum", terms)
    return axis


def unify(one: Axis, other: Axis) -> None:
    """State that two axes have the same elements.

    Raises:
        MismatchError: sizes differ, or the axes are divided at places that do not fit.
    """
    a, b = one.root(), other.root()
    if a is b:
        return
    if a.size != b.size:
        raise MismatchError(f"sizes {a.size} and {b.size} differ")
    if a.form != "atom" and b.form != "atom" and (a.constant or b.constant):
        (b if a.constant else a).pin()
        return
    if a.form == "atom" or b.form == "atom":
        if a.form != "atom":
            a, b = b, a
        if a._fixed is not None:
            b.pin(a._fixed)
        a._replace(b)
        return
    if a.form == b.form:
        _unify_parts(a, b, a.form)
    else:
        product_axis, sum_axis = (a, b) if a.form == "product" else (b, a)
        inner = prod(part.size for part in product_axis.parts[1:])
        if all(term.size % inner == 0 for term in _flat(sum_axis, "sum")):
            divide(sum_axis, inner)
            unify(product_axis, sum_axis)
            return
        terms = _flat(sum_axis, "sum")
        for piece, term in zip(split(product_axis, [term.size for term in terms]), terms, strict=True):
            unify(piece, term)
    if a.root() is not b.root():
        a.root()._replace(b.root())


def _unify_parts(a: Axis, b: Axis, form: Form) -> None:
    """Unify two products or two sums part by part, from the last part on; parts are divided where they must be."""
    left, right = _flat(a, form), _flat(b, form)
    while left and right:
        x, y = left.pop(), right.pop()
        small = min(x.size, y.size)
        if x.size > small:
            x = _divided(x, small, form, left)
        if y.size > small:
            y = _divided(y, small, form, right)
        unify(x, y)


def _divided(axis: Axis, last: int, form: Form, rest: list[Axis]) -> Axis:
    outer, inner = divide(axis, last) if form == "product" else split(axis, [axis.size - last, last])
    rest.append(outer)
    return inner


def divide(axis: Axis, inner: int) -> tuple[Axis, Axis]:
    """Divide an axis into a product: the outer and the inner axis, which has ``inner`` elements.

    Raises:
        MismatchError: an element of the outer axis would not have ``inner`` elements of the same kind.
    """
    axis = axis.root()
    if inner == 1:
        return axis, Axis(1, "")
    if inner == axis.size:
        return Axis(1, ""), axis
    if axis.size % inner:
        raise MismatchError(f"{axis.size} elements cannot be divided into rows of {inner}")
    if axis.form != "atom" and axis.constant:
        return Axis(axis.size // inner, ""), Axis(inner, "")
    if axis.form == "atom":
        parts = Axis(axis.size // inner), Axis(inner)
        axis._become("product", parts)
        return parts
    if axis.form == "product":
        outer, inside = _flat(axis, "product"), list[Axis]()
        left = inner
        while left > 1:
            factor = outer.pop()
            if factor.size > left:
                rest, factor = divide(factor, left)
                outer.append(rest)
            elif left % factor.size:
                raise MismatchError(f"rows of {inner} do not fit rows of {factor.size}")
            inside.insert(0, factor)
            left //= factor.size
        return product(outer), product(inside)
    terms = _flat(axis, "sum")
    if any(term.size % inner for term in terms):
        raise MismatchError(
            f"a part of {[term.size for term in terms]} elements cannot be divided into rows of {inner}"
        )
    pieces = [divide(term, inner) for term in terms]
    for _, other in pieces[1:]:
        unify(pieces[0][1], other)
    whole = product([concatenation([outer for outer, _ in pieces]), pieces[0][1]])
    axis.root()._replace(whole)
    return divide(whole, inner)


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Divide an axis into consecutive parts.

    Raises:
        MismatchError: a boundary is inside a row of a product.
    """
    axis = axis.root()
    if sum(sizes) != axis.size:
        raise MismatchError(f"parts of {list(sizes)} elements do not add up to {axis.size}")
    if len(sizes) == 1:
        return [axis]
    if axis.form != "atom" and axis.constant:
        return [Axis(size, "") for size in sizes]
    if axis.form == "atom":
        parts = [Axis(size, "" if size == 1 else None) for size in sizes]
        axis._become("sum", parts)
        return parts
    if axis.form == "product":
        first, *rest = _flat(axis, "product")
        inner = prod(factor.size for factor in rest)
        if any(size % inner for size in sizes):
            raise MismatchError(f"parts of {list(sizes)} elements divide a row of {inner}")
        return [product([piece, *rest]) for piece in split(first, [size // inner for size in sizes])]
    terms, pieces = _flat(axis, "sum"), list[Axis]()
    for size in sizes:
        own: list[Axis] = []
        while size:
            term = terms.pop(0)
            if term.size > size:
                head, tail = split(term, [size, term.size - size])
                terms.insert(0, tail)
                term = head
            own.append(term)
            size -= term.size
        pieces.append(concatenation(own) if own else Axis(0, ""))
    return pieces


def _flat(axis: Axis, form: Form) -> list[Axis]:
    """Return the parts of a product (a sum) without products (sums) inside; another axis is the only part."""
    axis = axis.root()
    if axis.form != form:
        return [axis]
    return joined([inner for part in axis.parts for inner in _flat(part, form)], form)


def joined(parts: Sequence[Axis], form: Form) -> list[Axis]:
    """Return parts of a product or a sum with neighbours of fixed size made one: a reshape may divide them anew."""
    result: list[Axis] = []
    for part in parts:
        last = result[-1] if result else None
        if last is not None and last.constant and part.constant:
            size = last.size * part.size if form == "product" else last.size + part.size
            result[-1] = Axis(size, "")
        else:
            result.append(part)
    return result


Kept = Mapping[Axis, "NDArray[np.int64]"]
"""Atom -> the indices of its elements that stay, ascending; an atom that is not in it keeps all."""


def size_of(axis: Axis, sizes: Mapping[Axis, int]) -> int:
    """Return the size of an axis when atoms have other sizes: atom -> size, for those that change."""
    axis = axis.root()
    if axis.form == "atom":
        return sizes.get(axis, axis.size)
    inner = [size_of(part, sizes) for part in axis.parts]
    return sum(inner) if axis.form == "sum" else prod(inner)


def positions(axis: Axis, indices: Kept) -> NDArray[np.int64] | None:
    """Return the indices of an axis that stay, ascending; None: all of them."""
    if not any(atom in indices for atom in axis.atoms()):
        return None
    axis = axis.root()
    if axis.form == "atom":
        return indices[axis]
    result = np.zeros(1 if axis.form == "product" else 0, dtype=np.int64)
    offset = 0
    for part in axis.parts:
        own = positions(part, indices)
        own = np.arange(part.size) if own is None else own
        if axis.form == "product":
            result = (result[:, None] * part.size + own).reshape(-1)
        else:
            result = np.concatenate([result, own + offset])
            offset += part.size
    return result


def elements(axis: Axis, atom: Axis) -> NDArray[np.int64]:
    """Return for each index of an axis the element of an atom that it belongs to; -1: to none."""
    axis = axis.root()
    if axis is atom:
        return np.arange(atom.size)
    if axis.form == "atom":
        return np.full(axis.size, -1)
    own = [elements(part, atom) for part in axis.parts]
    if axis.form == "sum":
        return np.concatenate(own)
    result = np.full(1, -1)
    for part in own:
        outer, inner = np.broadcast_arrays(result[:, None], part)
        result = np.where(inner >= 0, inner, outer).reshape(-1)
    return result


def signature(axis: Axis) -> tuple[object, ...]:
    """Return a value that is equal for axes of the same elements."""
    axis = axis.root()
    return (id(axis),) if axis.form == "atom" else (axis.form, *(signature(part) for part in axis.parts))
