"""Sparse structure selection: remove residual branches, groups or neurons from a network while it is trained."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, SpaceError, did_you_mean
from automl_nas_dso.optimiser import APGNAG, Nonnegative, alive
from automl_nas_dso.sparse_structure.parts import NORMS, Kind, Part, analysed, factors, find
from automl_nas_dso.sparse_structure.pruning import plain_network

__all__ = ["SparseSelection", "find"]


@dataclass(frozen=True)
class _Scaled:
    """The channels of a part in the output of a module.

    Attributes:
        numbers: of the part's scales in lambda.
        places: what `ScaledOutput.places` returns.
        dim: the dimension of the channels, counted from the end.
    """

    numbers: slice
    places: Tensor | None
    dim: int


@final
class SparseSelection:
    """Scales lambda on parts of a network, trained to exact zeros with it (Huang & Wang 2017, arXiv 1707.01213).

    It minimises ``mean loss + R(W) + gamma * ||lambda||_1``. The network itself does not change; forward hooks multiply
    the outputs of its parts by lambda, initially 1. Lambda is trained by `APGNAG` on the same batches as the weights.
    `finish` folds the nonzero scales into the weights, removes the parts with scale 0 and returns a plain network. In
    your own training loop::

        selection = SparseSelection(network, kind="blocks", input_shape=(3, 32, 32), gamma=0.01)
        for inputs, targets in batches:
            optimizer.zero_grad()
            selection.zero_grad()
            loss(network(inputs), targets).backward()
            optimizer.step()
            selection.step()
        small = selection.finish(inputs)

    With `automl_nas.evaluation.Fit`: ``Fit(network, task, runtime, recipe, forward=selection.forward, ...)``, and at
    the end ``selection.step()`` for the gradient of the last iteration.

    Args:
        network: a network that takes one tensor and returns one; a copy of it is run once.
        input_shape: the shape of one input without the batch.
        kind: ``blocks``: residual branches, ``r + lambda F(r)``; ``groups``: groups of grouped
            convolutions; ``neurons``: output channels (see `find`).
        only: the paths of the parts to scale, among those that `find` returns; None: all of them.
        gamma: the penalty; ``selection.optimiser.set_gamma`` sets it for each scale, at any time.
        lr: learning rate of lambda.
        momentum: momentum of lambda.
        nonnegative: see `APGNAG`.
        fix_scales: whether the scales of the normalisations whose output is multiplied by lambda are not trained,
            since they would absorb lambda.

    Attributes:
        parts: the parts that are scaled.
        values: lambda, shape ``(sum of the parts' counts,)``, in the order of ``parts``; not a parameter of the
            network. Layers whose channels are one part share its scales.
        optimiser: the optimiser of lambda.

    Raises:
        ConfigurationError: there is no such kind, or no such shape.
        SpaceError: the network does not run on inputs of this shape, has no parts of this kind, or lacks one of the
            paths in ``only``.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        input_shape: Sequence[int],
        kind: Kind = "blocks",
        only: Collection[str] | None = None,
        gamma: float,
        lr: float = 0.1,
        momentum: float = 0.9,
        nonnegative: Nonnegative = "prox",
        fix_scales: bool = True,
    ) -> None:
        parts, self._narrowing = analysed(network, kind, input_shape)
        candidates = {part.path: part for part in parts}
        for path in only or ():
            if path not in candidates:
                raise SpaceError(
                    f"'{path}' is not among the {kind} that can be removed{did_you_mean(path, candidates)}"
                )
        self.network = network
        self.parts: tuple[Part, ...] = tuple(part for path, part in candidates.items() if only is None or path in only)
        first = next(network.parameters())
        total = sum(part.count for part in self.parts)
        self.values = nn.Parameter(torch.ones(total, device=first.device, dtype=first.dtype))
        self.optimiser = APGNAG([self.values], lr, momentum=momentum, gamma=gamma, nonnegative=nonnegative)
        self._scaled: dict[str, list[_Scaled]] = {}
        start = 0
        for part in self.parts:
            numbers = slice(start, start + part.count)
            for output in part.outputs:
                places = output.places(part.atom)
                own = _Scaled(numbers, None if places is None else places.to(first.device), output.dim)
                self._scaled.setdefault(output.path, []).append(own)
            start += part.count
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._attach()
        self._fixed: list[Tensor] = []
        for path in self._scaled if fix_scales else ():
            module = network.get_submodule(path)
            if isinstance(module, NORMS) and module.affine and module.weight.requires_grad:
                self._fixed.append(module.weight.requires_grad_(False))

    @property
    def scales(self) -> Mapping[str, Tensor]:
        """Path -> present lambda of that part, shape ``(part.count,)``; views of ``values`` without gradients."""
        pieces = torch.split(self.values.detach(), [part.count for part in self.parts])
        return {part.path: piece for part, piece in zip(self.parts, pieces, strict=True)}

    def live(self) -> dict[str, Tensor]:
        """Return path -> which scales are not 0 after the last proximal step, boolean, shape ``(part.count,)``."""
        pieces = torch.split(alive(self.optimiser.iterate(self.values)), [part.count for part in self.parts])
        return {part.path: piece for part, piece in zip(self.parts, pieces, strict=True)}

    def zero_grad(self) -> None:
        """Set the gradient of lambda to None."""
        self.values.grad = None

    def step(self) -> None:
        """If lambda has a gradient, make a step of lambda and set the gradient to None."""
        if self.values.grad is not None:
            self.optimiser.step()
            self.values.grad = None

    def forward(self, network: nn.Module, inputs: Tensor, count: int) -> Tensor:
        """Call the network for `automl_nas.evaluation.Fit`, after a step of lambda for the previous iteration.

        Args:
            network: the network, possibly wrapped.
            inputs: a batch.
            count: number of the pass; not used.
        """
        self.step()
        outputs: Tensor = network(inputs)
        return outputs

    def finish(self, example: Tensor | None = None) -> nn.Module:
        """Return a plain network that computes the same in evaluation mode: lambda folded in, dead parts removed.

        The network and its scales do not change. Layers keep at least one neuron or group. Modules from which branches
        were removed are torch.fx.GraphModules in the result.

        Args:
            example: a batch on which the result is compared with the scaled network; None: no comparison.

        Raises:
            ConfigurationError: lambda is NaN.
            SpaceError: the outputs for the example differ.
        """
        if bool(self.values.isnan().any()):
            raise ConfigurationError("lambda is NaN: train with a smaller learning rate", path="lr")
        settled = self.optimiser.iterate(self.values)
        pieces = torch.split(settled, [part.count for part in self.parts])
        scales = {part.path: piece for part, piece in zip(self.parts, pieces, strict=True)}
        with self._detached():
            result = plain_network(self.network, self._narrowing, self.parts, scales)
        twins = dict(result.named_parameters())
        for name, parameter in self.network.named_parameters():
            if name in twins and any(parameter is fixed for fixed in self._fixed):
                twins[name].requires_grad_(True)
        if example is not None:
            self._compare(result, example, settled)
        return result

    def remove(self) -> None:
        """Remove the hooks from the network and train the scales of its normalisations again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for parameter in self._fixed:
            parameter.requires_grad_(True)
        self._fixed = []

    def state_dict(self) -> dict[str, Any]:
        """Return lambda, its gradient and its optimiser's state; the network's state is not included."""
        return {
            "values": self.values.detach(),
            "gradient": self.values.grad,
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned for the same network and parts."""
        with torch.no_grad():
            self.values.copy_(state["values"])
        self.values.grad = None if state["gradient"] is None else state["gradient"].clone().to(self.values)
        self.optimiser.load_state_dict(state["optimiser"])

    def _attach(self) -> None:
        for path, scaled in self._scaled.items():
            hook = functools.partial(self._scale, scaled=scaled)
            self._hooks.append(self.network.get_submodule(path).register_forward_hook(hook))

    def _scale(self, module: nn.Module, inputs: object, result: Tensor, *, scaled: Sequence[_Scaled]) -> Tensor:
        values = self.values.to(result.dtype)
        # All parts that a module has channels of at once: the output is as large as a batch.
        whole = functools.reduce(torch.mul, (factors(values[each.numbers], each.places) for each in scaled))
        return result * whole.view(-1, *[1] * (-1 - scaled[0].dim))

    @contextmanager
    def _detached(self) -> Iterator[None]:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        try:
            yield
        finally:
            self._attach()

    def _compare(self, result: nn.Module, example: Tensor, settled: Tensor) -> None:
        modes = [(module, module.training) for network in (self.network, result) for module in network.modules()]
        unsettled = self.values.detach().clone()
        try:
            with torch.no_grad():
                self.values.copy_(settled)
                expected, actual = self.network.eval()(example), result.eval()(example)
        finally:
            with torch.no_grad():
                self.values.copy_(unsettled)
            for module, mode in modes:
                module.training = mode
        error = float((expected - actual).abs().max())
        if not error <= 1e-3 * float(expected.abs().max()) + 1e-6:
            raise SpaceError(
                f"the network without its dead parts computes other outputs (they differ by up to {error:.3g}): a part "
                "that was taken as independent is not; exclude it with 'only'"
            )
