"""Quantisers against worked examples, closed forms of their gradients, and finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from automl_nas_quantization.quantizers import SMALLEST_CLIP, dorefa, quantize_activations, symmetric

X = (-0.5, 0.3, 0.9, 1.6, 2.5)
W = (-1.2, -0.4, 0.05, 0.6, 1.5)

# Computed by hand with the equations of both papers, for a clipping level of 2; six decimals.
PACT = {
    2: (0, 0, 0.666667, 1.333333, 2),
    3: (0, 0.285714, 0.857143, 1.714286, 2),
    4: (0, 0.266667, 0.933333, 1.6, 2),
}
FULL_SLOPES = {
    2: (0, -0.15, -0.116667, -0.133333, 1),
    3: (0, -0.007143, -0.021429, 0.057143, 1),
    4: (0, -0.016667, 0.016667, 0, 1),
}
DOREFA = {
    1: (-0.75, -0.75, 0.75, 0.75, 0.75),
    2: (-1, -0.333333, 0.333333, 0.333333, 1),
    3: (-1, -0.428571, 0.142857, 0.714286, 1),
    4: (-0.866667, -0.466667, 0.066667, 0.6, 1),
}
DOREFA_SLOPES = (0.336983, 0.945302, 1.102034, 0.786145, 0.199643)
SIX_DECIMALS = {"rtol": 0.0, "atol": 5.1e-7}


def leaf(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("bits", PACT)
def test_activations_of_the_worked_example(bits: int) -> None:
    x, clip = leaf(X), leaf((2.0,))
    quantized = quantize_activations(x, clip, bits)
    torch.testing.assert_close(quantized.detach(), leaf(PACT[bits]).detach(), **SIX_DECIMALS)
    with torch.no_grad():
        assert torch.equal(quantize_activations(x, clip, bits), quantized)


@pytest.mark.parametrize("bits", PACT)
def test_gradients_of_activations_are_the_closed_forms(bits: int) -> None:
    """Equation 3 of PACT: the clipping level gets the gradients of what is clipped from above, and nothing else."""
    received = torch.tensor((0.3, -1.0, 2.0, 0.5, -0.7), dtype=torch.float64)
    for position in range(5):
        x, clip = leaf(X), leaf((2.0,))
        quantize_activations(x, clip, bits).backward(received * torch.eye(5, dtype=torch.float64)[position])
        assert clip.grad is not None and x.grad is not None
        assert clip.grad.item() == (received[4].item() if position == 4 else 0)
        inside = position in (1, 2, 3)
        assert x.grad[position].item() == (received[position].item() if inside else 0)


@pytest.mark.parametrize("bits", PACT)
def test_full_gradient_of_the_clipping_level(bits: int) -> None:
    for position in range(5):
        clip = leaf((2.0,))
        quantize_activations(leaf(X), clip, bits, full=True)[position].backward()
        assert clip.grad is not None
        assert clip.grad.item() == pytest.approx(FULL_SLOPES[bits][position], abs=5.1e-7)


@pytest.mark.parametrize("signed", [False, True])
def test_full_gradient_is_the_slope_with_codes_held(signed: bool) -> None:
    """With codes ``round(y / s)`` of in-range values held, ``q = code s`` is linear in the clipping level.

    The straight-through estimator adds the derivative of the codes as if they were not rounded, ``-y / clip``; so the
    slope is ``(q - y) / clip``, and a finite difference of q alone must differ from it by exactly ``y / clip``.
    """
    x = torch.linspace(-1.9, 1.9, 41, dtype=torch.float64)
    clip = leaf((2.3,))
    steps = 3 if signed else 7  # of 3 bits
    quantize_activations(x, clip, 3, signed=signed, full=True).sum().backward()
    clipped = x if signed else x.clamp_min(0)
    codes = torch.round(clipped * steps / 2.3)
    slope = (codes / steps - clipped / 2.3).sum()
    assert clip.grad is not None
    torch.testing.assert_close(clip.grad.reshape(()), slope, rtol=1e-12, atol=1e-12)


def test_gradients_of_clamping_agree_with_finite_differences() -> None:
    """The straight-through gradient is that of ``clamp(x, 0, clip)``, which has no steps: torch's gradcheck agrees."""

    def clamp(x: Tensor, clip: Tensor) -> Tensor:
        return torch.minimum(torch.relu(x), clip)

    x = torch.tensor((-0.51, 0.3, 0.9, 1.6, 2.5, 3.1), dtype=torch.float64, requires_grad=True)
    clip = leaf((2.0,))
    assert torch.autograd.gradcheck(clamp, (x, clip))
    received = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    of_clamp = torch.autograd.grad(clamp(x, clip), (x, clip), received)
    for bits in range(1, 9):
        of_quantizer = torch.autograd.grad(quantize_activations(x, clip, bits), (x, clip), received)
        for one, other in zip(of_quantizer, of_clamp, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)


