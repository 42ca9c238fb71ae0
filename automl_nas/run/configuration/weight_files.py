"""The settings ``initial_weights`` of a configuration, and all files of weights that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl_nas.absolute_path import absolute_path
from automl_nas.errors import ConfigurationError
from automl_nas.object_storage import is_url, local_file
from automl_nas.run.configuration.final_section import LARGEST, OF_SPACE
from automl_nas.run.record.atomic_files import sha256

SETTING = "initial_weights"


def with_initial_weights(spec: Any) -> Any:
    """Return a section with its setting ``initial_weights`` as a mapping with an absolute path.

    A run may be resumed from another folder. A bare string is the file.
    """
    if not isinstance(spec, Mapping) or spec.get(SETTING) is None:
        return spec
    return {**spec, SETTING: _absolute(spec[SETTING])}


def separate_initial_weights(space: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """Return the section ``space`` without ``initial_weights``, and these as a mapping; None: it has none.

    Raises:
        ConfigurationError: they are neither a file nor a mapping.
    """
    if not isinstance(space, Mapping) or SETTING not in space:
        return space, None
    weights = space[SETTING]
    if weights is not None and not isinstance(weights, str | Mapping):
        raise ConfigurationError(
            f"must be a file, or a mapping such as {{file: weights.safetensors, strict: false}}, not {weights!r}",
            path=f"space.{SETTING}",
        )
    without = {key: value for key, value in space.items() if key != SETTING}
    return without, None if weights is None else _absolute(weights)


def weight_files(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the files of weights that a resolved configuration names -> SHA-256; None: there is no such file.

    They are those of all settings ``initial_weights``, and the weights of a teacher.
    """
    parts = [stage.get(key) for stage in config["stages"] for key in ("strategy", "evaluator")]
    files = [part[SETTING]["file"] for part in (*parts, config.get("final")) if _has_file(part)]
    files += _of_teacher((config.get("final") or {}).get("distill") or {})
    copies = {file: local_file(file) for file in dict.fromkeys(files)}
    return {file: sha256(copy) if copy.is_file() else None for file, copy in copies.items()}


def _has_file(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get(SETTING), Mapping) and "file" in part[SETTING]


def _of_teacher(distill: Mapping[str, Any]) -> Iterator[str]:
    if (weights := distill.get("weights")) is not None:
        yield weights
    teacher = distill.get("teacher", LARGEST)
    if teacher not in OF_SPACE and ":" not in teacher:
        yield str(Path(teacher) / "artifacts" / "final" / "weights.safetensors")


def _absolute(weights: Any) -> Any:
    if isinstance(weights, str):
        weights = {"file": weights}
    if not isinstance(weights, Mapping) or not isinstance(weights.get("file"), str):
        return weights  # refused where the setting is checked
    if is_url(weights["file"]):
        return weights
    return {**weights, "file": str(absolute_path(weights["file"]))}
