"""Which dimensions of parameters and buffers have an axis."""

from __future__ import annotations

from dataclasses import dataclass

from automl_nas.channels.axis import Axis
from automl_nas.channels.trace import Trace


@dataclass(frozen=True)
class Owner:
    """A dimension of a parameter or buffer.

    Attributes:
        path: of the module.
        tensor: name of the parameter or buffer.
        dim: number of the dimension.
        axis: of the dimension.
    """

    path: str
    tensor: str
    dim: int
    axis: Axis

    def __str__(self) -> str:
        return f"{self.path}.{self.tensor}[{self.dim}]".lstrip(".")


def owners_of(trace: Trace) -> dict[Axis, list[Owner]]:
    """Return atom -> the dimensions of parameters and buffers that have it, in the order of their use."""
    owners: dict[Axis, list[Owner]] = {}
    for (path, name), axes in trace.tensors.items():
        for dim, axis in enumerate(axes):
            for atom in dict.fromkeys(axis.atoms()):
                owners.setdefault(atom, []).append(Owner(path, name, dim, axis))
    return owners
