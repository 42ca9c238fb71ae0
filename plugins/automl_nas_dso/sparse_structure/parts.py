"""The parts of an ordinary network that can be scaled, and removed if their scale is 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from automl_nas.channels import (
    Axis,
    Flow,
    Narrowing,
    Plan,
    Trace,
    TracedTensor,
    elements,
    owners_of,
    removable,
    traced,
    verified,
)
from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas_dso.sparse_structure.additions import Addition, additions

Kind: TypeAlias = Literal["blocks", "groups", "neurons"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class ScaledOutput:
    """The output of a layer that is multiplied by scales.

    Attributes:
        path: of the convolution, linear layer or batch normalisation.
        dim: the dimension of the channels, counted from the end, -1 being the last.
        axis: of this dimension.
    """

    path: str
    dim: int
    axis: Axis

    def places(self, atom: Axis | None) -> Tensor | None:
        """Return the number of the scale of each channel, -1 for channels without; None: the numbers of the channels.

        Args:
            atom: whose elements have scales; None: there is one scale for all channels.
        """
        if atom is None or self.axis.root() is atom:
            return None
        return torch.from_numpy(elements(self.axis, atom))


def factors(scales: Tensor, places: Tensor | None) -> Tensor:
    """Return the factor of each channel of an output, shape ``(channels,)``; of one scale for all, shape ``(1,)``.

    Args:
        scales: of a part, shape ``(part.count,)``.
        places: what `ScaledOutput.places` returns.
    """
    if places is None:
        return scales
    # -1 is the last one.
    return torch.cat([scales, scales.new_ones(1)])[places.to(scales.device)]


@dataclass(frozen=True)
class Part:
    """A part of a network with its own vector of scales.

    Attributes:
        path: its name: the first module whose output is scaled; if that module has channels of other parts too, the
            first module that has the channels, which is the layer that produces them.
        count: number of scales: one for a residual branch, otherwise one for each group or neuron.
        outputs: the outputs that are scaled.
        atom: for groups and neurons: the axis whose elements they are.
        addition: for residual branches: where they are added.
    """

    path: str
    count: int
    outputs: tuple[ScaledOutput, ...]
    atom: Axis | None = None
    addition: Addition | None = None

    skips_blocks: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the modules whose outputs are scaled."""
        return tuple(output.path for output in self.outputs)

    def apply(self, plan: Plan, place: int) -> None:
        """Keep the first groups or neurons, one more than ``place``."""
        assert self.atom is not None
        plan.keep(self.atom, np.arange(place + 1))


def find(network: nn.Module, kind: Kind, input_shape: Sequence[int]) -> list[Part]:
    """Return the parts of a network that can be removed, in the order of its run.

    ``blocks``: branches of additions that end in a convolution, linear layer or batch normalisation and have more
    layers than the other argument; torch.fx must be able to trace the forward of the one module that adds them.
    ``groups``: groups of grouped convolutions, also depthwise ones. ``neurons``: all other channels, and attention
    heads. Groups and neurons that a network can only have fewer of together, such as those of a residual sum, are one
    part. All that reads them must be able to do without them: what adds channels up must read zeros if the scales are 0
    (see `automl_nas.channels.removable`). Layers that are called twice, share parameters, or do not multiply by their
    own weights are not scaled.

    Args:
        network: a copy is run.
        kind: of the parts.
        input_shape: the shape of one input without the batch.

    Raises:
        ConfigurationError: there is no such kind, or no such shape.
        SpaceError: the network does not run on inputs of this shape, or has no part of this kind.
    """
    return analysed(network, kind, input_shape)[0]


