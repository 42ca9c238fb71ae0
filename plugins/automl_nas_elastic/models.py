"""Models by name: of torchvision, of timm, or ``package.module:Object``."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from automl_nas.errors import AutoMLNASError, ConfigurationError, did_you_mean
from automl_nas.plugin import import_reference
from automl_nas.torchvision_import import import_torchvision

TIMM = "timm/"


def load_model(name: str, arguments: Mapping[str, Any], num_classes: int | None) -> nn.Module:
    """Return a model of its own, with the weights that its function gives it.

    Args:
        name: of a classification model of torchvision, ``timm/NAME``, or ``package.module:Object`` for a class, a
            function or a module.
        arguments: of the class or function.
        num_classes: number of outputs of a model of torchvision or timm, if ``arguments`` do not set it.

    Raises:
        ConfigurationError: there is no such model, or it refuses the arguments.
    """
    try:
        if ":" in name:
            model = _imported(name, arguments)
        elif name.startswith(TIMM):
            model = _timm(name.removeprefix(TIMM), _with_classes(arguments, num_classes))
        else:
            model = _torchvision(name, _with_classes(arguments, num_classes))
    except AutoMLNASError:
        raise
    except Exception as error:  # of the user's code, or of the library
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"the model '{name}' cannot be made: {type(error).__name__}: {reason}"
        raise ConfigurationError(message, path="model") from error
    if not isinstance(model, nn.Module):
        raise ConfigurationError(
            f"'{name}' is a {type(model).__name__}; name a torch.nn.Module, or a class or function that returns one",
            path="model",
        )
    return model


def _with_classes(arguments: Mapping[str, Any], num_classes: int | None) -> dict[str, Any]:
    return {**({} if num_classes is None else {"num_classes": num_classes}), **arguments}


def _imported(name: str, arguments: Mapping[str, Any]) -> Any:
    try:
        loaded = import_reference(name, path="model")
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"cannot import '{name}': {error}", path="model") from error
    if isinstance(loaded, nn.Module):
        if arguments:
            raise ConfigurationError(f"'{name}' is a module, which takes no arguments", path="arguments")
        return copy.deepcopy(loaded)
    return loaded(**arguments) if callable(loaded) else loaded


def _timm(name: str, arguments: Mapping[str, Any]) -> Any:
    import_torchvision()  # timm imports it
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ConfigurationError(
            f"timm cannot be imported: {error}; pip install 'automl-nas[timm]'", path="model"
        ) from error
    return timm.create_model(name, **arguments)


def _torchvision(name: str, arguments: Mapping[str, Any]) -> Any:
    models = import_torchvision("torchvision.models")
    names = models.list_models(module=models)
    if name not in names:
        hint = did_you_mean(name, names)
        hint = hint if hint.startswith("; did") else ""  # a list of all eighty names would hide the message
        raise ConfigurationError(
            f"'{name}' is not a classification model of torchvision, timm/NAME or package.module:Object{hint}",
            path="model",
        )
    if name in ("googlenet", "inception_v3"):
        # Their initialisation takes minutes in scipy. Auxiliary heads return several tensors in training mode.
        arguments = {"init_weights": False, "aux_logits": False, **arguments}
    return models.get_model(name, **arguments)
