"""What the ranks of a run under torchrun must have in common: configuration, code, versions, data, run directory."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, RunDirectoryError
from automl_nas.evaluation.ranks import Ranks
from automl_nas.evaluation.runtime import Runtime, check_divides
from automl_nas.evaluation.task import Task
from automl_nas.plugin.manager import PluginManager
from automl_nas.run.configuration.components import separate_objects
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.identity_check import check_worker
from automl_nas.run.rank_plan import predictions
from automl_nas.run.record.atomic_files import write_record
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.environment import environment
from automl_nas.run.trials.evaluator_factory import data_parallel
from automl_nas.streams import stream_seed


def check_alike(ranks: Ranks, manager: PluginManager, raw: Mapping[str, Any], path: Path) -> None:
    """Check that all ranks were started with the same configuration, directory, versions and code.

    Args:
        ranks: of the run; nothing is compared if there is one.
        manager: the plugins.
        raw: the configuration as written, or as recorded.
        path: the run directory.

    Raises:
        ConfigurationError: they differ; the message names the first difference and the ranks.
    """
    if ranks.size == 1:
        return
    data, _ = separate_objects(raw)
    mine = {
        "configuration": json.loads(json.dumps(data, default=str)),
        "directory": str(path),
        "version": environment(),
        "code": _code(manager),
    }
    first, *others = ranks.gather(mine)
    for rank, other in enumerate(others, 1):
        if difference := _difference(first, other, ()):
            keys, one, two = difference
            raise ConfigurationError(f"the ranks were not started alike: {_in_words(keys, one, two, rank)}")


def _in_words(keys: tuple[str, ...], one: Any, two: Any, rank: int) -> str:
    what, *path = keys
    name = ".".join(path)
    if what == "code":
        return (
            f"the code of {name} of rank {rank} is not that of rank 0 (SHA-256 {_short(two)} and {_short(one)}); "
            "install the same on all machines"
        )
    if what == "version":
        return f"rank 0 has {name} {one}, and rank {rank} has {two}; install the same on all machines"
    noun = f"{what} {name}".strip()
    return f"the {noun} is {json.dumps(one)} for rank 0 and {json.dumps(two)} for rank {rank}"


def _difference(one: Any, two: Any, keys: tuple[str, ...]) -> tuple[tuple[str, ...], Any, Any] | None:
    """Return the place of the first difference in plain data, and the two values there; None without one."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys([*one, *two]):
            if place := _difference(one.get(key), two.get(key), (*keys, str(key))):
                return place
        return None
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return next((place for n, (a, b) in pairs if (place := _difference(a, b, (*keys, str(n))))), None)
    return None if one == two else (keys, one, two)


def _code(manager: PluginManager) -> dict[str, str]:
    """Return the package of the core and of each plugin -> SHA-256 of its Python files."""
    modules = {plugin.source.module.partition(".")[0] for plugin in manager.plugins if plugin.source.module}
    digests = {}
    for name in sorted({"automl_nas", *modules}):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            digest = hashlib.sha256()
            for source in _sources(Path(file)):
                digest.update(f"{source.name}|".encode() + source.read_bytes())
            digests[name] = digest.hexdigest()
    return digests


def _sources(file: Path) -> Iterator[Path]:
    yield from sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def check_ranks(ranks: Ranks, plan: Plan, path: Path | None) -> None:
    """Check that all ranks can do a run together: its executor, spaces, costs and data, and the run directory.

    Args:
        ranks: of the run; nothing is checked if there is one.
        plan: that each rank made.
        path: the run directory; None: that of a short run, which checks it.

    Raises:
        ConfigurationError: they cannot; the message names the rank and the difference.
    """
    if ranks.size > 1:
        _check_executor(plan)
        _check_costs(ranks, plan)
        _check_plans(ranks, plan)
        if path is not None:
            check_shared(ranks, path, "choose a run directory")


def _check_plans(ranks: Ranks, plan: Plan) -> None:
    """Check that all ranks have the spaces, costs and data of rank 0, and that batches divide among them."""
    first = ranks.agree({"identity": plan.identity, "code": _component_code(plan)})
    problem = ""
    try:
        check_worker(first["identity"], plan)
        if difference := _difference(first["code"], _component_code(plan), ("code",)):
            keys, one, two = difference
            problem = _in_words(keys, one, two, ranks.rank)
        _check_batches(ranks.size, plan)
    except ConfigurationError as error:
        problem = str(error)
    ranks.refuse(problem)


def _component_code(plan: Plan) -> dict[str, str]:
    """Return the module of each class of the run outside of plugins -> SHA-256 of its file."""
    registry = plan.components.registry
    parts: list[object] = [plan.space, plan.final_space, plan.task, plan.final_task, *plan.components.objects.values()]
    for stage in plan.stages:
        for kind, spec in (
            ("strategies", stage.settings.strategy),
            ("evaluators", stage.settings.evaluator),
            ("pruners", stage.settings.pruner),
        ):
            if spec is not None and spec["name"] not in registry.names(kind):
                parts.append(plan.components.class_of(kind, spec["name"], stage.path))
    digests = {}
    for part in parts:
        module = getattr(part, "__module__", None) or type(part).__module__
        file = getattr(sys.modules.get(str(module)), "__file__", None)
        if file is not None and Path(file).is_file():
            digests[str(module)] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return digests


def _check_batches(size: int, plan: Plan) -> None:
    for task, split, path in _training(plan):
        inputs, _ = next(iter(task.batches(split, 0, stream_seed(plan.seed, "data"))))
        check_divides(len(inputs), size, path)


