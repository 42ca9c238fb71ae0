"""Exporting the delivered network of a run: its description, and a file in each format."""

from __future__ import annotations

import copy
import errno
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from automl_nas._version import __version__
from automl_nas.errors import RunFailedError, RunInterrupted
from automl_nas.evaluation.exporter import Conversion, Delivery, Exporter
from automl_nas.evaluation.task import Task
from automl_nas.run.configuration.components import Components
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.space import make_space
from automl_nas.run.final.delivered import ExportFailure
from automl_nas.run.final.report import FinalNetwork
from automl_nas.run.record.atomic_files import CannotWriteError, disk_errors
from automl_nas.run.record.environment import environment
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed

SAMPLES = 3
"""The number of training inputs that exporters receive."""

HELD_OUT = 32
"""The number of inputs that were not trained on, for a comparison of predictions."""

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def delivered_space(plan: Plan, network: FinalNetwork) -> SearchSpace:
    """Return the space that builds a network of the final stage: the run's, or the one whose width was fitted.

    Args:
        plan: of the run.
        network: as reported.
    """
    if network.space is None:
        return plan.final_space
    return make_space(plan.components, network.space, plan.seed, "final.space")


def make_delivery(plan: Plan, network: FinalNetwork, module: nn.Module, *, rehearsal: bool = False) -> Delivery:
    """Return what exporters receive.

    Args:
        plan: of the run.
        network: as reported, with its test metrics.
        module: the trained network, on the CPU.
        rehearsal: whether the run has not begun: then no input of the test split is read.
    """
    task = None if plan.final is None else plan.final_task
    split = "train" if plan.final is None else plan.final.settings.split
    units = {name: model.unit for name, model in plan.result_stage.problem.cost_models.items()}
    return described(plan.config, network, module, plan.final_space.input_shape, task, split, units, rehearsal)


def described(
    config: Mapping[str, Any],
    network: FinalNetwork,
    module: nn.Module,
    input_shape: tuple[int, ...],
    task: Task | None,
    split: str,
    units: Mapping[str, str],
    rehearsal: bool = False,
) -> Delivery:
    """Return what exporters receive, from the resolved configuration alone.

    Args:
        config: of the run.
        network: as reported.
        module: the network, on the CPU.
        input_shape: of one input.
        task: of the final stage; None: it is not available.
        split: that networks are trained on.
        units: cost -> its unit.
        rehearsal: see `make_delivery`.
    """
    description = _description(config, network, units)
    if task is None:
        return Delivery(module.eval(), network.architecture, input_shape, description, rehearsal=rehearsal)
    held_out_split = "search" if rehearsal else "test"
    held_out, files = plain_inputs(task, held_out_split), task.files(held_out_split)
    return Delivery(
        module.eval(),
        network.architecture,
        input_shape,
        description,
        held_out=held_out,
        held_out_files=None if files is None or held_out is None else tuple(files[: len(held_out)]),
        samples=task_samples(task, split, config["seed"]),
        preprocessing=task.preprocessing(),
        outputs=task.outputs(),
        class_names=task.class_names,
        calibration=partial(training_inputs, task, split, config["seed"]),
        judge=None if rehearsal else lambda predictor: task.report(predictor, "test"),
        rehearsal=rehearsal,
    )


def plain_inputs(task: Task, split: str) -> Tensor | None:
    """Return the first inputs of a split without augmentation, as `Task.score` passes them to a network."""
    inputs: list[Tensor] = []

    def first(batch: Tensor) -> Tensor:
        inputs.append(batch[:HELD_OUT].detach().cpu().clone())
        raise _EnoughError

    with suppress(_EnoughError):
        task.score(first, split)
    return inputs[0] if inputs else None


class _EnoughError(Exception):
    """The inputs of one batch are enough."""


def task_samples(task: Task, split: str, seed: int) -> Tensor:
    """Return inputs of the split that networks are trained on; repeated if a batch has too few."""
    inputs, _ = next(task.batches(split, 0, stream_seed(seed, "export/samples")))
    return inputs[torch.arange(SAMPLES) % len(inputs)].detach().cpu()


def training_inputs(task: Task, split: str, seed: int, count: int) -> Tensor:
    """Return up to a number of inputs of the split that networks are trained on, of the batches of one epoch."""
    batches: list[Tensor] = []
    for inputs, _ in task.batches(split, 0, stream_seed(seed, "export/calibration")):
        batches.append(inputs.detach().cpu())
        if sum(map(len, batches)) >= count:
            break
    return torch.cat(batches)[:count]


