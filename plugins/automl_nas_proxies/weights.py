"""Proxies from weights and their gradients.

All but `synflow` and `l2_norm` are computed on one batch with the task's loss, in training mode. They are sums over the
weights of convolutions and linear layers, as Abdelfattah et al. 2021 ("Zero-Cost Proxies for Lightweight NAS",
arXiv 2101.08134, section 3.2, equation 1) made scores of networks out of saliencies of weights.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from automl_nas_proxies.probe import NORMALISATION, WEIGHTED, Probe


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
    are replaced by their absolute values, batch normalisation by the identity. Everything is float64, since R is a
    product over the depth; the logarithm has the same order, and a network that passes nothing on has 0.
    """
    network = copy.deepcopy(probe.network).double()
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, NORMALISATION):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    inputs = torch.ones_like(probe.inputs[:1], dtype=torch.float64)
    layers = [module for module in network.modules() if isinstance(module, WEIGHTED)]
    weights = list({id(layer.weight): layer.weight for layer in layers}.values())
    outputs: Tensor = network(inputs)
    gradients = torch.autograd.grad(outputs.sum(), weights, allow_unused=True)
    total = sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, gradients, strict=True) if g is not None)
    return math.log1p(total)


def _pairs(probe: Probe) -> list[tuple[Tensor, Tensor]]:
    return list(zip(probe.weights, probe.loss_pass.gradients, strict=True))
