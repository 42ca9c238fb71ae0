"""What can vary in a network that was run once: widths, depths and kernel sizes, and what cannot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, TypeAlias

import numpy as np
from torch import nn

from automl_nas.channels import ATTENTION, Axis, Call, Owner, Plan, Trace, owners_of, signature
from automl_nas.space import Ordinal


@dataclass(frozen=True)
class Steps:
    """Which sizes the decisions have.

    Attributes:
        widths: shares of the channels that stay.
        granularity: numbers of channels are multiples of it, where there are enough channels.
        depths: the smallest share of the blocks of a sequence that stay.
    """

    widths: tuple[float, ...]
    granularity: int
    depths: float


@dataclass(frozen=True)
class Width:
    """A set of channels, heads or groups of which a network has more or fewer.

    Attributes:
        name: of the decision.
        decision: numbers of elements.
        atom: the axis.
        owners: the dimensions that have it.
    """

    name: str
    decision: Ordinal
    atom: Axis
    owners: tuple[Owner, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the modules that it changes."""
        return tuple(dict.fromkeys(owner.path for owner in self.owners))

    @property
    def count(self) -> int:
        """The number of options."""
        return len(self.decision.options)

    skips_blocks: ClassVar[bool] = False

    def apply(self, plan: Plan, place: int) -> None:
        """Keep as many elements as an option says, the first ones."""
        plan.keep(self.atom, np.arange(_number(self.decision, place)))


@dataclass(frozen=True)
class Depth:
    """Consecutive blocks of which the first ones stay.

    Attributes:
        name: of the decision.
        decision: numbers of blocks.
        blocks: their paths.
    """

    name: str
    decision: Ordinal
    blocks: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the modules that it changes."""
        return self.blocks

    @property
    def count(self) -> int:
        """The number of options."""
        return len(self.decision.options)

    atom: ClassVar[None] = None
    skips_blocks: ClassVar[bool] = True

    def apply(self, plan: Plan, place: int) -> None:
        """Leave out the last blocks."""
        plan.skipped.update(self.blocks[_number(self.decision, place) :])


@dataclass(frozen=True)
class Kernel:
    """A convolution whose kernel can be its centre.

    Attributes:
        name: of the decision.
        decision: lengths of the kernel's sides.
        path: of the convolution.
    """

    name: str
    decision: Ordinal
    path: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of the convolution."""
        return (self.path,)

    @property
    def count(self) -> int:
        """The number of options."""
        return len(self.decision.options)

    atom: ClassVar[None] = None
    skips_blocks: ClassVar[bool] = False

    def apply(self, plan: Plan, place: int) -> None:
        """Keep the centre of the kernel."""
        plan.kernels[self.path] = _number(self.decision, place)


Option: TypeAlias = Width | Depth | Kernel


def _number(decision: Ordinal, place: int) -> int:
    value = decision.options[place]
    assert isinstance(value, int)
    return value


@dataclass(frozen=True)
class Fixed:
    """What cannot vary.

    Attributes:
        where: the dimension of a parameter, or a module.
        size: of the dimension.
        reason: why.
    """

    where: str
    size: int
    reason: str


@dataclass
class Findings:
    """All options of a network, and what cannot vary."""

    options: list[Option] = field(default_factory=list)
    fixed: list[Fixed] = field(default_factory=list)


def find(network: nn.Module, trace: Trace, steps: Steps) -> Findings:
    """Return the options of a network.

    Args:
        network: that was run.
        trace: of the run.
        steps: which sizes the decisions have.
    """
    findings = Findings()
    parameters = {
        (path, name): parameter
        for path, module in network.named_modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    }
    names: set[str] = set()
    for atom, owners in owners_of(trace).items():
        weights = [o for o in owners if (o.path, o.tensor) in parameters and parameters[o.path, o.tensor].dim() > 1]
        producer = next((o for o in weights if _produces(network, o)), weights[0] if weights else None)
        if producer is None or atom.size < 2:
            continue
        if atom.fixed is not None:
            if atom.fixed and atom.size >= 4:  # fewer are no channels: queries, keys and values, for example
                findings.fixed.append(Fixed(str(producer), atom.size, atom.fixed))
            continue
        kind, unit = _kind(atom, weights)
        values = sizes(atom.size, steps, unit)
        if len(values) < 2:
            findings.fixed.append(Fixed(str(producer), atom.size, "there are too few to leave some out"))
            continue
        findings.options.append(Width(_free(f"{producer.path}.{kind}", names), Ordinal(values), atom, tuple(owners)))
    findings.options += _depths(network, trace, steps, names)
    findings.options += _kernels(network, trace, names)
    order = {path: number for number, path in enumerate(dict(network.named_modules()))}
    findings.options.sort(key=lambda option: order[option.paths[0]])
    return findings


def _produces(network: nn.Module, owner: Owner) -> bool:
    """Whether a dimension is the output of a layer."""
    return owner.dim == (1 if isinstance(network.get_submodule(owner.path), nn.Embedding) else 0)