def _description(config: Mapping[str, Any], network: FinalNetwork, units: Mapping[str, str]) -> dict[str, Any]:
    """Return configuration, costs and their conditions, and test metrics of a network, as plain data."""
    final: Mapping[str, Any] = config["final"] or {}
    values = network.to_json()
    return {
        "framework": f"automl_nas {__version__}",
        "space": _without_folders(values.get("space", final.get("space", config["space"]))),
        "task": _without_folders(final.get("task", config.get("task"))),
        **{key: values[key] for key in ("costs", "test", "test_interval")},
        "units": {name: units[name] for name in values["costs"] if name in units},
        "measured": _without_folders(values.get("measured", {})),
        "runtime": _without_folders(config["runtime"]),
        "environment": environment(),
    }


def _without_folders(value: Any) -> Any:
    """Return plain data with the names of files in place of absolute paths, which concern this machine only."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def export_copy(exporter: Exporter, delivery: Delivery, folder: Path) -> list[Path]:
    """Export a copy of the delivered network, and return the files.

    Args:
        exporter: of one format.
        delivery: its network does not change, whatever the exporter does.
        folder: an existing folder.

    Raises:
        RunFailedError: the exporter failed in whatever way, changed the network it received, returned something else
            than files in the folder, or left something else than text in ``notes`` or a `Conversion` in
            ``conversions``. The files of an exporter that changed the network are removed.
        OSError, CannotWriteError: the disk is full.
    """
    notes: list[Any] = []
    conversions: list[Any] = []
    try:
        own = copy.deepcopy(delivery.network)
        paths: object = exporter.export(replace(delivery, network=own, notes=notes, conversions=conversions), folder)
    except RunFailedError as error:
        if _disk_is_full(error.__cause__):
            raise
        raise RunFailedError(_plain_text(str(error))) from error
    except (RunInterrupted, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        # Also SystemExit, and errors of libraries that do not derive from Exception: the trained network must survive.
        if _disk_is_full(error):
            raise
        raise RunFailedError(_first_line(error)) from error
    if not isinstance(paths, Sequence) or not all(isinstance(path, Path) for path in paths):
        raise RunFailedError(
            f"the exporter {type(exporter).__qualname__} must return a list of paths, not {paths!r:.100}"
        )
    files = list(paths)
    if missing := [str(path) for path in files if not path.is_file()]:
        raise RunFailedError(
            f"the exporter {type(exporter).__qualname__} returned files that do not exist: {', '.join(missing)}"
        )
    inside = folder.resolve()
    if outside := [str(path) for path in files if not path.resolve().is_relative_to(inside)]:
        raise RunFailedError(
            f"the exporter {type(exporter).__qualname__} returned files outside the folder that it received: "
            f"{', '.join(outside)}; it must write folder / name, with the folder that is its argument"
        )
    files = [folder / path.resolve().relative_to(inside) for path in files]
    for values, kind, name in ((notes, str, "notes"), (conversions, Conversion, "conversions")):
        if wrong := [value for value in values if not isinstance(value, kind)]:
            raise RunFailedError(
                f"the exporter {type(exporter).__qualname__} appended {wrong[0]!r:.100} to Delivery.{name}, a "
                f"{type(wrong[0]).__name__} instead of a {kind.__name__}"
            )
    if changed := _difference(delivery.network, own):
        for path in files:
            if path.is_relative_to(folder):
                path.unlink()
        raise RunFailedError(
            f"the exporter changed the network that it received ({changed}), so its files, now removed, may hold other "
            "weights than those that were tested; let it convert a copy"
        )
    delivery.notes.extend(notes)
    delivery.conversions.extend(conversions)
    return files


def export_beside(exporter: Exporter, delivery: Delivery, folder: Path) -> list[Path]:
    """Export as `export_copy` does, into a folder that has the files of other formats, and leave these alone.

    The exporter receives an empty folder inside, from which its files are moved.

    Args:
        exporter: of one format.
        delivery: its network does not change, whatever the exporter does.
        folder: an existing folder.

    Raises:
        RunFailedError: as in `export_copy`; also if the exporter wrote a file that another format has written.
        OSError, CannotWriteError: the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        place = Path(temporary)
        files = export_copy(exporter, delivery, place)
        names = [path.relative_to(place) for path in sorted(place.rglob("*")) if not path.is_dir()]
        if taken := [str(name) for name in names if (folder / name).exists()]:
            raise RunFailedError(
                f"it writes {', '.join(taken)}, which another format of this export has written; leave one of the two "
                "out, and write it to another folder afterwards (automl-nas export)"
            )
        return move_files(files, place, folder)


def move_files(files: Iterable[Path], place: Path, folder: Path) -> list[Path]:
    """Move everything in a folder to another one; return some of the files at their new places."""
    for entry in sorted(place.iterdir()):
        target = folder / entry.name
        if not target.exists():
            entry.replace(target)
            continue
        for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            if path.is_file():
                (folder / path.relative_to(place)).parent.mkdir(parents=True, exist_ok=True)
                path.replace(folder / path.relative_to(place))
    return [folder / path.relative_to(place) for path in files]


