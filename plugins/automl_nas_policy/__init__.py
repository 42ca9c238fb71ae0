"""Search by policy gradient: REINFORCE, PPO and ENAS, with a policy that draws architectures decision by decision.

Names are imported when they are first used, so importing this package does not import torch.
"""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategies."""
    register(
        "reinforce",
        "automl_nas_policy.reinforce:Reinforce",
        summary="a policy draws candidates and follows the gradient of their reward (Zoph and Le)",
    )
    register(
        "ppo",
        "automl_nas_policy.ppo:Ppo",
        summary="as reinforce, with several clipped steps for each batch of candidates (NASNet's controller)",
    )
    register(
        "enas",
        "automl_nas_policy.enas:Enas",
        summary="an LSTM controller and a supernet trained in turn, rewards with shared weights (ENAS)",
    )
