"""A transform of ``torchvision.transforms.v2`` as a step of an augmentation."""

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

# This module is imported when a configuration contains a transform, and by loader workers when they start.
v2 = import_torchvision("torchvision.transforms.v2")


class ObjectStep(Step):
    """Apply a transform to each sample separately; the global generators are seeded for each sample.

    Args:
        transform: a callable from one uint8 image ``(channels, height, width)`` to another of the same shape.
        name: for messages; None: that of its class.
    """

    def __init__(self, transform: Callable[[torch.Tensor], object], name: str | None = None) -> None:
        self._transform = transform
        self._name = name or type(transform).__name__

    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """See `Step`.

        Raises:
            ConfigurationError: the transform cannot be applied to the images, or does not return uint8 of the same
                shape.
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
            result = f"{changed.dtype} {tuple(changed.shape)}" if isinstance(changed, torch.Tensor) else type(changed)
            raise self._refusal(
                f"turns uint8 {image.shape} into {result}, but an augmentation must keep both; "
                "the task itself converts to float and normalises"
            )
        pixels: Pixels = changed.numpy()
        return pixels

    def _refusal(self, message: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name} {message}", path="task.augment")


class TorchvisionStep(Step):
    """Apply a transform by name.

    Args:
        name: name of a class in ``torchvision.transforms.v2``, e.g. ``RandomRotation``.
        settings: its keyword arguments.

    Raises:
        ConfigurationError: the transform does not exist, or does not accept these settings.
        PluginError: torchvision cannot be imported.
    """

    def __init__(self, name: str, settings: Mapping[str, object]) -> None:
        self._name, self._settings = name, dict(settings)
        self._each = ObjectStep(_build(name, self._settings), name)

    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """See `Step` and `ObjectStep`."""
        return self._each(images, context)

    def __reduce__(self) -> tuple[object, ...]:
        # By name, not by state: unpickling classes of torchvision would import it without `import_torchvision`, which
        # fails if the operators of torchvision are missing.
        return TorchvisionStep, (self._name, self._settings)


def _build(name: str, settings: dict[str, object]) -> Callable[[torch.Tensor], object]:
    transforms = {
        key: value
        for key, value in vars(v2).items()
        if inspect.isclass(value) and issubclass(value, v2.Transform) and value is not v2.Transform
    }
    if name not in transforms:
        raise ConfigurationError(
            f"unknown augmentation '{name}': it is neither a step of this plugin nor in torchvision.transforms.v2"
            f"{did_you_mean(name, [*transforms, 'crop', 'flip', 'cutout'])}",
            path="task.augment",
        )
    parameters = inspect.signature(transforms[name]).parameters
    for key in settings:
        if key not in parameters:
            raise ConfigurationError(
                f"{name} has no setting '{key}'{did_you_mean(key, parameters)}", path="task.augment"
            )
    try:
        return cast(Callable[[torch.Tensor], object], transforms[name](**settings))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} does not accept these settings: {error}", path="task.augment") from error
