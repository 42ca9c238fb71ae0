"""The scripts and manifests of examples/cluster: they parse, and call commands with options that exist."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from docs.pages import ROOT

import automl_nas
from automl_nas.cli import cli
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.record.yaml import read_yaml

FOLDER = ROOT / "examples" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
MANIFESTS = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
JOBS = {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == "Job"}
URL = "postgresql://me:secret@host/searches"

# Programs that print what they were called with; automl-nas ends on SIGTERM, as the real one does.
STUBS = {
    "srun": 'exec "$@"',
    "torchrun": """printf '%s\\n' "$(IFS='|'; echo "$*")" >> "$CALLS\"""",
    "scontrol": "printf 'gpu1\\ngpu2\\n'",
    "nvidia-smi": "printf '0\\n1\\n'",
    "automl-nas": """printf '%s\\n' "$(IFS='|'; echo "$*")" >> "$CALLS"
if [ -n "${HANG:-}" ]; then trap 'sleep 0.3; echo ended >> "$CALLS"; exit 130' TERM; touch "$HANG.$$"; \
while :; do sleep 0.02; done; fi""",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "STORAGE": URL}


def bash(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", *arguments], env=environment, capture_output=True, text=True, timeout=60)


def calls(environment: Mapping[str, str]) -> list[list[str]]:
    return [line.split("|") for line in Path(environment["CALLS"]).read_text().splitlines()]


def parsed(words: list[str]) -> click.Context:
    """Return the context of a call of ``automl-nas``; an unknown command or option is an error."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, f"no command {words[0]}"
    return command.make_context(words[0], words[1:], resilient_parsing=False)


@pytest.mark.process
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash_and_name_what_they_lack(script: Path, environment: dict[str, str]) -> None:
    assert bash(environment, "-n", str(script)).returncode == 0
    del environment["STORAGE"]
    result = bash(environment, str(script))
    assert result.returncode != 0
    assert ("usage: " if "torchrun" in script.name else "set STORAGE to the URL") in result.stderr


@pytest.mark.process
def test_the_same_job_begins_and_resumes_a_run(tmp_path: Path, environment: dict[str, str]) -> None:
    run, script = tmp_path / "run", str(FOLDER / "slurm_run.sh")
    config = str(FOLDER / "search.yaml")
    assert bash(environment, script, config, str(run)).returncode == 0
    run.mkdir()
    (run / "config.yaml").touch()
    assert bash(environment, script, config, str(run)).returncode == 0
    assert calls(environment) == [["run", config, "--out", str(run)], ["resume", str(run)]]
    for call in calls(environment):
        parsed(call)
    assert "usage: " in bash(environment, script).stderr


@pytest.mark.process
def test_torchrun_has_a_rank_for_each_gpu_and_meets_at_the_first_node(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    environment |= {"SLURM_JOB_ID": "65537", "SLURM_JOB_NODELIST": "gpu[1-2]", "SLURM_NNODES": "2"}
    environment["SLURM_GPUS_ON_NODE"] = "4"
    run, script, config = tmp_path / "run", str(FOLDER / "slurm_torchrun.sh"), str(FOLDER / "search.yaml")
    assert bash(environment, script, config, str(run)).returncode == 0
    run.mkdir()
    (run / "config.yaml").touch()
    assert bash(environment, script, config, str(run)).returncode == 0
    (launched, begun), (again, resumed) = (torchrun(call) for call in calls(environment))
    assert parsed(begun).params["out"] == run
    assert resumed == ["resume", str(run)]
    assert (launched.nnodes, launched.nproc_per_node, launched.rdzv_backend) == ("2", "4", "c10d")
    assert launched.rdzv_endpoint == again.rdzv_endpoint == "gpu1:25537"
    assert launched.no_python


def torchrun(call: list[str]) -> tuple[Any, list[str]]:
    """Return the arguments of torchrun, parsed by itself, and the command of ``automl-nas``."""
    from torch.distributed.run import get_args_parser

    arguments = get_args_parser().parse_args(call)
    assert arguments.training_script == "automl-nas"
    return arguments, arguments.training_script_args


@pytest.mark.process
def test_each_task_of_the_array_is_one_worker(environment: dict[str, str]) -> None:
    environment["SLURM_CPUS_PER_TASK"] = "4"
    script = str(FOLDER / "slurm_workers.sh")
    assert bash(environment, script).returncode == 0
    assert bash(environment, script, "cluster-1/queue").returncode == 0
    first, second = (parsed(call).params for call in calls(environment))
    assert (first["storage"], first["study"], first["threads"]) == ("${STORAGE}", None, 4)
    assert second == {**first, "study": "cluster-1/queue"}


@pytest.mark.process
def test_a_machine_has_one_worker_for_each_gpu_and_a_signal_ends_all(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    environment["HANG"] = str(tmp_path / "hangs")
    script = subprocess.Popen(["bash", str(FOLDER / "workers_of_one_machine.sh"), "--idle", "60"], env=environment)
    until = time.monotonic() + 60.0
    while len(list(tmp_path.glob("hangs.*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    script.send_signal(signal.SIGTERM)
    script.wait(60.0)
    lines = calls(environment)
    assert lines[2:] == [["ended"], ["ended"]], "the script ends before its workers"
    workers = [parsed(call).params for call in lines[:2]]
    assert sorted(worker["device"] for worker in workers) == ["cuda:0", "cuda:1"]
    assert {worker["idle"] for worker in workers} == {60.0}


def test_manifests_call_commands_that_exist_and_mount_what_they_declare() -> None:
    """Kubernetes' rules: Jobs restart OnFailure or Never, a podFailurePolicy needs Never, and mounts name volumes."""
    claims = {m["metadata"]["name"] for m in MANIFESTS if m["kind"] == "PersistentVolumeClaim"}
    assert set(JOBS) == {"automl-nas-run", "automl-nas-workers"}
    for name, job in JOBS.items():
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)
        pod = job["spec"]["template"]["spec"]
        assert pod["restartPolicy"] in ({"Never"} if "podFailurePolicy" in job["spec"] else {"Never", "OnFailure"})
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            assert [variable["name"] for variable in container["env"]] == ["STORAGE"]
        used = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        assert used <= claims
    worker = container_of("automl-nas-workers")
    assert worker["command"][0] == "automl-nas"
    assert parsed(worker["command"][1:]).params["storage"] == "${STORAGE}"
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "completions" not in JOBS["automl-nas-workers"]["spec"]
    (script,) = container_of("automl-nas-run")["args"]
    commands = [line.split() for line in re.findall(r"exec automl-nas (.*?)(?:;|\n|$)", script)]
    assert [command[0] for command in commands] == ["resume", "run"]
    assert parsed(commands[1]).params["out"] == Path(commands[0][1])


