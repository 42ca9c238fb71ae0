"""Zero-cost proxies without data as costs: `ZeroCostScore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import CostModel, Runtime
from automl_nas.space import Architecture, SearchSpace, example_input, run_on_example
from automl_nas_proxies.measuring import check_space, measure
from automl_nas_proxies.outputs import has_units
from automl_nas_proxies.probe import Probe
from automl_nas_proxies.tokens import look_up

_SEED = 0


@final
class ZeroCostScore(CostModel):
    """A zero-cost proxy that needs no data and is not negative, as a cost that a problem limits or a model compares.

    The network has fresh weights, always drawn from the same stream, and is computed on the CPU. `nwot` has a batch of
    standard normal inputs instead of images, or of random tokens: all that the tables have which look the inputs up,
    with equal probability. A negative value counts as 0, and so does that of a network without an activation of the
    ReLU kind: it has no units, and one linear region for all inputs, which is the smallest score. So a run goes on in a
    space of which some networks have none; `remarks` names them. The other proxies need targets or may
    be negative, which costs are not: the evaluator ``zero_cost`` has them. `surrogate` compares the costs of a problem,
    so it uses such a score as evidence: ``costs: {synflow: {name: zero_cost_score, proxy: synflow}}``.

    Args:
        space: builds the networks.
        proxy: ``synflow``, ``nwot`` or ``l2_norm``.
        images: number of inputs for `nwot`.

    Raises:
        ConfigurationError: a setting is outside its range; the space does not say the shape of its inputs; its
            networks take tokens that no table looks up; or no network has what `nwot` looks at.
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
        with self._runtime.seeded(_SEED, "check"):
            check_space(space, [proxy], self._two_inputs, ["proxy"])

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the score under the path of the network itself, the empty string: it has no parts."""
        network = self._network(architecture)
        tokens = self._tokens(network) if self._proxy == "nwot" else None
        with self._runtime.seeded(_SEED, "zero-cost inputs"):
            if tokens is None:
                inputs = torch.randn(self._images, *self._space.input_shape)
            else:
                inputs = torch.randint(tokens, (self._images, *self._space.input_shape))
            value = measure([self._proxy], Probe(network, inputs))[self._proxy]
        return {"": max(value, 0.0)}

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Say if `nwot` has nothing to look at."""
        if self._proxy != "nwot":
            return ()
        network = self._network(architecture)
        if has_units(Probe(network, self._two_inputs(network))):
            return ()
        return ("The network has no activation of the ReLU kind, which nwot looks at, so its score is 0.",)

    def _network(self, architecture: Architecture) -> nn.Module:
        with self._runtime.seeded(_SEED, "init"):
            return self._runtime.place(self._space.build(architecture))

    def _tokens(self, network: nn.Module) -> int | None:
        """Return the number of different tokens that a network takes; None: its inputs are floating."""

        def run(inputs: Tensor) -> int | None:
            with torch.no_grad():
                return look_up(network.train(), inputs)[1]

        # Two inputs: batch normalisation needs them.
        return run_on_example(run, example_input(network, self._space.input_shape, batch=2))

    def _two_inputs(self, network: nn.Module) -> Tensor:
        kind = torch.float32 if self._proxy == "synflow" or self._tokens(network) is None else torch.int64
        return torch.zeros(2, *self._space.input_shape, dtype=kind)
