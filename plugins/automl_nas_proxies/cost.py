"""Zero-cost proxies without data as costs: `ZeroCostScore`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import CostModel, Runtime
from automl_nas.space import Architecture, SearchSpace
from automl_nas_proxies.measuring import measure
from automl_nas_proxies.probe import Probe

_SEED = 0


@final
class ZeroCostScore(CostModel):
    """A zero-cost proxy that needs no data and is not negative, as a cost that a problem limits or a model compares.

    The network has fresh weights, always drawn from the same stream, and is computed on the CPU. `nwot` has a batch of
    standard normal inputs instead of images, and a negative value counts as 0. The other proxies need targets or may
    be negative, which costs are not: the evaluator ``zero_cost`` has them. `surrogate` compares the costs of a problem,
    so it uses such a score as evidence: ``costs: {synflow: {name: zero_cost_score, proxy: synflow}}``.

    Args:
        space: builds the networks.
        proxy: ``synflow``, ``nwot`` or ``l2_norm``.
        images: number of inputs for `nwot`.

    Raises:
        ConfigurationError: a setting is outside its range, or the space does not say the shape of its inputs.
    """

    metric: ClassVar[str] = "zero_cost_score"
    unit: ClassVar[str] = "score"

    def __init__(
        self, space: SearchSpace, *, proxy: Literal["synflow", "nwot", "l2_norm"] = "synflow", images: int = 64
    ) -> None:
        if images < 2:
            raise ConfigurationError(f"images must be at least 2, not {images}", path="images")
        if not space.input_shape:
            raise ConfigurationError("the space has no input_shape, so no network can be run", path="proxy")
        self._space, self._proxy = space, proxy
        self._images = images if proxy == "nwot" else 1
        self._runtime = Runtime(device="cpu", memory_format="contiguous")

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the score under the path of the network itself, the empty string: it has no parts."""
        with self._runtime.seeded(_SEED, "init"):
            network = self._runtime.place(self._space.build(architecture))
        with self._runtime.seeded(_SEED, "zero-cost inputs"):
            inputs = torch.randn(self._images, *self._space.input_shape)
            value = measure([self._proxy], Probe(network, inputs))[self._proxy]
        return {"": max(value, 0.0)}
