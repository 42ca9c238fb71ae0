"""Results on meta tensors that are remembered against those of torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from automl_nas_costs.counting.meta_operators import result_of_equal_call

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def convolution(x: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> tuple[Any, ...]:
    return x, weight, None, [stride, stride], [1, 1], [1, 1], False, [0, 0], groups


X, WEIGHT = meta(1, 8, 9, 9), meta(16, 8, 3, 3)
CALLS: list[tuple[Any, tuple[Any, ...]]] = [
    (aten.convolution.default, convolution(X, WEIGHT)),
    (aten.convolution.default, convolution(X, WEIGHT, stride=2)),
    (aten.convolution.default, convolution(X, meta(16, 2, 3, 3), groups=4)),
    (aten.convolution.default, convolution(meta(1, 8, 5, 9), WEIGHT)),
    (aten.convolution.default, convolution(meta(1, 16, 9, 9)[:, ::2], WEIGHT)),
    (aten.convolution.default, convolution(X.to(memory_format=torch.channels_last), WEIGHT)),
    (aten.convolution.default, convolution(X.double(), WEIGHT.double())),
    (aten.cat.default, ([X, X], 1)),
    (aten.cat.default, ([X, meta(1, 3, 9, 9)], 1)),
    (aten.cat.default, ([X, X], 2)),
    (aten.cat.default, ([X, X],)),
    (aten.mean.dim, (X, [2, 3], True)),
    (aten.mean.dim, (X, [2, 3], False)),
    (aten.mean.dim, (X, [2], True)),
    (aten.addmm.default, (meta(10), meta(2, 8), meta(8, 10))),
    (aten.addmm.default, (meta(10), meta(2, 8), meta(10, 8).t())),
    (aten.mm.default, (meta(2, 8), meta(8, 3))),
    (aten.max_pool2d_with_indices.default, (X, [2, 2], [2, 2])),
    (aten.max_pool2d_with_indices.default, (X, [3, 3], [2, 2], [1, 1])),
    (aten.native_layer_norm.default, (meta(1, 4, 8), [8], meta(8), meta(8), 1e-5)),
    (aten.add.Tensor, (X, meta(8, 1, 1))),
    (aten.view.default, (X, [8, 81])),
]


def form(out: Any) -> list[Any]:
    results = out if isinstance(out, tuple) else (out,)
    return [type(out), *((each.shape, each.stride(), each.dtype, each.device) for each in results)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_results_of_equal_calls_have_the_form_of_torchs(order: int) -> None:
    """Also between calls that differ in one argument only, in whichever order they come."""
    for _ in range(2):
        for func, args in CALLS[::order]:
            assert form(result_of_equal_call(func, args)) == form(func(*args)), (func, args)


def test_results_are_new_tensors() -> None:
    """Activations are followed by their identity."""
    first, second = (result_of_equal_call(aten.mm.default, (meta(2, 8), meta(8, 3))) for _ in range(2))
    assert first is not second and first.untyped_storage()._cdata != second.untyped_storage()._cdata


def test_tensors_with_data_are_computed() -> None:
    x = torch.ones(2, 2)
    for factor in (1.0, 3.0):
        assert torch.equal(result_of_equal_call(aten.mm.default, (factor * x, x)), factor * x @ x)
