"""Artifacts on disk: weights that a stage writes once, as safetensors with their SHA-256 in a JSON file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from automl_nas.errors import ConfigurationError, DamagedError, RunDirectoryError, did_you_mean
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.ranks import process_ranks
from automl_nas.object_storage import RemoteFolder, is_url
from automl_nas.run.configuration.identity import space_difference
from automl_nas.run.record.atomic_files import present, read_record, sha256, write_record, write_whole
from automl_nas.run.record.contents import NOTE
from automl_nas.run.record.directory import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor, nn


class RunArtifacts(Artifacts):
    """The artifacts of one run, seen from one of its stages.

    Args:
        folder: ``artifacts/`` of the run directory.
        stage: the present stage, whose artifacts `save` writes.
        space: the configuration of the search space that the weights belong to.
        fingerprint: of configuration and decisions of the space; `load` checks it.
        describe: returns the description of the space (`describe_space`), which `load` compares with that of another
            run.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        space: Mapping[str, Any],
        fingerprint: str,
        describe: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._folder, self._stage, self._space, self._fingerprint = folder, stage, space, fingerprint
        self._describe = describe

    def save(self, tensors: Mapping[str, Tensor], *, name: str = "weights") -> None:
        """Write an artifact of the present stage; see `Artifacts.save`. Under torchrun, rank 0 writes it."""
        import safetensors.torch

        if process_ranks().rank:
            return

        unique, tied = _untie(tensors)
        path = self._folder / self._stage / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = safetensors.torch.save(unique)
        note = path.with_suffix(".json")
        digest = hashlib.sha256(content).hexdigest()
        same = path.exists() and sha256(path) == digest
        # If one file of the pair is damaged, the other one holds the digest that was written, and the pair is repaired.
        if path.exists() and note.exists() and not same and _recorded(note) != digest:
            raise RunDirectoryError(
                f"artifact '{self._stage}/{name}' exists and holds other weights: the run is not reproducible any more "
                "(another version of a library, or other hardware?); start a new run"
            )
        if not same:
            write_whole(path, lambda file: file.write(content))
        elif _recorded(note) == digest:
            return
        write_record(
            note, {"sha256": digest, "tied": tied, "space": self._space, "space_fingerprint": self._fingerprint}
        )

    def load(self, reference: str) -> dict[str, Tensor]:
        """Read an artifact; see `Artifacts.load`."""
        path = self.path(reference)
        note = read_record(path.with_suffix(".json"), NOTE)
        difference = self._difference(path.parents[2]) if ":" in reference else ""
        if note["space_fingerprint"] != self._fingerprint and not difference:
            difference = f"it was {note['space']}, and this run has {dict(self._space)}"
        if difference:
            raise ConfigurationError(
                f"the weights '{reference}' belong to another search space: {difference}; use weights of the same "
                "space, or give this run the space of the weights"
            )
        return load_weights(path)

    def _difference(self, run: Path) -> str:
        """Return the first difference of this run's space and that of another run; empty if it recorded none."""
        recorded = RunDirectory(run).read_identity()
        return "" if recorded is None else space_difference(recorded["space"], self._describe())

    def path(self, reference: str) -> Path:
        """Return the file of an artifact.

        Raises:
            ConfigurationError: no artifact has that name.
        """
        run, _, local = reference.rpartition(":")
        if is_url(run):
            return remote_artifact(run, local)
        folder = Path(run).expanduser() / "artifacts" if run else self._folder
        stage, _, name = local.partition("/")
        path = folder / stage / f"{name or 'weights'}.safetensors"
        if not path.exists() or not path.with_suffix(".json").exists():
            existing = [f"{file.parent.name}/{file.stem}" for file in sorted(folder.glob("*/*.safetensors"))]
            raise ConfigurationError(
                f"there are no weights '{reference}' ({path} is missing){did_you_mean(local, _references(existing))}"
            )
        return path


def remote_artifact(run: str, local: str, path: str = "") -> Path:
    """Return a copy of an artifact whose run directory is in object storage, with what `RunArtifacts.load` compares.

    Args:
        run: the URL of the run directory.
        local: ``stage`` or ``stage/name``.
        path: of the setting, for error messages.

    Raises:
        ConfigurationError: the storage cannot be read, or no artifact has that name.
        DamagedError: a download is not complete.
    """
    stage, _, name = local.partition("/")
    if not stage:
        raise ConfigurationError(f"name a stage of the run: '{run}:STAGE'", path=path)
    folder, file = RemoteFolder(run, path), f"artifacts/{stage}/{name or 'weights'}"
    if not (folder.has(f"{file}.safetensors") and folder.has(f"{file}.json")):
        raise ConfigurationError(
            f"the run {run} has no weights '{local}' ({file}.safetensors is missing)"
            f"{did_you_mean(local, _references(_artifacts(folder)))}",
            path=path,
        )
    return folder.copied([f"{file}.safetensors", f"{file}.json"], ["identity.json"]) / f"{file}.safetensors"


def _artifacts(folder: RemoteFolder) -> list[str]:
    """Return the artifacts of a run as ``stage/name``; none if the storage does not list its objects."""
    try:
        names = folder.names()
    except ConfigurationError:
        return []
    parts = [PurePosixPath(name) for name in names]
    return [f"{p.parts[1]}/{p.stem}" for p in parts if p.suffix == ".safetensors" and len(p.parts) == 3]


def _references(files: Iterable[str]) -> list[str]:
    """Return how configurations name artifacts, from ``stage/name``."""
    return [file.removesuffix("/weights") for file in files]


def _recorded(note: Path) -> str | None:
    """Return the recorded digest; None if the file is missing or damaged."""
    try:
        return str(read_record(note, NOTE)["sha256"]) if present(note) else None
    except DamagedError:
        return None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file that `RunArtifacts.save` wrote, with its tied tensors.

    Raises:
        DamagedError: its digest does not match, or it is not such a file.
    """
    import safetensors.torch

    note = read_record(path.with_suffix(".json"), NOTE)
    if sha256(path) != note["sha256"]:
        raise DamagedError(f"artifact {path} is damaged: its content does not match its digest; restore it from a copy")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(path.read_bytes())
        tensors.update({name: tensors[owner] for name, owner in note["tied"].items()})
    except Exception as error:  # of the library, for a file with the right digest that somebody else wrote
        raise DamagedError(f"artifact {path} holds no weights: {type(error).__name__}: {error}") from error
    return tensors


def load_into(network: nn.Module, path: Path) -> None:
    """Load the weights of a file that `RunArtifacts.save` wrote into a network.

    Raises:
        DamagedError: the file is damaged, or its tensors are not those of the network.
    """
    try:
        network.load_state_dict(load_weights(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise DamagedError(
            f"artifact {path} is not of the network of its run: {reason}; restore it from a copy"
        ) from error


def _untie(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return contiguous tensors on the CPU, each once, and name -> name of the tensor that it is tied to."""
    owners: dict[tuple[object, ...], str] = {}
    unique: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, tensor.device)
        if tensor.numel() and identity in owners:
            tied[name] = owners[identity]
            continue
        owners[identity] = name
        unique[name] = tensor.detach().cpu().contiguous().clone()
    return unique, tied
