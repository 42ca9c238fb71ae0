"""Selections, with which supernets are called: a value, a tensor, or both, for each decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from automl_nas.space.architecture import Value

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Weighted:
    """Compute only the options in ``value``, each multiplied by its own weight.

    GDAS and ProxylessNAS weight the sampled options with their gates, DSO-NAS the remaining edges with their lambda.

    Attributes:
        value: one option or a tuple of options.
        tensor: the weights, shape ``(number of options in value,)``; a scalar is accepted for a single option.
    """

    value: Value
    tensor: Tensor

    @property
    def options(self) -> tuple[object, ...]:
        """The options as a tuple, also if there is only one."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


Selection: TypeAlias = "Mapping[str, Value | Tensor | Weighted]"
"""Decision name -> value (that option or subset, unweighted), tensor (one weight per option, shape
``(number of options,)``, all computed) or `Weighted`. An `Architecture` is a selection."""