def _training(plan: Plan) -> Iterator[tuple[Task, str, str]]:
    """Yield the tasks that all ranks train on together, each with a split and the path of its batch size."""
    if plan.task is not None and any(trains_together(plan, place) for place in range(len(plan.stages))):
        yield plan.task, "train", "task.batch_size"
    if plan.final is not None and plan.final_task is not None:
        own = plan.final_task is not plan.task
        yield plan.final_task, plan.final.settings.split, f"{'final.' if own else ''}task.batch_size"


def trains_together(plan: Plan, stage: int) -> bool:
    """Return whether the ranks train something together in a stage; the last position is that of the final stage."""
    if stage == len(plan.stages):
        return plan.final is not None
    strategy, path = plan.stages[stage].settings.strategy, f"{plan.stages[stage].path}.strategy"
    return plan.components.takes("strategies", strategy["name"], Runtime, path) or data_parallel(plan, stage)


def _check_executor(plan: Plan) -> None:
    name = plan.config["executor"]["name"]
    if name != "in_process":
        raise ConfigurationError(
            f"under torchrun the ranks themselves evaluate candidates, and the executor is '{name}'; set executor: "
            "in_process, or start the run without torchrun",
            path="executor",
        )


def check_shared(ranks: Ranks, path: Path, way: str) -> None:
    """Check that all ranks see the files that rank 0 writes in a folder.

    Args:
        ranks: of the run.
        path: the folder, which may not exist.
        way: the beginning of the way out, which ends with the words "on a file system that all machines share".

    Raises:
        ConfigurationError: they do not.
    """
    probe = path / f"{ranks.agree(uuid.uuid4().hex)}.part"

    def write() -> None:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()

    ranks.lead(write)
    seen = probe.exists()
    try:
        ranks.refuse(
            ""
            if seen
            else f"it does not see what rank 0 writes in {path}; {way} on a file system that all machines share"
        )
    finally:
        if ranks.rank == 0:
            probe.unlink(missing_ok=True)


def _check_costs(ranks: Ranks, plan: Plan) -> None:
    """Check that all ranks get the same costs: what each measures is another number."""
    for key, model in plan.costs.items():
        if model.noisy:
            name = key.partition("/")[0]
            raise ConfigurationError(
                f"the cost '{name}' is measured for each candidate, and each rank would measure another value; under "
                "torchrun use a cost model that is computed, or one that predicts it from measurements before the "
                "run, or start the run without torchrun",
                path="problem.costs",
            )
    first, mine = ranks.agree(predictions(plan)), predictions(plan)
    different = next((key.partition("/")[0] for key in mine if mine[key] != first.get(key)), None)
    ranks.refuse(
        ""
        if different is None
        else f"with the same measurements it predicts other values of the cost '{different}' than rank 0; use machines "
        "with the same processors, or a cost model that is computed"
    )


def check_count(directory: RunDirectory, plan: Plan, ranks: Ranks, *, changed: bool) -> None:
    """Check that a run is resumed by as many ranks as began it, if the result depends on the number.

    Args:
        directory: of the run, locked.
        plan: of the run.
        ranks: that resume it.
        changed: whether the user knows that the number changed; the present one is then recorded.

    Raises:
        RunDirectoryError: it changed.
    """
    identity = directory.read_identity()
    if identity is None or (before := identity.get("ranks", 1)) == ranks.size:
        return
    names = [stage.settings.name for stage in plan.stages] + ["final"]
    trained = [name for place, name in enumerate(names) if trains_together(plan, place)]
    if trained and not changed:
        raise RunDirectoryError(
            f"{directory.path} was begun by {_count(before)}, and {_count(ranks.size)} would resume it. The batch "
            "size of the task is that of all ranks together and stays the same, but batch normalisation and dropout "
            f"see the part of a batch that one rank has, so training in {', '.join(map(repr, trained))} would not give "
            f"the same weights. Resume with {_count(before)}; to continue all the same: changed_ranks=True in Python, "
            "--changed-ranks on the command line"
        )
    earlier = [*identity.get("earlier_ranks", ()), before]
    write_record(directory.identity, {**identity, "ranks": ranks.size, "earlier_ranks": earlier})


def check_trained(source: RunDirectory, plan: Plan, stage: int, ranks: int) -> None:
    """Check that a stage whose trials the ranks train together is extended by as many ranks as trained its trials.

    Args:
        source: the directory of the complete run.
        plan: of the new run.
        stage: position of the stage.
        ranks: the number of processes of the new run.

    Raises:
        RunDirectoryError: there are other numbers.
    """
    identity = source.read_identity() or {}
    counts = {identity.get("ranks", 1), *identity.get("earlier_ranks", ())}
    if counts != {ranks} and trains_together(plan, stage):
        name = plan.stages[stage].settings.name
        trained = " and ".join(_count(count) for count in sorted(counts))
        way = "repeat the search in a new run"
        raise RunDirectoryError(
            f"the trials of the stage '{name}' of {source.path} were trained by {trained}, and {_count(ranks)} would "
            "continue it: batch normalisation and dropout see the part of a batch that one rank has, so the trials "
            f"could not be compared; {f'start it with {trained}, or {way}' if len(counts) == 1 else way}"
        )


def _count(ranks: int) -> str:
    return "one process" if ranks == 1 else f"{ranks} ranks"


def _short(fingerprint: Any) -> str:
    return "none" if fingerprint is None else str(fingerprint)[:12]
