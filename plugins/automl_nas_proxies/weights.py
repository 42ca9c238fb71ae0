"""Proxies from weights and their gradients.

All but `synflow` and `l2_norm` are computed on one batch with the task's loss, in training mode. They are sums over the
weights of convolutions and linear layers, as Abdelfattah et al. 2021 ("Zero-Cost Proxies for Lightweight NAS",
arXiv 2101.08134, section 3.2, equation 1) made scores of networks out of saliencies of weights.
"""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from automl_nas.space import run_on_example
from automl_nas_proxies.probe import NORMALISATION, WEIGHTED, Probe
from automl_nas_proxies.tokens import look_up


def plain(probe: Probe) -> float:
    """Return the sum of weight times gradient: ``sum_i theta_i dL/dtheta_i``.

    Mozer and Smolensky 1988, "Skeletonization": the first-order estimate of by how much the loss changes if weights are
    removed, with its sign.
    """
    return sum(float((w.detach() * g).double().sum()) for w, g in _pairs(probe))


def snip(probe: Probe) -> float:
    """Return ``sum_i |theta_i dL/dtheta_i|`` (SNIP: Lee et al. 2019, arXiv 1810.02340, equations 4 and 5).

    The paper divides by the sum over the network to compare weights; here it is the score.
    """
    return sum(float((w.detach() * g).abs().double().sum()) for w, g in _pairs(probe))


def grad_norm(probe: Probe) -> float:
    """Return the sum over layers of the Euclidean norm of their weights' gradient (Abdelfattah et al., section 3.2)."""
    return sum(float(g.double().norm()) for _, g in _pairs(probe))


def l2_norm(probe: Probe) -> float:
    """Return the sum over layers of the Euclidean norm of their weights.

    Krishnakumar et al. 2022 (NAS-Bench-Suite-Zero, arXiv 2210.03230), table 1.
    """
    return sum(float(w.detach().double().norm()) for w in probe.weights)


def grasp(probe: Probe) -> float:
    """Return ``-sum_i theta_i (H g)_i``, with the gradient g and the Hessian H of the loss.

    GraSP: Wang et al. 2020, arXiv 2002.07376, equation 8; the sign is that of the paper, in which removing weights with
    the largest value reduces the norm of the gradient least.
    """
    weights = probe.weights
    # The fused kernels of attention have no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        gradients = torch.autograd.grad(probe.loss(), weights, create_graph=True, allow_unused=True)
        pairs = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return 0.0
        # The gradient of g . stop(g) is H g.
        inner = sum((g * g.detach()).sum() for _, g in pairs)
        products = torch.autograd.grad(inner, [w for w, _ in pairs], allow_unused=True)  # type: ignore[arg-type]
    return -sum(
        float((w.detach() * p).double().sum()) for (w, _), p in zip(pairs, products, strict=True) if p is not None
    )


def fisher(probe: Probe) -> float:
    """Return the sum over channels c of ``w_c / (2 N) sum_n (sum_x A_ncx dL/dA_ncx)^2``.

    Fisher pruning: Theis et al. 2018, arXiv 1801.05787, equation 8, as in Turner et al. 2020 (BlockSwap, arXiv
    1906.04113, equations 2 and 3), with the activations A of convolutions and linear layers. L is the mean loss of the
    batch of N samples, not the sum. w_c is the number of weights of the channel's filter: the published values
    (Abdelfattah et al.; NAS-Bench-Suite-Zero) give the saliency of a channel to each of its weights, and sum over
    weights.
    """
    forward = probe.loss_pass
    return sum(
        0.5 * filter_size * float(salience.double().square().mean(0).sum())
        for salience, filter_size in zip(forward.saliences, forward.filters, strict=True)
    )


def synflow(probe: Probe) -> float:
    """Return ``log(1 + sum_i theta_i dR/dtheta_i)``, where R is the sum of the outputs for an input of ones.

    Synaptic flow: Tanaka et al. 2020, arXiv 2006.05467, equation 2 and section 5, without data. All weights and biases
    are replaced by their absolute values. Everything is float64, since R is a product over the depth; the logarithm has
    the same order, and a network that passes nothing on has 0.

    Normalisation becomes the identity, whatever its kind: it would divide by the flow that the score measures. That
    are the layers in `NORMALISATION`, their subclasses, and the functions in `NORMALISING`, which modules of other
    classes call. A module that normalises by arithmetic of its own is not recognised. A softmax normalises, too: the
    weights of attention are taken as constants, through which nothing flows. Without normalisation before it, scores
    of attention grow with the square of the flow, and rounding errors of their derivatives would overflow.

    Of a network that takes tokens, the vectors are the input of ones: tables that look the inputs up return ones.

    Raises:
        ConfigurationError: the network takes tokens, and no table looks them up.
    """
    network = copy.deepcopy(probe.network).double()
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, NORMALISATION):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    layers = [module for module in network.modules() if isinstance(module, WEIGHTED)]
    weights = list({id(layer.weight): layer.weight for layer in layers}.values())

    def run(inputs: Tensor) -> Tensor:
        with _Flow():
            return look_up(network, inputs, ones=True)[0]

    if probe.inputs.is_floating_point():
        # A cost does not know whether the space's inputs are tokens; the network then refuses floating ones.
        outputs = run_on_example(run, torch.ones_like(probe.inputs[:1], dtype=torch.float64))
    else:
        outputs = run(torch.zeros_like(probe.inputs[:1]))
    if not outputs.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(outputs.sum(), weights, allow_unused=True)
    total = sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, gradients, strict=True) if g is not None)
    return math.log1p(total)


NORMALISING = frozenset(
    {
        F.batch_norm,
        F.instance_norm,
        F.layer_norm,
        F.group_norm,
        F.rms_norm,
        F.local_response_norm,
        torch.batch_norm,
        torch.instance_norm,
        torch.layer_norm,
        torch.group_norm,
        torch.rms_norm,
    }
)
"""Functions that `synflow` replaces by the identity."""

_SOFTMAX = frozenset({F.softmax, torch.softmax, Tensor.softmax})
_ATTENTION = frozenset({F.scaled_dot_product_attention, F.multi_head_attention_forward})


@final
class _Flow(TorchFunctionMode):
    """Functions in `NORMALISING` return their input, and the weights of attention are constants."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in NORMALISING:
            return args[0] if args else kwargs["input"]
        if func in _ATTENTION:
            # Queries and keys are the first two arguments of both.
            args = tuple(arg.detach() if position < 2 else arg for position, arg in enumerate(args))
            kwargs |= {name: kwargs[name].detach() for name in ("query", "key") if name in kwargs}
        # The rows of a fused kernel (torch 2.14) do not add up to 1 where scores are as large as they get here.
        with sdpa_kernel(SDPBackend.MATH) if func in _ATTENTION else contextlib.nullcontext():
            outputs = func(*args, **kwargs)
        return outputs.detach() if func in _SOFTMAX else outputs


def _pairs(probe: Probe) -> list[tuple[Tensor, Tensor]]:
    return list(zip(probe.weights, probe.loss_pass.gradients, strict=True))
