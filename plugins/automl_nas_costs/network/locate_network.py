"""Finding a network by its name: a model of torchvision, or ``package.module:Object``."""

from __future__ import annotations

import contextlib
import copy
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

from torch import nn

from automl_nas.errors import ConfigurationError, SpaceError, UserError, did_you_mean
from automl_nas.space import Architecture, Decision, SearchSpace
from automl_nas.torchvision_import import import_torchvision

IMAGE = (3, 224, 224)
"""The input of a model of torchvision whose weights have no resolution."""


@dataclass(frozen=True)
class NamedNetwork:
    """A network that can be built.

    Attributes:
        title: its name in the report.
        make: builds it, with random weights.
        input_shape: of one input without the batch.
    """

    title: str
    make: Callable[[], nn.Module]
    input_shape: tuple[int, ...]


@final
class OneNetwork(SearchSpace):
    """A space of a single network, without decisions.

    Args:
        make: builds the network.
        input_shape: of one input without the batch.
    """

    def __init__(self, make: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> None:
        self._make, self._input_shape = make, input_shape

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Empty."""
        return {}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._input_shape

    def build(self, architecture: Architecture) -> nn.Module:
        """Return the network."""
        self.validate(architecture)
        return self._make()


def find_network(text: str, arguments: Mapping[str, Any], input_shape: tuple[int, ...] | None) -> NamedNetwork:
    """Find a network.

    Args:
        text: ``package.module:Class``, ``package.module:function`` or ``package.module:module_object``, or the name of
            a model of torchvision. Modules are imported from the working directory, too.
        arguments: of the class or function.
        input_shape: of one input without the batch; None: that of torchvision's published weights.

    Raises:
        ConfigurationError: no network has this name; suggests the nearest name.
        SpaceError: the object does not return a `torch.nn.Module`.
    """
    if ":" in text:
        if input_shape is None:
            raise ConfigurationError(f"set the shape of one input of {text}, such as --input-shape 3,224,224")
        return NamedNetwork(text, _checked(text, _imported(text, arguments)), input_shape)
    models = import_torchvision("torchvision.models")
    names = models.list_models(module=models)
    if text.lower() not in names:
        raise ConfigurationError(
            f"'{text}' is not a file, a package.module:Class or a classification model of "
            f"torchvision{_near(text, names)}"
        )
    name = text.lower()
    # The default initialisation of these two takes minutes in scipy, and torchvision warns of it.
    settings = {"init_weights": False, **arguments} if name in ("googlenet", "inception_v3") else dict(arguments)
    shape = input_shape or _resolution(models, name)
    if name.startswith("vit_"):
        settings.setdefault("image_size", shape[-1])  # the number of positions is fixed by the resolution
    return NamedNetwork(f"{name} (torchvision)", _checked(text, lambda: models.get_model(name, **settings)), shape)


def _near(text: str, names: list[str]) -> str:
    # A list of all eighty names would hide the message.
    hint = did_you_mean(text, names)
    return hint if hint.startswith("; did") else ""


def _resolution(models: ModuleType, name: str) -> tuple[int, ...]:
    weights = models.get_model_weights(name)
    default = getattr(weights, "DEFAULT", None)
    if default is None:
        return IMAGE
    (size,) = set(default.transforms().crop_size)
    return (3, int(size), int(size))


def _imported(text: str, arguments: Mapping[str, Any]) -> Callable[[], Any]:
    module_name, _, attribute = text.partition(":")
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result
            target: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"cannot import {module_name}: {error}") from error
    finally:
        if added:
            sys.path.remove(folder)
    for part in attribute.split("."):
        if not hasattr(target, part):
            names = [name for name in dir(target) if not name.startswith("_")]
            raise ConfigurationError(f"{module_name} has no '{attribute}'{did_you_mean(part, names)}")
        target = getattr(target, part)
    if isinstance(target, nn.Module):
        return lambda: copy.deepcopy(target)
    if not callable(target):
        raise SpaceError(
            f"{text} is a {type(target).__name__}; name a class or function that returns a torch.nn.Module"
        )
    return lambda: target(**arguments)


def _checked(text: str, make: Callable[[], Any]) -> Callable[[], nn.Module]:
    def checked() -> nn.Module:
        try:
            network = make()
        except UserError:
            raise
        except TypeError as error:
            raise SpaceError(
                f"{text} cannot be called: {error}; set arguments with --set network.NAME=VALUE"
            ) from error
        if not isinstance(network, nn.Module):
            raise SpaceError(f"{text} returns a {type(network).__name__}, not a torch.nn.Module")
        return network

    return checked
