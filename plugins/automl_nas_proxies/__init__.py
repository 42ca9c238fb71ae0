"""Zero-cost proxies: scores of networks that are not trained, from one batch or none.

Names are imported when they are first used, so importing this package does not import torch.
"""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_evaluators(register: Register) -> None:
    """Register the evaluator."""
    register(
        "zero_cost",
        "automl_nas_proxies.evaluator:ZeroCost",
        summary="zero-cost proxies of fresh networks on one batch, such as synflow, nwot and jacov",
    )


@hookimpl
def register_cost_models(register: Register) -> None:
    """Register the cost model."""
    register(
        "zero_cost_score",
        "automl_nas_proxies.cost:ZeroCostScore",
        summary="A zero-cost proxy that needs no data (synflow, nwot, l2_norm), as a cost.",
    )
