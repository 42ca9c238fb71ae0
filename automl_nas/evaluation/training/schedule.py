"""The learning rate of each iteration of a recipe."""

from __future__ import annotations

import math

from automl_nas.evaluation.training.recipe import Recipe


def learning_rate(recipe: Recipe, iteration: int, per_epoch: int) -> float:
    """Return the learning rate of an iteration: linear warm-up, then the schedule over the remaining iterations.

    The schedule ``one_cycle`` has its own warm-up.

    Args:
        recipe: the recipe.
        iteration: counted from 0.
        per_epoch: number of iterations of an epoch.

    With restarts the schedule applies to each cycle (SGDR: Loshchilov and Hutter 2017, equation 5).
    """
    if recipe.schedule == "one_cycle":
        return _one_cycle(recipe, iteration, per_epoch)
    warmup = round(recipe.warmup_epochs * per_epoch)
    if iteration < warmup:
        return recipe.learning_rate * (iteration + 1) / (warmup + 1)
    start, length = warmup, recipe.epochs * per_epoch - warmup
    if recipe.restart_epochs is not None:
        length = recipe.restart_epochs * per_epoch
        while iteration >= start + length:
            start, length = start + length, length * recipe.restart_factor
    passed = (iteration - start) / length
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - passed)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * passed))
    if recipe.schedule == "step":
        passed_steps = sum(iteration >= round(epoch * per_epoch) for epoch in recipe.step_epochs)
        return recipe.learning_rate * recipe.step_factor**passed_steps
    return recipe.learning_rate


def _one_cycle(recipe: Recipe, iteration: int, per_epoch: int) -> float:
    """Return the learning rate of a cycle that rises once and falls once (Smith and Topin 2018, arXiv 1708.07120)."""
    total = recipe.epochs * per_epoch
    rise = (recipe.warmup_epochs * per_epoch if recipe.warmup_epochs else 0.3 * total) - 1
    peak, start = recipe.learning_rate, recipe.learning_rate / 25
    if iteration <= rise:
        return _cosine(start, peak, iteration / rise)
    return _cosine(peak, start / 1e4, (iteration - rise) / (total - 1 - rise))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
