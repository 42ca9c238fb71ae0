"""The teacher of the final stage's distillation: from another run, or from a function and a file of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from automl_nas.errors import AutoMLNASError, ConfigurationError, RunDirectoryError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.initial_weights import InitialWeights
from automl_nas.plugin.error_text import one_line
from automl_nas.plugin.references import consent, import_reference
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.components import Components
from automl_nas.run.configuration.final_section import OF_SPACE, DistillSettings
from automl_nas.run.configuration.space import make_space
from automl_nas.run.final.report import FinalReport
from automl_nas.run.record.artifacts import load_into
from automl_nas.run.record.directory import RunDirectory

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
    assert settings.teacher not in OF_SPACE
    function = import_teacher(settings)
    if function is not None:
        try:
            teacher = function()
        except Exception as error:
            raise ConfigurationError(f"cannot make the teacher: {one_line(error)}", path=PATH) from error
        if not isinstance(teacher, nn.Module):
            raise ConfigurationError(f"the function returned a {type(teacher).__name__}, not a Module", path=PATH)
        if settings.weights is not None:
            InitialWeights(settings.weights).load_into(teacher, "final.distill.weights")
        return teacher
    try:
        return _delivered(RunDirectory.open(Path(settings.teacher)))
    except AutoMLNASError as error:
        raise ConfigurationError(f"no teacher can be loaded from this run: {error}", path=PATH) from error


def _delivered(run: RunDirectory) -> nn.Module:
    """Return the delivered network of a run, with its weights. No component but its space is constructed."""
    result, config = run.read_result(), run.read_config()
    if result is None or result["final"] is None:
        raise RunDirectoryError(f"{run.path} has no trained network: it is not complete, or has no final stage")
    delivered = FinalReport.from_json(result["final"]).delivered
    spec = delivered.space or config["final"].get("space") or config["space"]
    with consent(run.path, trust=False), Runtime(device="cpu").seeded(config["seed"], "result"):
        components = Components(complete_manager().registry, {})
        network = make_space(components, spec, config["seed"], "space").build(delivered.architecture)
    load_into(network, run.artifacts / "final" / "weights.safetensors")
    return network
