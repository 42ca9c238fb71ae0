"""Weights that a network begins with: a safetensors file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from automl_nas.errors import ConfigurationError


def load_initial_weights(network: nn.Module, file: str, *, strict: bool = True, path: str = "initial_weights") -> None:
    """Load the tensors of a safetensors file into a network, by name.

    Args:
        network: the network.
        file: the file. It may hold more tensors than the network has, such as those of a supernet or of other options.
        strict: whether every tensor of the network must be in the file, with its shape. False: tensors that are missing
            or have another shape keep their values, such as a head for other classes; at least one must be loaded.
        path: of the setting in the configuration.

    Raises:
        ConfigurationError: the file cannot be read, or does not hold the weights of the network.
    """
    tensors = _read(file, path)
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    missing = [name for name in own if name not in fitting]
    if not fitting or (strict and missing):
        name = missing[0] if missing else "nothing"
        reason = (
            f"has the shape {tuple(tensors[name].shape)} there and {tuple(own[name].shape)} in the network"
            if name in tensors
            else "is missing there"
        )
        raise ConfigurationError(
            f"{file} does not hold the weights of the network: {name} {reason} "
            f"({len(fitting)} of {len(own)} tensors fit)" + ("; strict: false loads those that fit" if fitting else ""),
            path=path,
        )
    network.load_state_dict(fitting, strict=False)


def _read(file: str, path: str) -> dict[str, Tensor]:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(Path(file).expanduser())
    except Exception as error:  # of the operating system, or of the library for a file of another format
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"cannot read {file} as safetensors: {reason}", path=path) from error
