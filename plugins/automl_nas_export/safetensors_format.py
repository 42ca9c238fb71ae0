"""The exporter `safetensors`: weights as safetensors, architecture and description as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from automl_nas.errors import DamagedError, DataError, RunFailedError, did_you_mean
from automl_nas.evaluation import Delivery, Exporter
from automl_nas_export.staging import put_in_place, staging

WEIGHTS = "model.safetensors"
DESCRIPTION = "architecture.json"


@final
class SafetensorsExporter(Exporter):
    """Write ``model.safetensors`` (the ``state_dict()``) and ``architecture.json``.

    ``architecture.json`` holds ``architecture`` (decision -> value), ``input_shape`` and ``description`` (the
    configuration of the space, metrics, costs, versions). To get the network back, build the architecture anew and call
    `load_safetensors`. Tied tensors are stored once; the file's metadata holds their other names in the form that
    ``safetensors.torch.load_model`` reads.
    """

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write both files; the weights are read back and compared bit for bit.

        Args:
            delivery: the network, its architecture and its description.
            folder: an existing folder.

        Raises:
            RunFailedError: the network's state holds something that is not a tensor, or what was read back differs.
        """
        state = _tensors(delivery.network)
        tensors, aliases = untie(state)
        text = json.dumps(
            {
                "architecture": delivery.architecture.to_dict(),
                "input_shape": list(delivery.input_shape),
                "description": dict(delivery.description),
            },
            indent=2,
            ensure_ascii=False,
        )
        with staging(folder) as stage:
            (stage / WEIGHTS).write_bytes(save(tensors, metadata=aliases))
            _check_identical(state, read_safetensors(stage / WEIGHTS))
            (stage / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
            return put_in_place([stage / WEIGHTS, stage / DESCRIPTION], folder)


def untie(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split a state into tensors that share no memory, and the names of tensors that are stored under another name.

    Args:
        state: name -> tensor; two names may belong to the same tensor (tied weights) or to parts of one.

    Returns:
        Contiguous CPU tensors, and alias -> the name under which the tensor is stored (the first one).
    """
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in state.items():
        storage = tensor.untyped_storage().data_ptr()
        place = (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if storage and place in seen:
            aliases[name] = seen[place]
            continue
        seen[place] = name
        plain = tensor.detach().cpu().contiguous()
        # A slice of a storage that another name uses too: the file format needs it in its own storage.
        shared = storage in storages or plain.untyped_storage().nbytes() != plain.nbytes
        storages.add(storage)
        tensors[name] = plain.clone() if shared else plain
    return tensors, aliases


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Return every tensor of a file under all its names; tied ones are the same object.

    Raises:
        DataError: the file does not exist.
        DamagedError: the file cannot be read.
    """
    if not file.is_file():
        raise DataError(f"the weights file {file} does not exist")
    try:
        with safe_open(file, framework="pt") as content:
            tensors: dict[str, Tensor] = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            metadata: dict[str, str] = content.metadata() or {}
    except SafetensorError as error:
        raise DamagedError(f"{file} is not a complete safetensors file ({error}); export it again") from error
    return tensors | {alias: tensors[name] for alias, name in metadata.items() if name in tensors}


def load_safetensors(network: nn.Module, file: str | Path) -> nn.Module:
    """Load the weights that `SafetensorsExporter` wrote into a network of the same architecture, and return it.

    ::

        network = load_safetensors(space.build(architecture), "export/model.safetensors").eval()

    Args:
        network: built from the architecture in ``architecture.json``; it is changed only if all tensors fit.
        file: ``model.safetensors``.

    Raises:
        DataError: the file does not exist, or holds the weights of another network; names the differences.
        DamagedError: the file cannot be read.
    """
    path = Path(file)
    stored, present = read_safetensors(path), _tensors(network)
    problems = [f"'{name}' is missing in the file" for name in present.keys() - stored.keys()]
    problems += [
        f"the network has no '{name}'{did_you_mean(name, present) if present else ''}"
        for name in stored.keys() - present.keys()
    ]
    problems += [
        f"'{name}' is {_kind(stored[name])} in the file and {_kind(tensor)} in the network"
        for name, tensor in present.items()
        if name in stored and (stored[name].shape, stored[name].dtype) != (tensor.shape, tensor.dtype)
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3]) + ("; ..." if len(problems) > 3 else "")
        raise DataError(
            f"{path} holds the weights of another network ({len(problems)} differences: {shown}); "
            f"build the one described in {DESCRIPTION} beside it"
        )
    network.load_state_dict(stored)
    return network


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    state: dict[str, object] = dict(network.state_dict())
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if len(tensors) != len(state):
        others = ", ".join(sorted(state.keys() - tensors.keys()))
        raise RunFailedError(f"safetensors holds tensors only; the network's state also holds {others}")
    return tensors


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _check_identical(state: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    if state.keys() != stored.keys():
        raise RunFailedError(f"{WEIGHTS} does not hold the same names: {sorted(state.keys() ^ stored.keys())}")
    for name, tensor in state.items():
        reference, read = tensor.detach().cpu().contiguous(), stored[name]
        if (reference.shape, reference.dtype) != (read.shape, read.dtype):
            raise RunFailedError(f"{WEIGHTS}: '{name}' was read back as {_kind(read)} instead of {_kind(reference)}")
        # Bytes, so that NaN equals itself and -0.0 differs from 0.0.
        changed = int((reference.reshape(-1).view(torch.uint8) != read.reshape(-1).view(torch.uint8)).sum())
        if changed:
            raise RunFailedError(f"{WEIGHTS}: {changed} of {reference.nbytes} bytes of '{name}' were read back changed")
