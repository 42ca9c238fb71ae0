"""Whether code works on another device than the CPU, without one: `require_device`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from torch import Tensor

from automl_nas.testing.contract import require

_MESSAGE = "is not on the expected device"
"""Part of torch's message when an operation gets tensors of two devices."""


def require_device(function: Callable[..., object], *tensors: Tensor) -> None:
    """Assert that a function of tensors combines them with no tensor on the CPU.

    It is called with tensors on torch's device ``meta``, which have no data. Whatever else it raises, for example
    because it reads data, says nothing about devices.

    Args:
        function: with all its parameters on the device ``meta``.
        tensors: its arguments.
    """
    finding = ""
    with contextlib.suppress(Exception):
        try:
            function(*(tensor.to("meta") for tensor in tensors))
        except RuntimeError as error:
            finding = str(error).splitlines()[0] if _MESSAGE in str(error) else ""
            raise
    require(not finding, f"on another device: {finding}")
