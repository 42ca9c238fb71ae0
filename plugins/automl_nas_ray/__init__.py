"""Ray: an executor whose evaluations run in actors of a Ray cluster, each with the resources that it needs."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_executors(register: Register) -> None:
    """Register ``ray``."""
    register(
        "ray",
        "automl_nas_ray.executor:RayExecutor",
        summary="actors of a Ray cluster, each with CPUs, GPUs and other resources of its own",
    )
