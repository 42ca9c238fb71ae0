"""One-shot search: train a supernet once (SPOS), rank candidates with its weights, or train them from scratch."""

from __future__ import annotations

from typing import Any

from automl_nas.plugin import hookimpl


@hookimpl
def register_strategies(register: Any) -> None:
    """Register the training of supernets."""
    register(
        "single_path",
        "automl_nas_oneshot.single_path:SinglePath",
        summary="train a supernet, one uniformly drawn path per iteration (SPOS); ends with its weights as an artifact",
    )


@hookimpl
def register_evaluators(register: Any) -> None:
    """Register the evaluators that need a network."""
    register(
        "inherited",
        "automl_nas_oneshot.supernet_weights:InheritedWeights",
        summary="score candidates with a supernet's weights after recalibrating batch normalisation",
    )
    register(
        "train",
        "automl_nas_oneshot.from_scratch:TrainFromScratch",
        summary="train each candidate from scratch; the fidelity is the number of epochs",
    )