def _disk_is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _difference(before: nn.Module, after: nn.Module) -> str:
    """Return in words how the state of a network changed; empty if it did not."""
    old, new = before.state_dict(), after.state_dict()
    if names := sorted(old.keys() ^ new.keys()):
        return f"it has other tensors: {', '.join(names[:3])}"
    if names := [name for name, value in old.items() if not _identical(value, new[name])]:
        return f"other values of {', '.join(names[:3])}"
    return "the training mode" if any(module.training for module in after.modules()) else ""


def _identical(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return type(one) is type(other)
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())  # NaN equals NaN


def _plain_text(text: str) -> str:
    """Return a message without the codes that colour it on a terminal."""
    return _TERMINAL_CODES.sub("", text).strip()


def _first_line(error: BaseException) -> str:
    """Return class and first line of the exception that caused this one: libraries wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = _plain_text(str(error)).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@dataclass(frozen=True, eq=False)
class Format:
    """An exporter with its place in the configuration.

    Attributes:
        name: of the format.
        path: of the exporter in the configuration, such as ``final.export[1]``.
        description: of the exporter, with its plugin and distribution, for messages.
        exporter: writes the format.
    """

    name: str
    path: str
    description: str
    exporter: Exporter

    def export(self, delivery: Delivery, folder: Path, *, replace: bool = False) -> list[Path]:
        """Export a copy of a network; errors name the place and the exporter.

        Args:
            delivery: the network.
            folder: to write to.
            replace: whether the exporter writes into the folder itself, and replaces what it has (`export_copy`), or
                leaves the files of other formats alone (`export_beside`).
        """
        try:
            return (export_copy if replace else export_beside)(self.exporter, delivery, folder)
        except CannotWriteError:
            raise
        except RunFailedError as error:
            raise RunFailedError(f"{self.path}: {self.description}: {error}") from error


def make_formats(
    components: Components, specs: Sequence[Mapping[str, Any]], collaborators: Sequence[object], seed: int, path: str
) -> tuple[Format, ...]:
    """Construct exporters.

    Args:
        components: constructs them.
        specs: their resolved configurations.
        collaborators: objects that constructors may ask for by type.
        seed: of the final stage.
        path: of the list of exporters in the configuration, or the option of the command line that they come from.
    """
    formats = []
    for position, spec in enumerate(specs):
        place = f"{path} {spec['name']}" if path.startswith("--") else f"{path}[{position}]"
        exporter = components.construct("exporters", spec, collaborators, seed, place)
        formats.append(Format(spec["name"], place, components.describe("exporters", spec["name"]), exporter))
    return tuple(formats)


def formats_of(plan: Plan) -> tuple[Format, ...]:
    """Construct the exporters of the final stage of a run."""
    assert plan.final is not None
    seed = stream_seed(plan.seed, "final")
    return make_formats(plan.components, plan.final.export, plan.collaborators(), seed, "final.export")


@dataclass(frozen=True)
class Exports:
    """What was exported.

    Attributes:
        folder: the run directory.
        files: relative to ``folder``.
        failures: the formats that failed.
        notes: what exporters noted about their files.
        conversions: of files that compute other outputs than the network on purpose.
    """

    folder: Path
    files: tuple[str, ...]
    failures: tuple[ExportFailure, ...]
    notes: tuple[str, ...] = ()
    conversions: tuple[Conversion, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """The exported files, with the folder."""
        return [self.folder / name for name in self.files]


@dataclass(frozen=True)
class RunExporter:
    """Exports the delivered networks to the run directory.

    Attributes:
        plan: of the run.
        formats: a format may occur more than once, with settings that give its files other names.
        folder: the run directory.
        target: the folder for exported files, inside ``folder``.
    """

    plan: Plan
    formats: tuple[Format, ...]
    folder: Path
    target: Path

    def export(self, network: FinalNetwork, module: nn.Module, folder: str = "") -> Exports:
        """Write a delivered network in every format, to a folder that is emptied first.

        A format that fails is reported, and the run and the other formats continue. Only a full disk ends the run: with
        free space on the disk, resuming the run writes the file.

        Args:
            network: as reported, with its test metrics.
            module: the trained network, on the CPU.
            folder: in ``target``; empty: ``target`` itself.
        """
        delivery = make_delivery(self.plan, network, module)
        target = self.target / folder
        files: list[str] = []
        failures: list[ExportFailure] = []
        notes: list[str] = []
        conversions: list[Conversion] = []
        with disk_errors(target):
            # A process that was killed while it exported left parts of files.
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True, exist_ok=True)
            for item in self.formats:
                own = replace(delivery, notes=[], conversions=[])
                try:
                    files += [str(path.relative_to(self.folder)) for path in item.export(own, target)]
                    notes += own.notes
                    conversions += own.conversions
                except CannotWriteError:
                    raise
                except RunFailedError as error:
                    failures.append(ExportFailure(item.name, str(error)))
        return Exports(self.folder, tuple(files), tuple(failures), tuple(notes), tuple(conversions))
