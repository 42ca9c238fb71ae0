"""The teacher of the final stage's distillation: from another run, or from a function and a file of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.errors import AutoMLNASError, ConfigurationError
from automl_nas.evaluation.training.initial_weights import load_initial_weights
from automl_nas.plugin.failures import one_line
from automl_nas.plugin.references import import_reference
from automl_nas.run.configuration.final_section import LARGEST, DistillSettings

if TYPE_CHECKING:
    from torch import nn

PATH = "final.distill.teacher"


def import_teacher(settings: DistillSettings) -> Callable[[], Any] | None:
    """Return the function that makes the teacher; None: the teacher is not one of a function.

    Raises:
        ConfigurationError: there is no such function, or the user did not consent to its import.
    """
    if ":" not in settings.teacher:
        return None
    try:
        function: Callable[[], Any] = import_reference(settings.teacher, path=PATH)
    except AutoMLNASError:
        raise
    except Exception as error:
        raise ConfigurationError(f"cannot import the teacher: {one_line(error)}", path=PATH) from error
    return function


def load_teacher(settings: DistillSettings) -> nn.Module:
    """Return the teacher that the settings name, with its weights, on the CPU.

    Raises:
        ConfigurationError: there is no such run, function or file, or the weights do not fit the network.
    """
    assert settings.teacher != LARGEST
    from torch import nn

    function = import_teacher(settings)
    if function is not None:
        try:
            teacher = function()
        except Exception as error:
            raise ConfigurationError(f"cannot make the teacher: {one_line(error)}", path=PATH) from error
        if not isinstance(teacher, nn.Module):
            raise ConfigurationError(f"the function returned a {type(teacher).__name__}, not a Module", path=PATH)
        if settings.weights is not None:
            load_initial_weights(teacher, settings.weights, path="final.distill.weights")
        return teacher
    from automl_nas.run.api import open_run

    try:
        return open_run(Path(settings.teacher)).load_trained()
    except AutoMLNASError as error:
        raise ConfigurationError(f"no teacher can be loaded from this run: {error}", path=PATH) from error
