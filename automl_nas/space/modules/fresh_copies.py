"""Copies of a module that share nothing with it, with its weights or with weights drawn anew."""

from __future__ import annotations

import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.modules.copying import deep_copy, on_meta


def copy_of(module: nn.Module) -> nn.Module:
    """Return an independent copy with the same weights; under ``torch.device("meta")`` without data.

    Modules that share a tensor share it in the copy, too, unlike after ``module.to("meta")``.
    """
    return on_meta(module) if torch.get_default_device().type == "meta" else deep_copy(module, {})


def drawn_anew(module: nn.Module, owner: str, way_out: str) -> nn.Module:
    """Return a copy whose weights are drawn anew, by the ``reset_parameters`` of each layer.

    Args:
        module: what to copy.
        owner: who needs the copy, for the message of an error.
        way_out: what to pass instead of a module.

    Raises:
        SpaceError: a layer has Parameters and no ``reset_parameters``.
    """
    twin = copy_of(module)
    for path, layer in twin.named_modules():
        # The private name is that of torch's attention and transformers.
        reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif layer._parameters:
            kind = type(layer).__name__
            raise SpaceError(
                f"{owner} cannot draw weights for a copy of its module: {kind} {path!r} has Parameters and no "
                f"reset_parameters; pass a function that returns a new module: {way_out}"
            )
    return twin
