"""Which modules a space can be made of: checked before anything runs, so that errors name the way out."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from automl_nas.errors import ConfigurationError, SpaceError

COMPILED = "_orig_mod"
"""The attribute of a compiled module that holds the module itself."""


def usable(network: object) -> nn.Module:
    """Return the module itself without wrappers: of `torch.compile`, `DataParallel` or `DistributedDataParallel`.

    Raises:
        ConfigurationError: it is not a module.
        SpaceError: its forward cannot be followed, or its parameters cannot be sliced.
    """
    if isinstance(network, type) or not isinstance(network, nn.Module):
        what = f"the class {network.__name__}" if isinstance(network, type) else f"a {type(network).__name__}"
        raise ConfigurationError(f"must be a torch.nn.Module, not {what}", path="network")
    while (inner := _wrapped(network)) is not None:
        network = inner
    for path, module in network.named_modules():
        _check_module(path, module)
    parameters = list(network.named_parameters(remove_duplicate=False))
    if not parameters:
        raise SpaceError(f"{type(network).__name__} has no parameters; quantised models have none that can be sliced")
    for name, tensor in parameters:
        if tensor.device.type == "meta":
            raise SpaceError(f"the parameter '{name}' is on the meta device, without values; load the weights first")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise SpaceError(
                f"the parameter '{name}' is {kind}; convert the model with .float(), and set precision in the section "
                "runtime to train in another type"
            )
    return network


def _wrapped(network: nn.Module) -> nn.Module | None:
    if isinstance(network, torch.jit.ScriptModule):
        return None
    if (compiled := network._modules.get(COMPILED)) is not None:
        return compiled
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner: nn.Module = network.module
        return inner
    return None


def _check_module(path: str, module: nn.Module) -> None:
    where = f"'{path}' ({type(module).__name__})" if path else f"the network ({type(module).__name__})"
    if isinstance(module, torch.jit.ScriptModule):
        raise SpaceError(f"{where} is TorchScript, whose operators cannot be followed; give the module it was made of")
    if COMPILED in module._modules:
        raise SpaceError(f"{where} is compiled; give the network with the module itself, and compile afterwards")
    if any(each is not None and is_lazy(each) for each in module._parameters.values()):
        raise SpaceError(f"{where} is lazy and has no weights yet; call the network once on a batch of inputs")
    if parametrize.is_parametrized(module):
        names = ", ".join(module.parametrizations)  # type: ignore[arg-type]
        raise SpaceError(
            f"{where} computes {names} from other parameters; "
            "torch.nn.utils.parametrize.remove_parametrizations makes a parameter of the result"
        )
    tensors = {name: value for name, value in vars(module).items() if isinstance(value, torch.Tensor)}
    computed = [name for name, value in tensors.items() if not value.is_leaf or _has_source(module, name)]
    if computed:
        raise SpaceError(
            f"{where} computes {', '.join(computed)} in a hook; make a parameter of the result, such as with "
            "prune.remove, remove_spectral_norm or remove_weight_norm of torch.nn.utils"
        )


def _has_source(module: nn.Module, name: str) -> bool:
    """Whether a hook of torch computes a tensor from parameters; before the first call it is a tensor of its own."""
    return any(f"{name}_{suffix}" in module._parameters for suffix in ("orig", "g", "v"))
