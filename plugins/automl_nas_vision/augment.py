"""The setting ``augment``, and the augmentation that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.evaluation import Indices
from automl_nas_vision.steps import Context, Crop, Cutout, Flip, Pixels, Step

Value = bool | int | float | str | list[bool | int | float | str] | None
Augment = str | dict[str, Value] | list[str | dict[str, Value]]
"""``none``; a preset; the name of a step; ``{name: ..., settings}``; or a list of such steps. In Python a step may also
be a transform object of ``torchvision.transforms.v2``, or any callable from one uint8 image ``(channels, height,
width)`` to another that draws from the global generators of torch, NumPy or Python."""

PRESETS: dict[str, list[str | dict[str, Value]]] = {
    "none": [],
    "shift": [{"name": "crop", "padding": 1}],
    "crop_flip": [{"name": "crop", "padding": 4}, "flip"],
}
STEPS: dict[str, type[Crop] | type[Flip] | type[Cutout]] = {"crop": Crop, "flip": Flip, "cutout": Cutout}


@dataclass(frozen=True)
class Augmentation:
    """A sequence of augmentation steps.

    Attributes:
        steps: the steps, in the order in which they are applied.
        mean: the mean colour of the training split, shape ``(channels,)``.
    """

    steps: tuple[Step, ...]
    mean: Pixels

    def __call__(self, images: Pixels, indices: Indices, seed: int, epoch: int) -> Pixels:
        """Return augmented copies of images ``(batch, channels, height, width)``; see `Step`."""
        for stage, step in enumerate(self.steps):
            images = step(images, Context(indices, seed, epoch, stage, self.mean))
        return images


def make_augmentation(setting: Augment, mean: Pixels, example: Pixels) -> Augmentation:
    """Return the augmentation that a setting describes, after applying it to one image.

    Args:
        setting: see `Augment`.
        mean: the mean colour of the training split, shape ``(channels,)``.
        example: an image of the data set, shape ``(channels, height, width)``.

    Raises:
        ConfigurationError: a name is unknown (the message contains the nearest one), a step does not have one of the
            settings, or a transform cannot be applied to the images.
    """
    if isinstance(setting, str):
        parts: Sequence[Any] = PRESETS.get(setting, [setting])
    else:
        parts = setting if isinstance(setting, list | tuple) else [setting]
    augmentation = Augmentation(tuple(_step(part) for part in parts), mean)
    augmentation(example[None], np.zeros(1, dtype=np.int64), 0, 0)
    return augmentation


def _step(part: Any) -> Step:
    if callable(part):
        from automl_nas_vision.torchvision_step import ObjectStep

        return ObjectStep(part)
    settings: dict[str, object] = {"name": part} if isinstance(part, str) else dict(part)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ConfigurationError(
            f"an augmentation step needs a 'name', as in {{name: flip}}: {part}", path="task.augment"
        )
    if name in STEPS:
        return _native(name, settings)
    if name in PRESETS or name.islower():
        message = f"unknown augmentation '{name}'{did_you_mean(name, [*PRESETS, *STEPS])}"
        alone = f"'{name}' is a preset, which can only be set alone; lists and mappings must contain single steps"
        raise ConfigurationError(alone if name in PRESETS else message, path="task.augment")
    from automl_nas_vision.torchvision_step import TorchvisionStep

    return TorchvisionStep(name, settings)


def _native(name: str, settings: Mapping[str, object]) -> Step:
    kind = STEPS[name]
    parameters = {field.name: field for field in fields(kind)}
    for key, value in settings.items():
        if key not in parameters:
            raise ConfigurationError(
                f"{name} has no setting '{key}'{did_you_mean(key, parameters)}", path="task.augment"
            )
        allowed = (int, float) if parameters[key].type == "float" else (int,)
        if isinstance(value, bool) or not (
            isinstance(value, allowed) or (value is None and "None" in parameters[key].type)
        ):
            raise ConfigurationError(
                f"{name}: {key} must be {parameters[key].type}, not {value!r}", path="task.augment"
            )
    for field in parameters.values():
        if field.default is MISSING and field.name not in settings:
            raise ConfigurationError(f"{name} needs the setting '{field.name}'", path="task.augment")
    return kind(**settings)  # type: ignore[arg-type]
