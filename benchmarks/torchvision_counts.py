"""Multiply-adds and parameters of every classification model of torchvision, compared with the published numbers.

The metadata of each set of published weights contain the multiply-adds (``_ops``, in 10^9, three digits) and parameters
of its model, at the resolution at which the weights are evaluated. Run: ``python benchmarks/torchvision_counts.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from automl_nas.space import Architecture, Choice, Decision, SearchSpace
from automl_nas_costs.models import Flops, Params

ONLY = Architecture({"network": 0})
_LIBRARIES: list[torch.library.Library] = []


class SingleNetworkSpace(SearchSpace):
    """A space with a single network."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size

    @property
    def decisions(self) -> dict[str, Decision]:
        """One decision with one option."""
        return {"network": Choice((0,))}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """An RGB image."""
        return (3, self._size, self._size)

    def build(self, architecture: Architecture) -> nn.Module:
        """Return the model with random weights."""
        arguments: dict[str, Any] = {"init_weights": False} if self._name in ("googlenet", "inception_v3") else {}
        if self._name.startswith("vit_"):
            arguments["image_size"] = self._size  # the positional embeddings are for one resolution
        network: nn.Module = models().get_model(self._name, **arguments)
        return network


def models() -> Any:
    """Import torchvision's models. With another build of torch, two operators are missing and are declared first."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
            _LIBRARIES.append(library)
    import torchvision.models

    return torchvision.models


def published() -> Iterator[tuple[str, Any]]:
    """Yield the name of each classification model and each of its sets of weights."""
    package = models()
    for name in package.list_models(module=package):
        for weights in package.get_model_weights(name):
            yield name, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="count only models whose name contains this string")
    only = parser.parse_args().only
    equal = different = 0
    begin = time.process_time()
    print(f"{'model':22} {'weights':22} {'size':>4} {'ours':>9} {'theirs':>9} {'parameters':>12} {'theirs':>12}")
    for name, weights in published():
        if only not in name:
            continue
        meta = weights.meta
        size = weights.transforms().crop_size[0]
        space = SingleNetworkSpace(name, size)
        ops, params = Flops(space).estimate(ONLY), Params(space).estimate(ONLY)
        agrees = round(ops / 1e9, 3) == meta["_ops"] and params == meta["num_params"]
        equal, different = equal + agrees, different + (not agrees)
        line = f"{name:22} {weights.name:22} {size:4} {ops / 1e9:9.3f} {meta['_ops']:9.3f} "
        print(line + f"{params:12,} {meta['num_params']:12,}{'' if agrees else '  DIFFERS'}")
    print(f"{equal} of {equal + different} agree; {time.process_time() - begin:.0f} s of processor time")


if __name__ == "__main__":
    main()
