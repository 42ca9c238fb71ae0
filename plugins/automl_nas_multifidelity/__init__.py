"""Multi-fidelity search: many candidates are evaluated cheaply, and few of them thoroughly.

Names are imported when they are first used, so importing this package does not import torch.
"""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategies."""
    register(
        "successive_halving",
        "automl_nas_multifidelity.brackets:SuccessiveHalving",
        summary="the best of each rung are evaluated again at the next fidelity (Jamieson and Talwalkar)",
    )
    register(
        "hyperband",
        "automl_nas_multifidelity.brackets:Hyperband",
        summary="successive halving with several trade-offs of candidates and fidelity (Li et al.)",
    )
    register(
        "asha",
        "automl_nas_multifidelity.asha:Asha",
        summary="successive halving that promotes candidates without waiting for a whole rung (Li et al.)",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    """Register the evaluator."""
    register(
        "levels",
        "automl_nas_multifidelity.levels:Levels",
        summary="several evaluators in one, from cheap to thorough; the fidelity selects one",
    )
