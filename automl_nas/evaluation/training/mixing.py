"""Mixing of samples: mixup and cutmix, by the formulas of `torchvision.transforms.v2`.

The targets are not mixed but the losses: ``share * loss(targets) + (1 - share) * loss(partners' targets)``. For the
cross entropy this equals the loss of the mixed one-hot targets, and it needs no number of classes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.training.recipe import Recipe


def mix(inputs: Tensor, recipe: Recipe, rng: random.Random) -> tuple[Tensor, float]:
    """Mix each sample of a batch with the sample before it, the first one with the last one.

    With both ``mixup`` and ``cutmix``, each batch is mixed in one of the two ways, with equal probability.

    Args:
        inputs: the batch, shape ``(batch, ...)``.
        recipe: ``mixup`` and ``cutmix`` are the parameter alpha of the distribution Beta(alpha, alpha) of the share.
        rng: what the share and the box are drawn from.

    Returns:
        The mixed batch, and the share of each sample itself in it; 1 if the recipe mixes nothing.
    """
    ways: list[tuple[Callable[[Tensor, float, random.Random], tuple[Tensor, float]], float]] = [
        (way, alpha) for way, alpha in ((_mixup, recipe.mixup), (_cutmix, recipe.cutmix)) if alpha > 0
    ]
    if not ways:
        return inputs, 1.0
    way, alpha = ways[rng.randrange(len(ways))]
    return way(inputs, rng.betavariate(alpha, alpha), rng)


def _mixup(inputs: Tensor, share: float, rng: random.Random) -> tuple[Tensor, float]:
    """Return the weighted mean of each sample and its partner (Zhang et al. 2018, arXiv 1710.09412)."""
    return inputs.mul(share).add(inputs.roll(1, 0), alpha=1.0 - share), share


def _cutmix(inputs: Tensor, share: float, rng: random.Random) -> tuple[Tensor, float]:
    """Return the samples with a box of their partners (Yun et al. 2019, arXiv 1905.04899, equation 2)."""
    height, width = inputs.shape[-2:]
    column, row = rng.randrange(width), rng.randrange(height)
    half = 0.5 * math.sqrt(1.0 - share)
    half_width, half_height = int(half * width), int(half * height)
    left, right = max(column - half_width, 0), min(column + half_width, width)
    top, bottom = max(row - half_height, 0), min(row + half_height, height)
    mixed = inputs.clone()
    mixed[..., top:bottom, left:right] = inputs.roll(1, 0)[..., top:bottom, left:right]
    return mixed, 1.0 - (right - left) * (bottom - top) / (width * height)


def check_mixing(recipe: Recipe, inputs: Tensor, targets: Tensor, path: str) -> None:
    """Check that the samples of a task can be mixed as a recipe says.

    Args:
        recipe: the recipe.
        inputs: a batch of the task.
        targets: its targets.
        path: of the recipe in the configuration.

    Raises:
        ConfigurationError: the inputs are integers, or cutmix is used with inputs that are not images or with targets
            for each pixel.
    """
    prefix = f"{path}." if path else ""
    for name in ("mixup", "cutmix"):
        if getattr(recipe, name) > 0 and not inputs.is_floating_point():
            raise ConfigurationError(
                f"inputs of the type {str(inputs.dtype).removeprefix('torch.')} cannot be mixed; leave {name} out",
                path=f"{prefix}{name}",
            )
    if recipe.cutmix > 0 and inputs.dim() != 4:
        raise ConfigurationError(
            f"boxes are cut from images, and an input of this task has the shape {tuple(inputs.shape[1:])}; use mixup",
            path=f"{prefix}cutmix",
        )
    if recipe.cutmix > 0 and targets.dim() > 2:
        raise ConfigurationError(
            "a loss with targets for each pixel cannot be divided by the area of a box; use mixup",
            path=f"{prefix}cutmix",
        )
