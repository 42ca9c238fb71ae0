"""Results on meta tensors that are remembered against those of torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.space import MetaPass, meta_result

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def convolution(x: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> tuple[Any, ...]:
    return x, weight, None, [stride, stride], [1, 1], [1, 1], False, [0, 0], groups


X, WEIGHT = meta(1, 8, 9, 9), meta(16, 8, 3, 3)
CALLS: list[Any] = [
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
    (aten.view.default, (X, [9, 72])),
    (aten.relu.default, (X,)),
    (aten.relu.default, (X.transpose(2, 3),)),
    (aten.add.Tensor, (X, X.transpose(2, 3))),
    (aten.add.Tensor, (X.transpose(2, 3), X)),
    (aten.add.Tensor, (X, X), {"alpha": 2}),
    (aten.add.Tensor, (X, 1)),
    (aten.add.Tensor, (meta(3, dtype=torch.int64), 1)),
    (aten.add.Tensor, (meta(3, dtype=torch.int64), 1.0)),
    (aten.native_batch_norm.default, (X, meta(8), meta(8), meta(8), meta(8), False, 0.1, 1e-5)),
    (aten.native_batch_norm.default, (X, meta(8), meta(8), meta(8), meta(8), True, 0.1, 1e-5)),
    (aten.arange.start, (0, 7), {"dtype": torch.float32, "device": torch.device("meta")}),
    (aten.arange.start, (0, 8), {"dtype": torch.float32, "device": torch.device("meta")}),
    (aten.split.Tensor, (X, 3, 1)),
    (aten.transpose.int, (X, 1, 2)),
    (aten._to_copy.default, (X,), {"dtype": torch.float64}),
    (aten.index.Tensor, (X, [None, meta(3, dtype=torch.int64)])),
    (aten.embedding.default, (meta(5, 8), meta(2, 3, dtype=torch.int64))),
]


def called(call: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    func, args, *rest = call
    return func, args, rest[0] if rest else {}


def form(out: Any) -> list[Any]:
    results = out if isinstance(out, tuple | list) else (out,)
    return [type(out), *((each.shape, each.stride(), each.dtype, each.device) for each in results)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_results_of_equal_calls_have_the_form_of_torchs(order: int) -> None:
    """Also between calls that differ in one argument only, in whichever order they come."""
    for _ in range(2):
        for func, args, kwargs in map(called, CALLS[::order]):
            assert form(meta_result(func, args, kwargs)) == form(func(*args, **kwargs)), (func, args, kwargs)


def test_results_have_the_default_type() -> None:
    call = aten.div.Tensor, (meta(3, dtype=torch.int64), 2), {}
    before = torch.get_default_dtype()
    assert meta_result(*call).dtype == before
    torch.set_default_dtype(torch.float64)
    try:
        assert meta_result(*call).dtype == torch.float64
    finally:
        torch.set_default_dtype(before)
    assert meta_result(*call).dtype == before


def test_results_are_new_tensors() -> None:
    """Activations are followed by their identity."""
    first, second = (meta_result(aten.mm.default, (meta(2, 8), meta(8, 3)), {}) for _ in range(2))
    assert first is not second and first.untyped_storage()._cdata != second.untyped_storage()._cdata


def test_views_are_views() -> None:
    """What torch returns as a view, or as another tensor of the same memory, has the memory of its argument."""
    for func, args in [
        (aten.view.default, (X, [8, 81])),
        (aten._unsafe_view.default, (X, [8, 81])),
        (aten.transpose.int, (X, 1, 2)),
    ]:
        for _ in range(2):
            assert meta_result(func, args, {}).untyped_storage()._cdata == X.untyped_storage()._cdata, func


@pytest.mark.parametrize(
    "func", [aten.relu_.default, aten.hardswish_.default, aten.transpose_.default, aten.unsqueeze_.default]
)
def test_operators_in_place_return_their_argument(func: Any) -> None:
    others = {aten.transpose_.default: (0, 1), aten.unsqueeze_.default: (0,)}.get(func, ())
    for _ in range(3):
        ours, expected = meta(3, 3), meta(3, 3)
        assert meta_result(func, (ours, *others), {}) is ours
        func(expected, *others)
        assert form(ours) == form(expected)


def test_a_result_is_written_to_out() -> None:
    for _ in range(2):
        out = meta(2, 2)
        assert meta_result(aten.add.out, (meta(2, 2), meta(2, 2)), {"out": out}) is out


def test_a_call_that_torch_refuses_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"reduction dim|mat1 and mat2"):
            meta_result(aten.mm.default, (meta(2, 8), meta(3, 3)), {})


def test_tensors_with_data_are_computed() -> None:
    x = torch.ones(2, 2)
    for factor in (1.0, 3.0):
        assert torch.equal(meta_result(aten.mm.default, (factor * x, x), {}), factor * x @ x)


class Net(nn.Module):
    """Layers, attention and code of its own, with tensors that are permuted and changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(inplace=True))
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = (x + x.mean((2, 3), keepdim=True).sigmoid()).flatten(2).transpose(1, 2)
        x = nn.functional.gelu(self.norm(x)).transpose(1, 2).contiguous().transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        out: Tensor = self.head(x[:, torch.arange(x.shape[1], device=x.device).clamp(max=3)].amax(1))
        return out


def test_a_network_runs_as_without_it() -> None:
    """With the shapes that its modules have on real tensors, for several inputs in turn."""
    real = Net().eval()
    virtual = Net().eval().to("meta")
    shapes: list[Any] = []
    for network in (real, virtual):
        for module in network.modules():
            module.register_forward_hook(
                lambda module, inputs, out: shapes.append(
                    (type(module), (out[0] if isinstance(out, tuple) else out).shape)
                )
            )
    for size in (8, 12, 8):
        with torch.no_grad():
            real(torch.zeros(2, 3, size, size))
            expected, shapes[:] = [*shapes], []
            with MetaPass():
                out = virtual(torch.zeros(2, 3, size, size, device="meta"))
            assert (out.device.type, shapes) == ("meta", expected)
            shapes.clear()