def _free(name: str, names: set[str]) -> str:
    name = name.lstrip(".")
    unique, number = name, 2
    while unique in names:
        unique, number = f"{name}_{number}", number + 1
    names.add(unique)
    return unique


def _kind(atom: Axis, weights: Sequence[Owner]) -> tuple[str, int]:
    """Return what the elements of an atom are, and how many channels each has at least."""
    units = [owner.axis.size // atom.size for owner in weights if owner.dim == 0 and owner.axis.root().form != "sum"]
    unit = max(1, min(units, default=1))
    beside = [part for owner in weights for part in owner.axis.atoms() if part is not atom]
    if any(part.fixed == ATTENTION for part in beside):
        return "heads", unit
    products = [owner.axis.root() for owner in weights if owner.axis.root().form == "product"]
    outer = [axis for axis in products if axis.parts[0].root() is atom]
    return ("groups" if outer and all(o.axis.root() is not atom for o in weights) else "width"), unit


def sizes(size: int, steps: Steps, unit: int = 1) -> tuple[int, ...]:
    """Return the numbers of elements of a decision, ascending; the last is all of them.

    Args:
        size: all elements.
        steps: shares and granularity.
        unit: channels of an element, such as the width of an attention head.
    """
    grain = max(1, steps.granularity // unit)
    while grain > 1 and size < 2 * grain:
        grain //= 2
    options = {max(grain, int(size * share / grain + 0.5) * grain) for share in steps.widths}
    return (*sorted(option for option in options if option < size), size)


def _depths(network: nn.Module, trace: Trace, steps: Steps, names: set[str]) -> Iterable[Depth]:
    calls = {call.path: call for call in trace.calls}
    skippable = {path for path, call in calls.items() if _skippable(network, trace, path, call)}
    for path, container in network.named_modules():
        if not isinstance(container, nn.Sequential | nn.ModuleList):
            continue
        children = [f"{path}.{name}".lstrip(".") for name in container._modules]
        runs: list[list[str]] = [[]]
        for child in children:
            if child in skippable and not _holds(network, child, skippable):
                runs[-1].append(child)
            elif runs[-1]:
                runs.append([])
        runs = [run for run in runs if run]
        for run in runs:
            lowest = int(len(run) * steps.depths)
            if lowest == 0 and len(run) == len(children):
                lowest = 1
            if lowest < len(run):
                name = f"{path}.depth" if len(runs) == 1 else f"{run[0]}.depth"
                yield Depth(_free(name, names), Ordinal(tuple(range(lowest, len(run) + 1))), tuple(run))


def _holds(network: nn.Module, path: str, skippable: set[str]) -> bool:
    """Whether a module is itself a sequence with blocks that can be skipped."""
    module = network.get_submodule(path)
    return isinstance(module, nn.Sequential | nn.ModuleList) and any(
        f"{path}.{n}" in skippable for n in module._modules
    )


def _skippable(network: nn.Module, trace: Trace, path: str, call: Call) -> bool:
    """Whether a module adds something to its input, so that the network runs without it."""
    if trace.called[path] != 1 or not call.inputs or len(call.inputs) != len(call.outputs):
        return False
    module = network.get_submodule(path)
    if not any(parameter.dim() > 1 for parameter in module.parameters()):
        return False
    if any(signature(a) != signature(b) for a, b in zip(call.inputs, call.outputs, strict=True) if not a.constant):
        return False
    if [axis.size for axis in call.inputs] != [axis.size for axis in call.outputs]:
        return False
    inside = (step for step in trace.steps if step.path == path or step.path.startswith(f"{path}."))
    outputs = [signature(axis) for axis in call.outputs if not axis.constant]
    return any(
        step.name in ("add", "add_")
        and [signature(axis) for axis in step.outputs[0] if not axis.constant] == outputs
        and [axis.size for axis in step.outputs[0]] == [axis.size for axis in call.outputs]
        for step in inside
    )


def _kernels(network: nn.Module, trace: Trace, names: set[str]) -> Iterable[Kernel]:
    for path, module in network.named_modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or trace.called.get(path, 0) == 0:
            continue
        side = module.kernel_size[0]
        same = tuple(dilation * (side - 1) // 2 for dilation in module.dilation)
        if side % 2 and side >= 5 and set(module.kernel_size) == {side} and module.padding == same:
            yield Kernel(_free(f"{path}.kernel", names), Ordinal(tuple(range(3, side + 1, 2))), path)


def chosen(options: Iterable[Option], include: Sequence[str], exclude: Sequence[str]) -> list[Option]:
    """Return the options whose names match a pattern of ``include`` and none of ``exclude``."""
    return [
        option
        for option in options
        if any(fnmatchcase(option.name, pattern) for pattern in include)
        and not any(fnmatchcase(option.name, pattern) for pattern in exclude)
    ]
