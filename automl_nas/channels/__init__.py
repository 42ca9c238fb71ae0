"""Which channels of a network depend on each other, and networks with fewer of them.

`traced` runs a network once and records operators and the axes of all tensors. What cannot be divided further, an
atom, is a set of channels that a network can have fewer of. `verified` runs narrower networks to confirm it, and
`Narrowing` makes them. `removable` tells which channels have no influence if given tensors are zero there. No search
algorithm is here: a plugin decides which channels stay.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.channels.axis import (
        Axis as Axis,
        elements as elements,
        positions as positions,
        signature as signature,
    )
    from automl_nas.channels.flow import Flow as Flow
    from automl_nas.channels.narrowing import Narrowing as Narrowing, Plan as Plan, Sliced as Sliced
    from automl_nas.channels.operators import ATTENTION as ATTENTION
    from automl_nas.channels.owners import Owner as Owner, owners_of as owners_of
    from automl_nas.channels.running import checked_shape as checked_shape, on_meta as on_meta, traced as traced
    from automl_nas.channels.trace import (
        Call as Call,
        Step as Step,
        Trace as Trace,
        TracedTensor as TracedTensor,
        plain_kernels as plain_kernels,
    )
    from automl_nas.channels.verification import Variation as Variation, verified as verified
    from automl_nas.channels.zeros import removable as removable

_HOMES = {
    "axis": (
        "Axis",
        "elements",
        "positions",
        "signature",
    ),
    "flow": ("Flow",),
    "narrowing": (
        "Narrowing",
        "Plan",
        "Sliced",
    ),
    "operators": ("ATTENTION",),
    "owners": (
        "Owner",
        "owners_of",
    ),
    "running": (
        "checked_shape",
        "on_meta",
        "traced",
    ),
    "trace": (
        "Call",
        "Step",
        "Trace",
        "TracedTensor",
        "plain_kernels",
    ),
    "verification": (
        "Variation",
        "verified",
    ),
    "zeros": ("removable",),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
