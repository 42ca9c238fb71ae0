"""The teacher of the final stage's distillation: from another run, or from a function and a file of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def check_classes(settings: DistillSettings, names: Sequence[str] | None) -> None:
    """Check that a teacher of another run was trained with the classes of the task, in the same order.

    Args:
        settings: they name a run that `load_teacher` has read, whose network has an output for each class of the task.
        names: of the classes of the task; None: it has none, and nothing is compared.

    Raises:
        ConfigurationError: the classes have other names or another order.
    """
    if names is None or ":" in settings.teacher:
        return
    classes = _report(RunDirectory.open(Path(settings.teacher))).delivered.details.get("classes")
    # A task without names of classes records their numbers.
    if classes is None or classes in (list(names), [str(number) for number in range(len(classes))]):
        return
    number, (one, other) = next(
        (k, pair) for k, pair in enumerate(zip(classes, names, strict=True)) if len(set(pair)) > 1
    )
    reason = "in another order" if sorted(classes) == sorted(names) else "with other names"
    raise ConfigurationError(
        f"the teacher was trained with classes {reason}: class {number} is '{one}', and that of the task '{other}'; "
        "use a teacher of the same classes",
        path=PATH,
    )


def _report(run: RunDirectory) -> FinalReport:
    result = run.read_result()
    if result is None or result["final"] is None:
        raise RunDirectoryError(f"{run.path} has no trained network: it is not complete, or has no final stage")
    return FinalReport.from_json(result["final"])


def _delivered(run: RunDirectory) -> nn.Module:
    """Return the delivered network of a run, with its weights. No component but its space is constructed."""
    delivered, config = _report(run).delivered, run.read_config()
    spec = delivered.space or config["final"].get("space") or config["space"]
    with consent(run.path, trust=False), Runtime(device="cpu").seeded(config["seed"], "result"):
        components = Components(complete_manager().registry, {})
        network = make_space(components, spec, config["seed"], "space").build(delivered.architecture)
    load_into(network, run.artifacts / "final" / "weights.safetensors")
    return network
