"""Weights that networks begin with: a safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from automl_nas.errors import ConfigurationError
from automl_nas.object_storage import local_file
from automl_nas.space.covering import allowed, cover_options
from automl_nas.space.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_NETWORKS = 8
"""The number of networks that `check_initial_weights` loads weights into at most."""


@dataclass(frozen=True)
class InitialWeights:
    """Weights that networks begin with.

    A setting of this type is called ``initial_weights``: then the run records the file with an absolute path and its
    SHA-256, and compares it when it is resumed.

    Attributes:
        file: safetensors file, or its URL in object storage; its tensors are loaded by name. It may hold more tensors
            than a network has.
        strict: whether every tensor of a network must be in the file, with its shape. ``false``: tensors that are
            missing or have another shape, such as a head for other classes, keep fresh weights.
    """

    file: str
    strict: bool = True

    def load_into(self, network: nn.Module, path: str = "initial_weights") -> None:
        """Load the tensors of the file into a network, by name.

        If a network consists of one named part, as the supernet of a `ModuleSpace` does, names may leave that name out.

        Args:
            network: the network.
            path: of the setting in the configuration.

        Raises:
            ConfigurationError: the file cannot be read, or with ``strict`` a tensor of the network is missing or has
                another shape; the message names all of these. Without ``strict``: no tensor fits.
        """
        tensors, own = _read(self.file, path), network.state_dict()
        prefix = _only_part(network)
        if prefix and not any(name in own for name in tensors):
            tensors = {prefix + name: tensor for name, tensor in tensors.items()}
        fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
        misfits = [_misfit(name, tensor, tensors) for name, tensor in own.items() if name not in fitting]
        if misfits and (self.strict or not fitting):
            way_out = "; strict: false loads those that fit" if fitting else ""
            raise ConfigurationError(
                f"{self.file} does not hold the weights of the network: {'; '.join(misfits)} "
                f"({len(fitting)} of {len(own)} tensors fit){way_out}",
                path=path,
            )
        network.load_state_dict(fitting, strict=False)


def check_initial_weights(space: SearchSpace, weights: InitialWeights, path: str = "initial_weights") -> None:
    """Load weights into networks of a space that cover its options, which draw from the global generators.

    Raises:
        ConfigurationError: the file cannot be read, or does not hold the weights of a network.
    """
    for architecture in allowed(cover_options(space.decisions, MAX_NETWORKS), space.exclusions):
        weights.load_into(space.build(architecture), path)


def _only_part(network: nn.Module) -> str:
    """Return the prefix of all names if a network consists of one named part, else an empty string."""
    names = {name.partition(".")[0] for name in network.state_dict()}
    (name,) = names if len(names) == 1 else ("",)
    return f"{name}." if name in network._modules else ""


def _misfit(name: str, tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    if name not in tensors:
        return f"{name} is missing there"
    return f"{name} has the shape {tuple(tensors[name].shape)} there and {tuple(tensor.shape)} in the network"


def _read(file: str, path: str) -> dict[str, Tensor]:
    import safetensors.torch

    copy = local_file(file, path)
    try:
        return safetensors.torch.load_file(copy)
    except Exception as error:  # of the operating system, or of the library for a file of another format
        reason, way_out = (str(error).splitlines() or [type(error).__name__])[0], ""
        if copy.is_dir():
            reason = "it is a folder"
            way_out = "; name the file: of a run, FOLDER/artifacts/final/weights.safetensors"
        elif copy.is_file():
            way_out = (
                "; convert a file of torch.save with safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
                "NEW_FILE)"
            )
        raise ConfigurationError(f"cannot read {file} as safetensors: {reason}{way_out}", path=path) from error