def container_of(job: str) -> dict[str, Any]:
    container: dict[str, Any] = JOBS[job]["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.mark.parametrize("version", ["1.31", "1.32", "1.33"])
def test_manifests_satisfy_the_schemas_of_kubernetes(version: str) -> None:
    """With the schemas that Kubernetes publishes with each version: 119 MB, so they are not a test dependency."""
    checker = pytest.importorskip(
        "kubernetes_validate", reason="the schemas of Kubernetes are not installed: pip install kubernetes-validate"
    )
    for manifest in MANIFESTS:
        checker.validate(manifest, version, strict=True)
    broken = {**MANIFESTS[1], "spec": {**MANIFESTS[1]["spec"], "backofLimit": 3}}
    with pytest.raises(checker.ValidationError, match="backofLimit"):
        checker.validate(broken, version, strict=True)


def test_the_example_resolves_and_searches_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE", str(tmp_path / "queue.journal"))
    settings = read_yaml(FOLDER / "search.yaml").value
    plan = make_plan(settings, complete_manager().registry)
    assert plan.config["executor"] == {**plan.config["executor"], "name": "optuna", "storage": "${STORAGE}"}
    stage = {**settings["stages"][0], "evaluator": {"name": "train", "train": {"epochs": 1}}, "ahead": 1}
    del stage["timeout"]
    stage["strategy"] = {"name": "evolution", "population": 2, "generations": 1}
    toy = {**settings, "executor": "in_process", "stages": [stage], "runtime": {"device": "cpu", "threads": 1}}
    toy["space"] = {**settings["space"], "widths": [16, 32], "repeats": [1, 1], "last_channels": 16}
    result = automl_nas.search(**toy, out=tmp_path / "run")
    assert "accuracy" in result.metrics
