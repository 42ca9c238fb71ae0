"""One-shot search (SPOS): train a supernet once and rank candidates with its weights; or train them from scratch."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategies that train a supernet and evaluate the best candidates again."""
    register(
        "single_path",
        "automl_nas_oneshot.single_path:SinglePath",
        summary="train a supernet, one uniformly sampled path per iteration (SPOS); saves its weights as an artifact",
    )
    register(
        "rerank",
        "automl_nas_oneshot.rerank:Rerank",
        summary="have the best few candidates of earlier stages evaluated again, more thoroughly",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    """Register the evaluators that build a network."""
    register(
        "supernet_weights",
        "automl_nas_oneshot.supernet_weights:SupernetWeights",
        summary="score candidates with a supernet's weights after recalibrating batch normalisation",
    )
    register(
        "inherited",
        "automl_nas_oneshot.supernet_weights:SupernetWeights",
        summary="alias of supernet_weights",
    )
    register(
        "supernet_effects",
        "automl_nas_oneshot.supernet_effects:SupernetEffects",
        summary="predict scores from the effects of single decisions on the scores of random networks with a supernet",
    )
    register(
        "train",
        "automl_nas_oneshot.from_scratch:TrainFromScratch",
        summary="train each candidate from scratch; the fidelity is the number of epochs",
    )
