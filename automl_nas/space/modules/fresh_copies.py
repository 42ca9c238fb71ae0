"""Copies of a module that share nothing with it, with its weights or with weights drawn anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.modules.copying import deep_copy, on_meta

_keeps_data: ContextVar[bool] = ContextVar("keeps_data", default=False)


@contextlib.contextmanager
def keeping_data() -> Iterator[None]:
    """In this context `copy_of` copies the data of tensors also under ``torch.device("meta")``.

    So what a network takes from elsewhere has data, and what is drawn has none.
    """
    token = _keeps_data.set(True)
    try:
        yield
    finally:
        _keeps_data.reset(token)


def copy_of(module: nn.Module) -> nn.Module:
    """Return an independent copy with the same weights; under ``torch.device("meta")`` without data.

    Modules that share a tensor share it in the copy, too, unlike after ``module.to("meta")``.
    """
    return deep_copy(module, {}) if _keeps_data.get() else _on_device(module)


def _on_device(module: nn.Module) -> nn.Module:
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
    twin = _on_device(module)
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
