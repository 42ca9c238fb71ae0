"""The search space for a task, by the shape and type of its inputs, with the recipes of its trainings."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SpaceChoice:
    """The section ``space`` and what follows from it.

    Attributes:
        lines: of the section, with comments.
        training: the settings of both trainings besides their length, as YAML.
        normalised: whether networks have batch normalisation, whose statistics depend on the whole network.
        cost: that is limited.
        cost_words: the cost in words.
    """

    lines: Sequence[str]
    training: str
    normalised: bool
    cost: str
    cost_words: str


def choose_space(shape: tuple[int, ...], preprocessing: Mapping[str, Any] | None) -> SpaceChoice:
    """Return the space for inputs of a shape.

    Args:
        shape: of one input: ``(features,)``, ``(channels, length)``, ``(channels, height, width)``, or ``(length,)``
            for tokens.
        preprocessing: of the task; it says whether inputs are tokens, and how many different ones there are.
    """
    adam = "optimizer: adamw, learning_rate: {}"
    if (preprocessing or {}).get("input") == "tokens":
        assert preprocessing is not None
        return SpaceChoice(
            _tokens(shape[0], preprocessing["vocabulary"]), adam.format(0.003), False, "flops", "multiply-adds"
        )
    if len(shape) == 1:
        return SpaceChoice(_table(shape[0]), adam.format(0.01), False, "params", "parameters")
    if len(shape) == 2:
        return SpaceChoice(_signals(shape), adam.format(0.003), False, "flops", "multiply-adds")
    return SpaceChoice(_images(shape), "learning_rate: 0.1, warmup_epochs: 2", True, "flops", "multiply-adds")


def comment(text: str, indent: str = "") -> list[str]:
    """Return a comment in YAML, in lines of at most 110 characters."""
    prefix = f"{indent}# "
    return textwrap.wrap(text, 110, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False)


def _images(shape: Sequence[int]) -> list[str]:
    side = min(shape[1:])
    stem = 1 if side <= 32 else 2
    # Stages halve the image; at least 4 pixels remain.
    halvings = max(0, min(3, int(math.log2(max(side / stem, 1) / 4)))) if side >= 4 * stem else 0
    stages = max(2, halvings)
    strides = [1] * (stages - halvings) + [2] * halvings
    widths, repeats = [32, 64, 128][:stages], [4, 4, 4][:stages]
    return [
        *comment(
            f"ShuffleNetV2: {4 * stages} blocks with 4 candidates each, so {4 ** (4 * stages):,} networks. The stem "
            f"has stride {stem} for images of {side} pixels, and {halvings} of {stages} stages halve them."
        ),
        "space:",
        "  name: shufflenet_v2",
        "  stem_channels: 16",
        f"  stem_stride: {stem}",
        f"  widths: {widths}",
        f"  repeats: {repeats}",
        f"  strides: {strides}",
        "  last_channels: 128",
    ]


def _table(features: int) -> list[str]:
    width = 32 if features <= 32 else 64
    hidden = [width // 2, width, 2 * width]
    return [
        *comment(
            f"Residual perceptrons of width {width} for {features} features: 0 to 3 blocks with a hidden width each, "
            "and one activation."
        ),
        f"space: {{name: mlp, width: {width}, blocks: 3, hidden_widths: {hidden}}}",
    ]


def _signals(shape: Sequence[int]) -> list[str]:
    strides = _strides(shape[1], (4, 2))
    return [
        *comment(
            f"Convolutional networks for {shape[0]} channels of length {shape[1]}: for each of 4 blocks a kernel and a "
            f"hidden width, or skip. The stages shorten the signal {strides[0]} and {strides[1]} times."
        ),
        f"space: {{name: signal_cnn, widths: [32, 64], repeats: [2, 2], strides: {strides}}}",
    ]


def _tokens(length: int, vocabulary: int) -> list[str]:
    strides = _strides(length, (1, 2))
    return [
        *comment(
            f"An embedding of {vocabulary:,} tokens and a convolutional network: for each of 4 blocks a kernel and a "
            "hidden width, or skip. Tokens of new data must be below vocabulary."
        ),
        f"space: {{name: token_cnn, vocabulary: {vocabulary}, widths: [32, 64], repeats: [2, 2], strides: {strides}}}",
    ]


def _strides(length: int, preferred: tuple[int, int]) -> list[int]:
    """Return strides after which at least 8 positions are left, else strides of 1."""
    strides = [1, 1]
    for stage in (1, 0):
        if length // (math.prod(strides) * preferred[stage]) >= 8:
            strides[stage] = preferred[stage]
    return strides
