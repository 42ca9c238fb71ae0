"""Exporting networks with fresh weights before a run, so that a format that cannot hold them is known at once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation.exporter import Delivery
from automl_nas.evaluation.training.compilation import check_compiler
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.error_text import one_line
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.final.delivery import Format, export_beside, formats_of, make_delivery
from automl_nas.run.final.report import FinalNetwork
from automl_nas.run.record.atomic_files import disk_errors
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream

MAX_NETWORKS = 8
"""The number of networks that are exported at most."""


def rehearse_compilation(plan: Plan) -> None:
    """Check that the networks of the final stage can be compiled on this machine, if they are to be.

    Raises:
        ConfigurationError: they cannot.
    """
    if plan.final is not None and plan.final.settings.compile is not None:
        with plan.runtime.seeded(plan.seed, "compiler check"):
            check_compiler(plan.final.settings.compile, plan.runtime.device, "final.compile")


def rehearse_export(plan: Plan, message: Callable[[str], object], warn: Callable[[str], object]) -> None:
    """Export networks of the final space in every format of ``final.export``, to a temporary folder.

    The networks are those of `covering`, with fresh weights; inputs are samples of the task. An architecture whose
    network cannot be built or run, or has outputs that are not finite with fresh weights, is left out: the formats are
    not the cause.

    Args:
        plan: of the run; without a final stage, formats or ``final.rehearse`` nothing happens.
        message: receives what is about to happen.
        warn: receives the reason if no network can be rehearsed.

    Raises:
        ConfigurationError: a format cannot hold a network; names the setting, the exporter, and the cause.
        CannotWriteError: the temporary folder is full.
    """
    failed = _failures(plan, message, warn)
    if failed:
        first = next(iter(failed))
        text = _in_words(failed).removeprefix(f"{first.path}: ")
        raise ConfigurationError(
            f"{text}; leave the format or the option out, or set final.rehearse: false to run all the same and see "
            "after the training what could be exported",
            path=first.path,
        )


def rehearse_export_again(
    plan: Plan, message: Callable[[str], object], warn: Callable[[str], object], changed: Sequence[str]
) -> None:
    """Rehearse the export of a resumed run with other versions of packages than it began with; only warn of failures.

    Args:
        plan: of the run.
        message: receives what is about to happen.
        warn: receives the failures.
        changed: the differences of the versions.
    """
    failed = _failures(plan, message, warn)
    if failed:
        warn(f"{_in_words(failed)}. The run continues. Changed since it began: {', '.join(changed)}")


def _failures(plan: Plan, message: Callable[[str], object], warn: Callable[[str], object]) -> dict[Format, str]:
    """Return why formats cannot hold a network; empty if all can. See `rehearse_export`."""
    if plan.final is None or not plan.final.settings.rehearse or not plan.final.export:
        return {}
    architectures = covering(plan.final_space)
    names = ", ".join(spec["name"] for spec in plan.final.export)
    count = "a network" if len(architectures) == 1 else f"{len(architectures)} networks"
    message(f"rehearsing the export of {count} with fresh weights ({names})")
    with component_errors(plan.components.registry, path="final"), plan.runtime.seeded(plan.seed, "rehearsal"):
        failed: dict[Format, str] = {}
        unusable: list[str] = []
        formats = formats_of(plan)
        for architecture in architectures:
            try:
                delivery = _fresh_delivery(plan, architecture)
            except Exception as error:
                unusable.append(one_line(error))
                continue
            with tempfile.TemporaryDirectory(prefix="automl_nas-rehearsal-") as folder, disk_errors(Path(folder)):
                for item in formats:
                    if item not in failed and (error_text := _failure(item, delivery, Path(folder))):
                        failed[item] = f"{error_text} (tried before the run with {_short(architecture)})"
    if len(unusable) == len(architectures):
        warn(f"the export could not be rehearsed: {unusable[0]}; formats that fail are reported after the training")
    return failed


def covering(space: SearchSpace) -> list[Architecture]:
    """Return the fewest architectures that together have every option: operators depend on the options.

    Decisions with the same options are taken to be alike. Within such a group the options rotate, so that a space of
    20 layers with the same four options needs one network, and a space of one decision with five options five. Of a
    `Subset`, as many options are chosen as are allowed. At most `MAX_NETWORKS` are returned, and not every combination
    of options occurs in them. Of an excluded one, an architecture near it is returned.

    Args:
        space: of the networks.
    """
    groups: dict[str, list[str]] = {}
    for name, decision in space.decisions.items():
        groups.setdefault(repr(decision), []).append(name)
    values = {name: _some_values(decision) for name, decision in space.decisions.items()}
    counts = [-(-len(values[names[0]]) // len(names)) for names in groups.values()]
    architectures: list[Architecture] = []
    for number in range(min(max(counts, default=1), MAX_NETWORKS)):
        chosen = {}
        for names in groups.values():
            options = values[names[0]]
            for position, name in enumerate(names):
                chosen[name] = options[(number * len(names) + position) % len(options)]
        validated = space.validate({name: chosen[name] for name in space.decisions})
        architecture = space.exclusions.nearest(validated)
        if architecture is not None and architecture not in architectures:
            architectures.append(architecture)
    return architectures or [space.sample(stream(0, "export rehearsal"))]


def _some_values(decision: Decision) -> list[object]:
    options: list[object] = list(decision.options)
    if isinstance(decision, Subset):
        windows = range(0, len(options), max(decision.largest, 1))
        chosen = [set(range(start, start + decision.largest)) for start in windows]
        last = len(options)
        return [tuple(o for place, o in enumerate(options) if place in c or place + last in c) for c in chosen]
    if len(options) <= MAX_NETWORKS:
        return options
    return [options[round((len(options) - 1) * place / (MAX_NETWORKS - 1))] for place in range(MAX_NETWORKS)]


def _fresh_delivery(plan: Plan, architecture: Architecture) -> Delivery:
    """Return a network with fresh weights as exporters receive the delivered one.

    Raises:
        Exception: the network cannot be built or run, or its outputs are not finite.
    """
    record = FinalNetwork("found", None, 0, architecture, costs={}, test={})
    delivery = make_delivery(plan, record, plan.final_space.build(architecture), rehearsal=True)
    assert delivery.samples is not None
    with torch.no_grad():
        outputs = delivery.network(delivery.samples)
    if isinstance(outputs, torch.Tensor) and not bool(torch.isfinite(outputs).all()):
        raise RunFailedError("the outputs of the network with fresh weights are not finite")
    return delivery


def _failure(item: Format, delivery: Delivery, folder: Path) -> str:
    """Return why a format cannot hold a network, or writes files of another one in the folder; empty if it can."""
    try:
        export_beside(item.exporter, delivery, folder)
    except RunFailedError as error:
        return str(error)
    return ""


def _in_words(failed: Mapping[Format, str]) -> str:
    return "; ".join(f"{item.path}: {item.description}: {error}" for item, error in failed.items())


def _short(architecture: Architecture, most: int = 200) -> str:
    text = json.dumps(architecture.to_dict())
    return text if len(text) <= most else f"{text[:most]} ..."
