"""Compiling the network of a training with `torch.compile`."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from automl_nas.errors import ConfigurationError, did_you_mean


def compiled(network: nn.Module, backend: str) -> nn.Module:
    """Return a module that computes what a network does, compiled; both have the same parameters and buffers.

    Whatever was compiled before is forgotten: torch compiles a function a few times only before it gives up, and the
    networks of a space share their functions.

    Args:
        network: a network on its device.
        backend: of `torch.compile`.
    """
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(network, backend=backend, dynamic=False))


def check_compiler(backend: str, device: torch.device, path: str) -> None:
    """Check that a backend can compile on this machine: a small network is compiled and trained for one step.

    Args:
        backend: of `torch.compile`.
        device: of the networks.
        path: of the setting in the configuration.

    Raises:
        ConfigurationError: there is no such backend, or it cannot compile; the message has its reason.
    """
    names = torch.compiler.list_backends(exclude_tags=())
    if backend not in names:
        raise ConfigurationError(f"torch.compile has no backend {backend!r}{did_you_mean(backend, names)}", path=path)
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).to(device)
    try:
        compiled(network, backend)(torch.ones(2, 2, device=device)).sum().backward()
    except Exception as error:  # of the compiler, of whatever class
        # torch's own errors begin with a line such as "backend='inductor' raised:".
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = next((line for line in lines if not line.endswith(":")), lines[0])
        raise ConfigurationError(
            f"torch.compile cannot compile with the backend '{backend}' on {device}: {reason}; inductor needs a C++ "
            "compiler (g++ or clang++) on the CPU, and Triton on a GPU. Install it, or leave this setting out",
            path=path,
        ) from error
    finally:
        torch.compiler.reset()
