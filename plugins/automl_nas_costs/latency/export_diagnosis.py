"""The operation and the module because of which a network cannot be exported."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas.space import running_modules

_OPERATOR = re.compile(r"(?:aten|prims|torchvision|torch\.ops\.\w+)(?:::|\.)(\w+)")
_LONGEST = 300  # characters of a message of another library


def data_dependence(network: nn.Module, example: tuple[Tensor, ...]) -> str:
    """Return how the network depends on the values of tensors, in words; empty if it does not.

    The network is run on fake tensors, which have shapes and no values.
    """
    with running_modules(network) as running, torch.no_grad():
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                network(*(mode.from_tensor(item) for item in example))
        except DataDependentOutputException as error:
            return _dependent(error.func, running[-1][0], "its forward branches on the value of a tensor")
        except DynamicOutputShapeException as error:
            return _dependent(error.func, running[-1][0], "the shape of its output depends on the values of its input")
        except Exception:
            # Fake tensors cannot run every operator; that does not show a dependence.
            return ""
    return ""


def _dependent(operator: Any, path: str, what: str) -> str:
    return (
        f"{what} (operation {operator} in {module_text(path)}), so its latency depends on the data; compute both "
        "branches and select with torch.where, or take the branch out of forward"
    )


def unsupported_operator(network: nn.Module, example: tuple[Tensor, ...], first: Exception, second: Exception) -> str:
    """Return the operation that ONNX cannot express and its module, from the messages of both exporters."""
    names = dict.fromkeys(_OPERATOR.findall(f"{first}\n{second}"))
    for name, place in ((name, _caller(network, example, name)) for name in names):
        if place is not None:
            return (
                f"ONNX cannot express the operation '{name}', called in {module_text(place)}; write it with operations "
                "that ONNX has, or remove this option from the space"
            )
    return (
        f"no exporter of torch can write it as ONNX: {type(second).__name__}: {brief(second)}; the error of the older "
        f"exporter is: {brief(first)}"
    )


def _caller(network: nn.Module, example: tuple[Tensor, ...], name: str) -> str | None:
    """Return the path of the first module that calls an operation; None if no module does."""
    callers: list[str] = []
    with running_modules(network) as running, torch.no_grad():

        def compare(called: str) -> None:
            if called == name or called.rstrip("_") == name.strip("_"):
                callers.append(running[-1][0])

        class Functions(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                compare(getattr(func, "__name__", ""))
                return func(*args, **(kwargs or {}))

        class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                compare(func.overloadpacket.__name__)
                return func(*args, **(kwargs or {}))

        try:
            with Functions(), Operators():  # type: ignore[no-untyped-call]
                network(*example)
        except Exception:
            pass  # the operation may be the one that fails
    return callers[0] if callers else None


def module_text(path: str) -> str:
    """Return a module's path in words."""
    return f"module '{path}'" if path else "the network itself"


def brief(error: BaseException) -> str:
    """Return the first line of an exception's message, shortened; its class if it has no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:_LONGEST] if lines else type(error).__name__
