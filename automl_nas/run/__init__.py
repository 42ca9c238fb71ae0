"""What drives a search and what survives it: configuration, run directory, ledger, checkpoints, artifacts, the driver.

Names load on first use: reading a run imports neither torch nor any plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.run.api import (
        extend as extend,
        open_run as open_run,
        resume as resume,
        retrain as retrain,
        search as search,
    )
    from automl_nas.run.configuration.builtin import complete_manager as complete_manager
    from automl_nas.run.configuration.differences import first_difference as first_difference
    from automl_nas.run.configuration.plan import Plan as Plan
    from automl_nas.run.configuration.resolver import make_plan as make_plan
    from automl_nas.run.configuration.sections import read_settings as read_settings
    from automl_nas.run.estimate.estimate import (
        RunEstimate as RunEstimate,
        StageEstimate as StageEstimate,
        plan_run as plan_run,
    )
    from automl_nas.run.estimate.feasibility import CostRange as CostRange, Feasibility as Feasibility
    from automl_nas.run.estimate.smoke import SmokeRun as SmokeRun, smoke_run as smoke_run
    from automl_nas.run.final.delivered import (
        DeliveredNetwork as DeliveredNetwork,
        ExportFailure as ExportFailure,
        LimitCheck as LimitCheck,
    )
    from automl_nas.run.final.report import (
        BaselineComparison as BaselineComparison,
        FinalNetwork as FinalNetwork,
        FinalReport as FinalReport,
    )
    from automl_nas.run.hints import way_to_export as way_to_export, way_to_resume as way_to_resume
    from automl_nas.run.interruption import StopFlag as StopFlag
    from automl_nas.run.notifications import run_info as run_info
    from automl_nas.run.number_text import (
        cost as cost,
        duration as duration,
        exact as exact,
        human as human,
        measured as measured,
    )
    from automl_nas.run.progress.choice import progress_reporter as progress_reporter
    from automl_nas.run.progress.reporter import ProgressReporter as ProgressReporter
    from automl_nas.run.record.artifacts import RunArtifacts as RunArtifacts
    from automl_nas.run.record.atomic_files import (
        cannot_write as cannot_write,
        disk_errors as disk_errors,
        read_json as read_json,
        write_json as write_json,
        write_text as write_text,
        write_whole as write_whole,
    )
    from automl_nas.run.record.checkpoints import Checkpoints as Checkpoints
    from automl_nas.run.record.directory import RunDirectory as RunDirectory
    from automl_nas.run.record.environment import environment as environment
    from automl_nas.run.record.json_values import to_json_values as to_json_values
    from automl_nas.run.record.ledger import (
        Ledger as Ledger,
        finished_after as finished_after,
        recorded_after as recorded_after,
    )
    from automl_nas.run.record.logged_numbers import logged_numbers as logged_numbers
    from automl_nas.run.record.whole_ledger import whole_ledger as whole_ledger
    from automl_nas.run.record.yaml import (
        Document as Document,
        dump_yaml as dump_yaml,
        parse_yaml as parse_yaml,
        read_yaml as read_yaml,
    )
    from automl_nas.run.results import Candidate as Candidate, Result as Result
    from automl_nas.run.session import Session as Session
    from automl_nas.run.shortcomings import Shortcoming as Shortcoming
    from automl_nas.run.state import RunState as RunState, StageState as StageState
    from automl_nas.run.trials.child_process import (
        MAIN_GUARD as MAIN_GUARD,
        PATIENCE as PATIENCE,
        READY as READY,
        ChildProcess as ChildProcess,
        ProcessDiedError as ProcessDiedError,
    )
    from automl_nas.run.trials.evaluator_factory import StageEvaluator as StageEvaluator
    from automl_nas.run.trials.executor import (
        Crash as Crash,
        EvaluatorSource as EvaluatorSource,
        Executor as Executor,
        InProcess as InProcess,
        evaluate_alone as evaluate_alone,
        timed_out as timed_out,
    )
    from automl_nas.run.trials.portable import (
        read_outcome as read_outcome,
        read_request as read_request,
        serialize_outcome as serialize_outcome,
        serialize_request as serialize_request,
    )
    from automl_nas.run.trials.rehearsal import Rehearsal as Rehearsal
    from automl_nas.run.trials.stage_worker import StageWorker as StageWorker
    from automl_nas.run.trials.worker_identity import describe_worker as describe_worker, worker_name as worker_name
    from automl_nas.run.trials.worker_processes import WorkerProcesses as WorkerProcesses
    from automl_nas.run.trials.worker_runtime import WorkerRuntime as WorkerRuntime

_HOMES = {
    "api": (
        "extend",
        "open_run",
        "resume",
        "retrain",
        "search",
    ),
    "session": ("Session",),
    "estimate.estimate": ("RunEstimate", "StageEstimate", "plan_run"),
    "estimate.feasibility": ("CostRange", "Feasibility"),
    "estimate.smoke": ("SmokeRun", "smoke_run"),
    "results": (
        "Candidate",
        "Result",
    ),
    "shortcomings": ("Shortcoming",),
    "state": (
        "RunState",
        "StageState",
    ),
    "hints": (
        "way_to_export",
        "way_to_resume",
    ),
    "number_text": ("cost", "duration", "exact", "human", "measured"),
    "final.delivered": (
        "DeliveredNetwork",
        "ExportFailure",
        "LimitCheck",
    ),
    "final.report": (
        "BaselineComparison",
        "FinalNetwork",
        "FinalReport",
    ),
    "interruption": ("StopFlag",),
    "notifications": ("run_info",),
    "configuration.differences": ("first_difference",),
    "configuration.plan": ("Plan",),
    "configuration.resolver": ("make_plan",),
    "configuration.builtin": ("complete_manager",),
    "configuration.sections": ("read_settings",),
    "progress.choice": ("progress_reporter",),
    "progress.reporter": ("ProgressReporter",),
    "record.directory": ("RunDirectory",),
    "record.environment": ("environment",),
    "record.ledger": (
        "Ledger",
        "finished_after",
        "recorded_after",
    ),
    "record.logged_numbers": ("logged_numbers",),
    "record.checkpoints": ("Checkpoints",),
    "record.artifacts": ("RunArtifacts",),
    "record.atomic_files": (
        "cannot_write",
        "disk_errors",
        "read_json",
        "write_json",
        "write_text",
        "write_whole",
    ),
    "record.json_values": ("to_json_values",),
    "record.whole_ledger": ("whole_ledger",),
    "record.yaml": (
        "Document",
        "dump_yaml",
        "parse_yaml",
        "read_yaml",
    ),
    "trials.child_process": ("MAIN_GUARD", "PATIENCE", "READY", "ChildProcess", "ProcessDiedError"),
    "trials.executor": (
        "Crash",
        "EvaluatorSource",
        "Executor",
        "InProcess",
        "evaluate_alone",
        "timed_out",
    ),
    "trials.rehearsal": ("Rehearsal",),
    "trials.portable": ("read_outcome", "read_request", "serialize_outcome", "serialize_request"),
    "trials.stage_worker": ("StageWorker",),
    "trials.worker_identity": ("describe_worker", "worker_name"),
    "trials.worker_processes": ("WorkerProcesses",),
    "trials.worker_runtime": ("WorkerRuntime",),
    "trials.evaluator_factory": ("StageEvaluator",),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