def analysed(network: nn.Module, kind: Kind, input_shape: Sequence[int]) -> tuple[list[Part], Narrowing]:
    """Return the parts that `find` returns, and what removes groups and neurons."""
    if kind not in get_args(Kind):
        raise ConfigurationError(f"must be one of {', '.join(get_args(Kind))}, not {kind!r}", path="kind")
    trace = traced(network, input_shape)
    if kind == "blocks":
        parts, narrowing = _blocks(network, trace), Narrowing(network, trace, ())
    else:
        parts, narrowing = verified(network, trace, lambda: _channels(network, trace, kind), _never)
    if not parts:
        raise SpaceError(
            f"the network has no {kind} that can be removed without changing other outputs; use another kind"
        )
    return parts, narrowing


def _never(part: Part, reason: str) -> None:
    raise AssertionError(f"{part.path} has no axis: {reason}")


def _blocks(network: nn.Module, trace: Trace) -> list[Part]:
    layers = _layers(network, trace)
    return [
        Part(layers[addition.branch].path, 1, (layers[addition.branch],), addition=addition)
        for addition in additions(network, trace, frozenset(layers))
    ]


def _channels(network: nn.Module, trace: Trace, kind: Kind) -> list[Part]:
    layers = _layers(network, trace)
    counted = {
        atom
        for sizes in trace.attributes.values()
        if isinstance(groups := sizes.get("groups"), Axis)
        for atom in groups.atoms()
    }
    order = {tensor: number for number, tensor in enumerate(layers)}
    candidates = [
        (atom, tensors)
        for atom, tensors in removable(trace, {tensor: layer.dim for tensor, layer in layers.items()}).items()
        if (atom in counted) is (kind == "groups")
    ]
    candidates.sort(key=lambda each: [order[tensor] for tensor in each[1]])
    owners = owners_of(trace)
    atoms = {atom for atom, _ in candidates}
    parts: dict[str, Part] = {}
    for atom, tensors in candidates:
        path = layers[tensors[0]].path
        if atoms.intersection(layers[tensors[0]].axis.atoms()) != {atom}:
            path = next((owner.path for owner in owners[atom] if owner.path), path)
        name, number = path, 2
        while name in parts:
            name, number = f"{path}_{number}", number + 1
        parts[name] = Part(name, atom.size, tuple(layers[tensor] for tensor in tensors), atom)
    return list(parts.values())


def _layers(network: nn.Module, trace: Trace) -> dict[TracedTensor, ScaledOutput]:
    """Return the outputs of layers in whose weights scales can be folded, in the order of the run."""
    flow = Flow(trace)
    uses = Counter(id(each) for module in network.modules() for each in module._parameters.values() if each is not None)
    outputs = {}
    for call in trace.calls:
        module = network.get_submodule(call.path)
        if (
            isinstance(module, (*CONVOLUTIONS, nn.Linear, *NORMS))
            and call.result is not None
            and trace.called[call.path] == 1
            and all(uses[id(each)] == 1 for each in module._parameters.values() if each is not None)
            and _multiplies(flow, call.path, call.result)
        ):
            dim = -1 if isinstance(module, nn.Linear) else 1 - len(call.result.axes)
            outputs[call.result] = ScaledOutput(call.path, dim, call.result.axes[dim])
    return outputs


def _multiplies(flow: Flow, path: str, result: TracedTensor) -> bool:
    """Whether the result of a module is a product with its own weight, plus its own bias."""
    while (step := flow.maker(result)) is not None and step.path == path:
        name, args = step.name, step.args
        if name in ("view", "_unsafe_view") or (name in ("add", "add_") and _is(args[1], path, "bias")):
            result = args[0]
            continue
        if "batch_norm" in name:
            return args[1] is None or _is(args[1], path, "weight")
        places = {"convolution": 1, "_convolution": 1, "mm": 1, "addmm": 2}
        if name not in places:
            return False
        weight = args[places[name]]
        turned = flow.maker(weight)
        if turned is not None and turned.name == "t":
            weight = turned.args[0]
        return _is(weight, path, "weight")
    return False


def _is(value: object, path: str, name: str) -> bool:
    return isinstance(value, TracedTensor) and value.owner == (path, name)
