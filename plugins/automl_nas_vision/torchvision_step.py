"""Any transform of ``torchvision.transforms.v2`` as a step of an augmentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.evaluation import sample_generator
from automl_nas.torchvision_import import import_torchvision
from automl_nas_vision.steps import Context, Pixels, Step

# This module is imported when a transform is named in a configuration, and ahead of time by loader workers.
v2 = import_torchvision("torchvision.transforms.v2")


class TorchvisionStep(Step):
    """Apply a transform to each sample by itself, with torch's global generator at the sample's own place.

    Args:
        name: of a class in ``torchvision.transforms.v2``, e.g. ``RandomRotation``.
        settings: its keyword arguments.

    Raises:
        ConfigurationError: there is no such transform, or it does not take these settings.
        PluginError: torchvision cannot be imported.
    """

    def __init__(self, name: str, settings: Mapping[str, object]) -> None:
        self._name, self._settings = name, dict(settings)
        self._transform = _build(name, self._settings)

    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """See `Step`.

        Raises:
            ConfigurationError: the transform refuses such images, or returns others than uint8 of the same shape.
        """
        words = context.draws(1)[:, 0].tolist()
        result = np.empty_like(images)
        with sample_generator() as seed:
            for k, word in enumerate(words):
                seed(word)
                result[k] = self._one(images[k])
        return result

    def _one(self, image: Pixels) -> Pixels:
        try:
            changed = self._transform(torch.from_numpy(image))
        except Exception as error:
            raise self._refusal(f"cannot be applied to an image of shape {image.shape}, uint8: {error}") from error
        if not isinstance(changed, torch.Tensor) or changed.dtype != torch.uint8 or tuple(changed.shape) != image.shape:
            found = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, torch.Tensor) else type(changed)
            raise self._refusal(
                f"turns uint8 {image.shape} into {found}, but an augmentation must keep both; "
                "conversion to float and normalisation are the task's own"
            )
        pixels: Pixels = changed.numpy()
        return pixels

    def _refusal(self, message: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name} {message}", path="task.augment")

    def __reduce__(self) -> tuple[object, ...]:
        # By name, not by state: where torchvision's operators are missing, unpickling its classes would import it
        # without the help of `import_torchvision`.
        return TorchvisionStep, (self._name, self._settings)


def _build(name: str, settings: dict[str, object]) -> Callable[[torch.Tensor], object]:
    known = {
        key: value
        for key, value in vars(v2).items()
        if inspect.isclass(value) and issubclass(value, v2.Transform) and value is not v2.Transform
    }
    if name not in known:
        raise ConfigurationError(
            f"there is no augmentation '{name}', neither here nor in torchvision.transforms.v2"
            f"{did_you_mean(name, [*known, 'crop', 'flip', 'cutout'])}",
            path="task.augment",
        )
    parameters = inspect.signature(known[name]).parameters
    for key in settings:
        if key not in parameters:
            raise ConfigurationError(
                f"{name} has no setting '{key}'{did_you_mean(key, parameters)}", path="task.augment"
            )
    try:
        return cast(Callable[[torch.Tensor], object], known[name](**settings))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} does not take these settings: {error}", path="task.augment") from error
