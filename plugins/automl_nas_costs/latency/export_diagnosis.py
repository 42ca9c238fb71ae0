"""Which operation of which module stands in the way of a measurement."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_OPERATOR = re.compile(r"(?:aten|prims|torchvision|torch\.ops\.\w+)(?:::|\.)(\w+)")
_SHOWN = 300


@contextlib.contextmanager
def watched(network: nn.Module) -> Iterator[list[str]]:
    """Yield a list whose last item is the path of the innermost module that is running."""
    paths, hooks = [""], []
    for path, module in network.named_modules():

        def enter(module: nn.Module, args: object, path: str = path) -> None:
            paths.append(path)

        def leave(module: nn.Module, args: object, output: object) -> None:
            paths.pop()

        # Not called for a module that raises: then the last path is where it happened.
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield paths
    finally:
        for hook in hooks:
            hook.remove()


def data_dependence(network: nn.Module, example: tuple[Tensor, ...]) -> str:
    """Return what depends on the values of tensors, empty if nothing does.

    The network is run on fake tensors, which have shapes and no values.
    """
    with watched(network) as paths, torch.no_grad():
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                network(*(mode.from_tensor(item) for item in example))
        except DataDependentOutputException as error:
            return _dependent(error.func, paths[-1], "its forward branches on the value of a tensor")
        except DynamicOutputShapeException as error:
            return _dependent(error.func, paths[-1], "the shape of its output depends on the values of its input")
        except Exception:
            # Something that fake tensors cannot do is no proof.
            return ""
    return ""


def _dependent(operator: Any, path: str, what: str) -> str:
    return (
        f"{what} (operation {operator} in {module_text(path)}), so its latency depends on the data; compute both "
        "branches and choose with torch.where, or take the decision out of forward"
    )


def unsupported_operator(network: nn.Module, example: tuple[Tensor, ...], first: Exception, second: Exception) -> str:
    """Return which operation ONNX cannot express, and where it is called, from the messages of both exporters."""
    names = dict.fromkeys(_OPERATOR.findall(f"{first}\n{second}"))
    for name, place in ((name, _caller(network, example, name)) for name in names):
        if place is not None:
            return (
                f"ONNX cannot express the operation '{name}', called in {module_text(place)}; write it with operations "
                "that ONNX has, or leave this option out of the space"
            )
    return (
        f"no exporter of torch can write it as ONNX: {type(second).__name__}: {_brief(second)}; the older exporter "
        f"says {_brief(first)}"
    )


def _caller(network: nn.Module, example: tuple[Tensor, ...], name: str) -> str | None:
    found: list[str] = []
    with watched(network) as paths, torch.no_grad():

        def note(called: str) -> None:
            if called == name or called.rstrip("_") == name.strip("_"):
                found.append(paths[-1])

        class Functions(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                note(getattr(func, "__name__", ""))
                return func(*args, **(kwargs or {}))

        class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                note(func.overloadpacket.__name__)
                return func(*args, **(kwargs or {}))

        try:
            with Functions(), Operators():  # type: ignore[no-untyped-call]
                network(*example)
        except Exception:
            return found[0] if found else None
    return found[0] if found else None


def module_text(path: str) -> str:
    """Return a module's path in words."""
    return f"module '{path}'" if path else "the network itself"


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:_SHOWN] if lines else type(error).__name__
