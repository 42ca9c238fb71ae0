"""Shortening the settings of a component that trains: `shortened_training`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from automl_nas.evaluation.shortened import Shortened
from automl_nas.evaluation.training.recipe import Recipe


def shortened_training(
    settings: Mapping[str, Any], share: float, *, phases: Sequence[str] = (), epochs: Sequence[str] = ()
) -> Shortened:
    """Return settings with at most a share of the epochs of the recipe ``train``, and other epochs in proportion.

    Numbers of epochs that are null or 0 stay so, and others are at least 1.

    Args:
        settings: resolved settings of a component, with a `Recipe` called ``train``.
        share: above 0, at most 1.
        phases: settings that are the epochs of a part of the training, after which at least one epoch follows.
        epochs: settings that are other numbers of epochs.
    """
    recipe = Recipe(**settings["train"])
    least = 1 + sum(bool(settings[name]) for name in phases)
    train = recipe.shortened(max(share, min(1.0, least / recipe.epochs)))
    actual = train.epochs / recipe.epochs
    changed = {name: max(1, round(settings[name] * actual)) for name in (*phases, *epochs) if settings[name]}
    for name in phases:
        if name in changed:
            changed[name] = min(changed[name], train.epochs - 1)
    return Shortened(actual, {"train": asdict(train), **changed})
