"""A small Ray cluster of this machine, whose workers load the toy plugin."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from automl_nas.testing.toy_plugin import installed_toys


@contextmanager
def toy_cluster(folder: Path, **node: Any) -> Iterator[Any]:
    """Start a cluster with one node; yield `ray.cluster_utils.Cluster`. Skip the test if Ray is not installed.

    Args:
        folder: for the metadata of the toy plugin.
        node: the resources of the node.
    """
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'automl-nas[ray]'")
    before = dict(os.environ)
    os.environ.update(installed_toys(folder, "ray", "evolution"))
    # Without tokens: `Cluster` starts its nodes without one, and a client that finds the cluster by itself makes one.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"})
    # Each node would start as many processes in advance as it has CPUs, and give workers a niceness of 15: on a busy
    # machine an actor then takes minutes to start.
    os.environ.update({"RAY_prestart_worker_first_driver": "0", "RAY_worker_niceness": "0"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node})
        try:
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR", namespace="automl_nas")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            os.environ.clear()
            os.environ.update(before)
