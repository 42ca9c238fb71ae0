"""Runs by two ranks under torchrun: equal to one process that takes their micro-batches in turn, killed, resumed."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from end_to_end import ranks
from torch import Tensor

import automl_nas
from automl_nas.errors import RunDirectoryError
from automl_nas.evaluation import Recipe, Runtime, learning_rate, make_optimizer
from automl_nas.streams import stream, stream_seed
from automl_nas.testing import ToyTask

pytestmark = [pytest.mark.slow, pytest.mark.process]

TESTS = Path(__file__).parents[1]
TIMEOUT = 240


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(TESTS), *sys.path])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COVERAGE_PROCESS_START": "", **more}


class Group(NamedTuple):
    """What two ranks did."""

    folder: Path
    seen: list[dict[str, Any]]


def by_two_ranks(*command: str | Path, folder: Path) -> None:
    """Start a command twice with the variables that torchrun sets, which takes its own start of some seconds less."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            command,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **common),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    """Two ranks that do all runs of `ranks.main`."""
    folder = tmp_path_factory.mktemp("ranks")
    by_two_ranks(sys.executable, "-m", "end_to_end.ranks", str(folder), folder=folder)
    return Group(folder, [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)])


def weights(run: Path, name: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "artifacts" / f"{name}.safetensors")


def same_weights(run: Path, other: Path) -> int:
    """Check that the artifacts and exports of two runs are equal to the byte; return their number."""
    files = [file for file in other.rglob("*.safetensors") if "checkpoints" not in file.parts]
    assert all(file.read_bytes() == (run / file.relative_to(other)).read_bytes() for file in files)
    return len(files)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in ("seconds", "time", "crc")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def trials(run: Path) -> list[Any]:
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    return sorted((without_times(line) for line in lines if line["event"] == "finished"), key=lambda t: t["number"])


def test_ranks_that_disagree_are_refused_with_the_difference(group: Group) -> None:
    for seen in group.seen:
        assert "the configuration seed is 0 for rank 0 and 1 for rank 1" in seen["configuration"]
        assert re.search(
            r"rank 1 cannot take part: .*other data than the run \(fingerprint 1, in the run 0\)", seen["data"]
        )
        assert "a batch of 9 does not divide among 2 processes" in seen["batch"]
        assert "the ranks themselves evaluate candidates, and the executor is 'processes'" in seen["executor"]
        assert "the cost 'process' is measured for each candidate" in seen["noisy"]
        assert "rank 1 cannot take part: with the same measurements it predicts other values of" in seen["unlike"]
        assert not seen["written"]


def test_a_cost_that_is_fitted_before_the_run_is_that_of_rank_0(group: Group) -> None:
    (measured,) = {trial["costs"]["process"] for trial in trials(group.folder / "fitted")}
    assert measured == group.seen[0]["process"] != group.seen[1]["process"]
    assert group.seen[0]["fitted"] == group.seen[1]["fitted"]


def test_all_ranks_receive_the_result_and_rank_0_writes_it(group: Group) -> None:
    for name in ("result", "budget", "retrained", "extended", *ranks.RUNS):
        written = json.loads((group.folder / name.replace("result", "run") / "result.json").read_text())
        del written["crc"]
        assert group.seen[0][name] == group.seen[1][name] == written
    assert json.loads((group.folder / "run" / "identity.json").read_text())["ranks"] == 2
    lines = (group.folder / "run" / "trials.jsonl").read_text().splitlines()
    events = [(json.loads(line)["event"], json.loads(line)["number"]) for line in lines]
    # Each of the four networks once: the second rank writes nothing.
    assert sorted(events) == sorted([(event, n) for n in range(4) for event in ("started", "finished")])


def test_the_error_of_a_rank_ends_the_others(group: Group) -> None:
    first, second = (seen["failed"] for seen in group.seen)
    assert second.startswith("DataError: ")
    assert "a disk of rank 1 is gone" in second
    assert re.match("RanksEndedError: rank 1 failed: .*a disk of rank 1 is gone.*; to continue: ", first)
    assert not (group.folder / "failed" / "result.json").exists()


def in_turn(network: Any, size: int) -> None:
    """Train a supernet as `single_path` does, taking the parts of each batch in turn; written out."""
    seed, task, recipe = (
        stream_seed(3, "supernet"),
        ToyTask(batch_size=8),
        Recipe(**ranks.CONFIG["stages"][0]["strategy"]["train"]),
    )
    optimizer = make_optimizer(network, recipe)
    per_epoch = task.batches_per_epoch("train")
    network.train()
    for epoch in range(recipe.epochs):
        for number, (inputs, targets) in enumerate(task.batches("train", epoch, stream_seed(seed, "data"))):
            iteration = epoch * per_epoch + number
            path = ranks.space().sample(stream(seed, "path", iteration))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, iteration, per_epoch)
            optimizer.zero_grad(set_to_none=True)
            for part in range(size):
                x = inputs[part::size].contiguous(memory_format=torch.channels_last)
                (task.loss(network(x, path), targets[part::size]) / size).backward()
            optimizer.step()


def test_two_ranks_equal_one_process_that_takes_their_parts_in_turn(group: Group) -> None:
    runtime = Runtime(device="cpu", threads=1)
    runtime.activate()
    with runtime.seeded(stream_seed(3, "supernet"), "strategy"), runtime.seeded(stream_seed(3, "supernet"), "init"):
        supernet = runtime.place(ranks.space().build_supernet())
    whole = copy.deepcopy(supernet)
    in_turn(supernet, 2)
    trained = weights(group.folder / "run", "supernet/weights")
    assert trained.keys() == supernet.state_dict().keys()
    # Halving is exact and the sum of two gradients has one rounding, so nothing differs.
    assert all(torch.equal(trained[name], value) for name, value in supernet.state_dict().items())
    in_turn(whole, 1)
    assert not all(torch.equal(trained[name], value) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("name", ["darts", "dso", "fair", "together", "apart"])
def test_two_ranks_find_what_one_process_finds(group: Group, tmp_path: Path, name: str) -> None:
    """The mean of the gradients of two halves differs from the gradient of the whole by rounding only."""
    automl_nas.search(ranks.RUNS[name], out=tmp_path / "alone", progress="none")
    # Half of the edges of dso are pruned on the way.
    ours, alone = trials(group.folder / name), trials(tmp_path / "alone")
    assert [trial["architecture"] for trial in ours] == [trial["architecture"] for trial in alone]
    for artifact in {"darts": ["alpha", "weights"], "dso": ["lambda", "weights"], "fair": ["ema", "weights"]}.get(
        name, []
    ):
        expected = weights(tmp_path / "alone", f"stage/{artifact}")
        for key, value in weights(group.folder / name, f"stage/{artifact}").items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-5)
    for one, other in zip(ours, alone, strict=True):
        if name == "apart":  # each candidate is trained by one process: nothing is rounded differently
            assert one == other
        else:
            assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-3)


def test_ranks_that_try_a_run_first_do_the_same_run(group: Group) -> None:
    assert all(seen["smoke"] == ["supernet", "search", "final"] for seen in group.seen)
    # A budget of an hour shortens nothing, but all stages are measured before.
    assert trials(group.folder / "budget") == trials(group.folder / "registered")
    assert same_weights(group.folder / "budget", group.folder / "registered") == 4
    assert sorted(path.name for path in group.folder.glob("automl_nas-short-*")) == []


def test_ranks_repeat_the_final_stage_and_extend_a_search(group: Group, tmp_path: Path) -> None:
    registered, extended = group.folder / "registered", group.folder / "extended"
    # With the same settings, the final stage is that of the run: bit-equal to its own, with as many ranks.
    assert same_weights(group.folder / "retrained", registered) == 4
    stages = {"search": {"budget": {"trials": 5}}}
    automl_nas.extend(registered, out=tmp_path / "alone", stages=stages, progress="none")
    # Evaluations do not depend on the ranks; those of the first three trials are not repeated.
    assert trials(extended) == trials(tmp_path / "alone")
    assert trials(extended)[:3] == trials(registered)
    assert len(trials(extended)) == 5
    assert json.loads((extended / "identity.json").read_text())["ranks"] == 2


def test_trials_of_other_processes_are_not_continued_where_they_could_not_be_compared(
    group: Group, tmp_path: Path
) -> None:
    with pytest.raises(RunDirectoryError, match=r"'stage' of .* were trained by 2 ranks, and one process would"):
        automl_nas.extend(
            group.folder / "together",
            out=tmp_path / "alone",
            stages={"stage": {"budget": {"trials": 3}}},
            space=ranks.space,
            task=ranks.CONFIG["task"],
            progress="none",
        )
    assert not (tmp_path / "alone").exists()


def torchrun(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    scripts = Path(sys.executable).parent
    return subprocess.Popen(
        [scripts / "torchrun", "--nproc-per-node", "2", "--no-python", scripts / "automl-nas", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def process_of(rank: int, launcher: int) -> int:
    """Return the process that a launcher started for a rank."""
    for number in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
            return int(number)
    raise AssertionError(f"no process of rank {rank}")


class Killed(NamedTuple):
    """A run of which rank 1 was killed in its first stage.

    Attributes:
        folder: holds the run directory ``run``, and ``copy``, a copy of it.
        message: what torchrun printed.
    """

    folder: Path
    message: str


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "config.yaml").write_text(json.dumps(ranks.REGISTERED))
    metrics = folder / "run" / "metrics.jsonl"
    with torchrun("run", "config.yaml", "--out", "run", folder=folder) as launcher:
        try:
            while launcher.poll() is None and not (metrics.exists() and metrics.stat().st_size):
                time.sleep(0.01)
            os.kill(process_of(1, launcher.pid), signal.SIGKILL)
            _, message = launcher.communicate(timeout=TIMEOUT)
        finally:
            launcher.kill()
    assert launcher.returncode != 0
    shutil.copytree(folder / "run", folder / "copy")
    return Killed(folder, message)


def test_a_killed_rank_ends_the_group_with_the_command_that_resumes_it(group: Group, killed: Killed) -> None:
    assert "error: rank 1 ended without a message (killed, or out of memory?), so all ranks end" in killed.message
    (command,) = re.findall("to continue: torchrun (.*)", killed.message)
    assert command == "--nproc-per-node 2 --no-python automl-nas resume run"
    assert not (killed.folder / "run" / "result.json").exists()
    by_two_ranks(Path(sys.executable).with_name("automl-nas"), *shlex.split(command)[4:], folder=killed.folder)
    undisturbed, resumed = group.folder / "registered", killed.folder / "run"
    assert trials(resumed) == trials(undisturbed)
    assert (resumed / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()
    for file in undisturbed.rglob("*.safetensors"):
        assert file.read_bytes() == (resumed / file.relative_to(undisturbed)).read_bytes()


def test_another_number_of_ranks_needs_consent(killed: Killed) -> None:
    run = killed.folder / "copy"
    match = r"begun by 2 ranks, and one process .* 'supernet', 'final' .*--changed-ranks"
    with pytest.raises(RunDirectoryError, match=match):
        automl_nas.resume(run, progress="none")
    assert automl_nas.resume(run, progress="none", changed_ranks=True).found
    identity = json.loads((run / "identity.json").read_text())
    assert (identity["ranks"], identity["earlier_ranks"]) == (1, [2])