def test_signed_activations() -> None:
    x, clip = leaf((-3.0, -1.1, -0.2, 0.0, 0.9, 2.0)), leaf((2.0,))
    quantized = quantize_activations(x, clip, 2, signed=True)  # the values -2, 0 and 2
    assert quantized.tolist() == [-2, -2, 0, 0, 0, 2]
    quantized.backward(torch.tensor((1.0, 10, 100, 1000, 10000, 100000), dtype=torch.float64))
    assert x.grad is not None and clip.grad is not None
    assert x.grad.tolist() == [0, 10, 100, 1000, 10000, 0]
    assert clip.grad.item() == 100000 - 1


def test_a_negative_clipping_level_can_recover() -> None:
    clip = leaf((-1.0,))
    quantized = quantize_activations(leaf((0.5, 0.6)), clip, 4)
    assert quantized.tolist() == [SMALLEST_CLIP] * 2
    quantized.sum().backward()
    assert clip.grad is not None and clip.grad.item() == 2


@pytest.mark.parametrize("bits", DOREFA)
def test_dorefa_weights_of_the_worked_example(bits: int) -> None:
    torch.testing.assert_close(dorefa(leaf(W), bits).detach(), leaf(DOREFA[bits]).detach(), **SIX_DECIMALS)


@pytest.mark.parametrize("bits", DOREFA)
def test_gradients_of_dorefa_are_the_closed_forms(bits: int) -> None:
    w = leaf(W)
    dorefa(w, bits).sum().backward()
    assert w.grad is not None
    expected = leaf((1.0,) * 5 if bits == 1 else DOREFA_SLOPES).detach()
    torch.testing.assert_close(w.grad, expected, **SIX_DECIMALS)


def test_gradients_of_dorefa_agree_with_finite_differences_without_rounding() -> None:
    most = torch.tanh(torch.tensor(1.5, dtype=torch.float64))

    def without_rounding(w: Tensor) -> Tensor:
        return torch.tanh(w) / most

    w = leaf(W)
    assert torch.autograd.gradcheck(without_rounding, (w,))
    received = torch.tensor((1.0, -2, 3, 0.5, 0.25), dtype=torch.float64)
    (expected,) = torch.autograd.grad(without_rounding(w), w, received)
    for bits in range(2, 9):
        (found,) = torch.autograd.grad(dorefa(w, bits), w, received)
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("bits", range(1, 9))
def test_symmetric_weights_of_each_channel_are_on_their_own_grid(bits: int) -> None:
    w = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.no_grad():
        w[3] = 0
    quantized = symmetric(w, bits)
    for channel, values in zip(w.detach()[:3], quantized.detach()[:3], strict=True):
        if bits == 1:
            assert values.unique().tolist() == pytest.approx(
                [-channel.abs().mean().item(), channel.abs().mean().item()]
            )
            continue
        most = 2 ** (bits - 1) - 1
        step = channel.abs().max() / most
        codes = values / step
        # A code is at most half a step away, and the largest weight has the largest code: nothing is clipped.
        assert (codes - codes.round()).abs().max() < 1e-12
        assert codes.abs().max().round() == most
        assert ((values - channel).abs() <= step / 2 + 1e-12).all()
    assert quantized[3].abs().max() == 0 or bits == 1
    quantized.sum().backward()
    assert w.grad is not None and torch.equal(w.grad, torch.ones_like(w))


@pytest.mark.parametrize("quantize", [dorefa, symmetric])
def test_zero_weights_stay_finite(quantize: Callable[[Tensor, int], Tensor]) -> None:
    for bits in range(1, 9):
        w = torch.zeros(2, 3, requires_grad=True)
        quantized = quantize(w, bits)
        quantized.sum().backward()
        assert torch.isfinite(quantized).all() and w.grad is not None and torch.isfinite(w.grad).all()


def test_halves_are_rounded_to_even() -> None:
    """As ``numpy.rint`` and QuantizeLinear of ONNX do."""
    x = torch.tensor((0.5, 1.5, 2.5), dtype=torch.float64)
    clip = torch.tensor((3.0,), dtype=torch.float64)
    assert quantize_activations(x, clip, 2).tolist() == [0, 2, 2]
