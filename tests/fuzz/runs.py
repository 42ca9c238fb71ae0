"""Run directories that are damaged or made by somebody else: detected, or without influence on any answer."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fuzz.judge import TRAP, Answer, Place, call

from automl_nas.run.record.atomic_files import write_record
from automl_nas.run.record.lines import body, with_checksums

CONFIG = """\
seed: 3
space: {name: toy, blocks: 3}
task: {name: toy, train: 32, search: 16, test: 16}
problem:
  objectives: {accuracy: maximize, params: minimize}
  constraints: {toy_cost: "<= 4"}
  costs: [toy_cost, params]
runtime: {threads: 1, device: cpu}
stages:
  - name: search
    strategy: {name: evolution, population: 6, generations: 2, top_k: 3}
    evaluator: toy
final:
  train: {epochs: 1}
  baselines: [largest]
checkpoint_seconds: 0.0
"""


@dataclass
class Original:
    """A complete run, and what commands answer about it.

    Attributes:
        path: of the run directory.
        shown: what ``show --json`` prints, without times.
        exported: name of an exported file -> content.
        result: the content of ``result.json``.
    """

    path: Path
    shown: dict[str, Any] = field(default_factory=dict)
    exported: dict[str, bytes] = field(default_factory=dict)
    result: bytes = b""

    @classmethod
    def make(cls, place: Place) -> Original:
        (place.folder / "fuzz.yaml").write_text(CONFIG)
        answer = call(place, ["run", "fuzz.yaml", "--out", "original", "--quiet"], seconds=600, waited=600)
        assert answer.code == 0, (answer.errors, answer.detail)
        original = cls(place.folder / "original")
        original.shown = shown(call(place, ["show", original.path, "--json"]))
        call(place, ["export", original.path, "--format", "safetensors", "--out", "exported"])
        original.exported = {path.name: path.read_bytes() for path in (place.folder / "exported").iterdir()}
        original.result = (original.path / "result.json").read_bytes()
        return original

    def files(self) -> list[Path]:
        """Return the files that a run reads again, relative to its directory; exported files are for others."""
        paths = sorted(path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        return [path for path in paths if path.parts[0] != "export"]


def shown(answer: Answer) -> dict[str, Any]:
    """Return what ``show --json`` printed, without times and paths."""
    state: dict[str, Any] = json.loads(answer.output)
    return {key: value for key, value in state.items() if key not in ("idle_seconds", "holder", "directory")}


# --- damage ---------------------------------------------------------------------------------------------------------


def flip_a_bit(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return b"\0"
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def change_a_digit(content: bytes, rng: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
    if not places:
        return flip_a_bit(content, rng)
    place = rng.choice(places)
    return content[:place] + bytes([48 + (content[place] - 47) % 10]) + content[place + 1 :]


def cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def zero_a_block(content: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(content) + 1)
    length = min(len(content) - begin, rng.choice((1, 16, 512, 4096)))
    return content[:begin] + bytes(length) + content[begin + length :]


def replace_a_block(content: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(content) + 1)
    return content[:begin] + rng.randbytes(rng.choice((1, 7, 300))) + content[begin + 20 :]


def append_junk(content: bytes, rng: random.Random) -> bytes:
    return content + rng.choice((b"\0", b"}", b"\n", b"junk", b"{}", content, rng.randbytes(40)))


def repeat_a_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    place = rng.randrange(len(lines)) if lines else 0
    return b"".join([*lines[: place + 1], *lines[place:]])


def drop_a_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if lines:
        del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def swap_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def encode_otherwise(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("latin-1")
    return rng.choice(
        (
            text.encode("utf-16"),
            b"\xef\xbb\xbf" + content,
            text.replace("\n", "\r\n").encode("latin-1"),
            ("é" + text).encode("latin-1"),
        )
    )


WHOLE = (
    *(b"", b"[]", b"{}", b"7", b"null", b'"text"', b"true", b"NaN", b"\0" * 4096, b"[" * 100_000, b'{"a":' * 50_000),
    *(b"9" * 5000, b"\xff\xfe\x00", b"!!python/object/apply:os.mkdir [executed]", b"a: &a [*a]", b"&a {<<: *a}"),
)


def replace_everything(content: bytes, rng: random.Random) -> bytes:
    return rng.choice(WHOLE)


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(flip_a_bit, flip_a_bit, change_a_digit, change_a_digit, cut_off, zero_a_block, replace_a_block, append_junk),
    *(repeat_a_line, drop_a_line, swap_lines, encode_otherwise, replace_everything),
)


def damage(run: Path, files: list[Path], rng: random.Random) -> str:
    """Damage one file of a run; return what was done."""
    name = rng.choice(files)
    path = run / name
    kind = rng.randrange(len(CHANGES) + 5)
    if kind < len(CHANGES):
        path.write_bytes(CHANGES[kind](path.read_bytes(), rng))
        return f"{CHANGES[kind].__name__} {name}"
    content = path.read_bytes()
    path.unlink()
    kind -= len(CHANGES)
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.write_bytes((run / rng.choice([other for other in files if other != name])).read_bytes())
    elif kind == 4:
        path.write_bytes(content)
        path.chmod(0)
    return f"{('delete', 'folder', 'link to itself', 'another file', 'no permission')[kind]} {name}"


def judge_damage(place: Place, original: Original, rng: random.Random) -> tuple[str, str, str]:
    """Damage a copy of a run, and ask for all answers; return (input, class of the result, detail)."""
    run = place.folder / "damaged"
    shutil.copytree(original.path, run)
    try:
        resumed = rng.random() < 0.4
        if resumed:
            (run / "result.json").unlink()
        files = [name for name in original.files() if (run / name).exists()]
        done = damage(run, files, rng)
        return (done, *(_judge_resume if resumed else _judge_answers)(place, original, run, done))
    finally:
        for path in run.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
        shutil.rmtree(run)
        shutil.rmtree(place.folder / "other", ignore_errors=True)


def _judge_answers(place: Place, original: Original, run: Path, done: str) -> tuple[str, str]:
    named = False
    for arguments in (
        ["show", run, "--json"],
        ["show", run],
        ["export", run, "--format", "safetensors", "--out", "other"],
    ):
        answer = call(place, arguments)
        if answer.fault:
            return answer.fault, answer.detail
        if answer.code != 0:
            if not answer.errors.startswith(("error:", "warning:")):
                return "wrong answer", f"exit code {answer.code} without an error: {answer.errors}"
            named = True
        elif "--json" in arguments:
            state = shown(answer)
            if state.pop("damage"):
                named = True
            elif not _same_state(state, original.shown, done):
                return "wrong answer", f"show: {_difference(original.shown, state)}"
        elif "export" in arguments:
            written = {path.name: path.read_bytes() for path in (place.folder / "other").iterdir()}
            if written != original.exported:
                return "wrong answer", "export wrote other files"
    return ("named error" if named else "same answers"), ""


def _same_state(state: dict[str, Any], expected: dict[str, Any], done: str) -> bool:
    state, expected = copy.deepcopy(state), {key: value for key, value in expected.items() if key != "damage"}
    expected = copy.deepcopy(expected)
    if done == "delete result.json":  # true, and resume computes it again
        return bool(state["status"] == "interrupted" and state["result"] is None)
    if done.endswith("metrics.jsonl"):  # lines that are gone altogether cannot be noticed: they are only a log
        for stage in (*state["stages"], *expected["stages"]):
            stage["logged"] = None
    return state == expected


def _judge_resume(place: Place, original: Original, run: Path, done: str) -> tuple[str, str]:
    answer = call(place, ["resume", run, "--quiet"])
    if answer.fault:
        return answer.fault, answer.detail
    if answer.code != 0:
        named = answer.errors.splitlines()[-1].startswith("error:") if answer.errors else False
        return ("named error", "") if named else ("wrong answer", f"exit code {answer.code}: {answer.errors}")
    if (run / "result.json").read_bytes() != original.result:
        return (
            "wrong answer",
            f"resume: {_difference(json.loads(original.result), json.loads((run / 'result.json').read_text()))}",
        )
    return ("named error" if answer.errors else "same answers"), ""


def _difference(expected: Any, actual: Any, path: str = "") -> str:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in {**expected, **actual}:
            if expected.get(key) != actual.get(key):
                return _difference(expected.get(key), actual.get(key), f"{path}.{key}")
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for position, (one, other) in enumerate(zip(expected, actual, strict=True)):
            if one != other:
                return _difference(one, other, f"{path}[{position}]")
    return f"{path}: {str(actual)[:200]}, not {str(expected)[:200]}"


# --- files that somebody made: checksums are right, contents are not ------------------------------------------------

JUNK: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        7,
        10**30,
        1.5,
        "",
        "text",
        "../../etc/passwd",
        f"{TRAP}:Trap",
        [],
        [[]],
        {},
        {"name": f"{TRAP}:Trap"},
    ),
    *({"a": {"b": []}}, [None], ["text"], "\x1b[31m", "a\0b", 2**63, 1e308),
)


def corrupt(value: Any, rng: random.Random) -> Any:
    """Return plain data with one entry, at any depth, replaced, removed or added."""
    value = copy.deepcopy(value)
    parent, key = value, None
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return rng.choice(JUNK)
    parent, key = rng.choice(places)
    action = rng.randrange(8)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, dict):
        parent[rng.choice(("extra", "", "a.b", "name", str(key) * 2))] = rng.choice(JUNK)
    else:
        parent[key] = rng.choice(JUNK)
    return value


def _places(value: Any) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(entries):
        yield value, key
        yield from _places(item)


def judge_forgery(place: Place, original: Original, rng: random.Random) -> tuple[str, str, str]:
    """Replace content of a copy of a run, with right checksums; return (input, class of the result, detail)."""
    run = place.folder / "forged"
    shutil.copytree(original.path, run)
    try:
        done = forge(place, run, rng)
        interrupted = rng.random() < 0.5
        if interrupted and (run / "result.json").exists():
            (run / "result.json").unlink()
        commands = [
            ["show", run],
            ["show", run, "--json", "--best"],
            ["export", run, "--format", "safetensors", "--out", "other"],
        ]
        if interrupted:
            commands = [["show", run], ["resume", run, "--quiet"]]
        named = False
        for arguments in commands:
            answer = call(place, arguments)
            if answer.fault:
                return done, answer.fault, f"{arguments[0]}: {answer.detail}"
            named = named or answer.code != 0 or "warning" in answer.errors
        return done, "named error" if named else "answered", ""
    finally:
        shutil.rmtree(run)
        shutil.rmtree(place.folder / "other", ignore_errors=True)


def forge(place: Place, run: Path, rng: random.Random) -> str:
    """Replace an entry of one file by something else, with right checksums; return what was done."""
    kind = rng.choice(("json", "json", "config", "config", "line", "checkpoint", "checkpoint", "weights"))
    if kind == "json":
        path = rng.choice([*run.glob("*.json"), *run.glob("artifacts/*/*.json")])
        content = json.loads(path.read_text())
        content.pop("crc")
        content = corrupt(content, rng)
        if isinstance(content, dict):
            write_record(path, content)
        else:
            path.write_text(json.dumps(content))
    elif kind == "config":
        import yaml

        path = run / "config.yaml"
        text = json.dumps(corrupt(yaml.safe_load(path.read_text()), rng))
        path.write_text(f"{text}\n# crc {zlib.crc32((text + chr(10)).encode()):08x}\n")
    elif kind == "line":
        path = rng.choice((run / "trials.jsonl", run / "metrics.jsonl"))
        lines = path.read_bytes().splitlines(keepends=True)
        place_ = rng.randrange(len(lines))
        record = json.loads(lines[place_])
        del record["crc"]
        changed = corrupt(record, rng)
        lines[place_] = with_checksums([body(changed) if isinstance(changed, dict) else json.dumps(changed).encode()])
        path.write_bytes(b"".join(lines))
    elif kind == "checkpoint":
        path = rng.choice(sorted((run / "checkpoints").iterdir()))
        content = torch.load(path, weights_only=True)
        content = (
            {"config": content["config"], **place_payload(place, rng)} if rng.random() < 0.2 else corrupt(content, rng)
        )
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue() if rng.random() < 0.9 else rng.choice((b"", b"\x80\x04.", buffer.getvalue()[:100]))
        path = run / "checkpoints" / f"00009999-{hashlib.sha256(data).hexdigest()}.pt"
        path.write_bytes(data)
    else:
        path = rng.choice(list(run.glob("artifacts/*/*.safetensors")))
        data = rng.choice(CHANGES)(path.read_bytes(), rng)
        path.write_bytes(data)
        note = path.with_suffix(".json")
        content = json.loads(note.read_text())
        content.pop("crc")
        write_record(note, {**content, "sha256": hashlib.sha256(data).hexdigest()})
    return f"{kind} {path.relative_to(run) if path.is_relative_to(run) else path}"


def place_payload(place: Place, rng: random.Random) -> dict[str, Any]:
    """Return the entries of a checkpoint that would execute code if it were read with pickle."""
    return {"stage": 0, "next_number": 0, "metrics": 0, rng.choice(("strategy", "steps", "extra")): place.payload()}


Judge = Callable[[Place, Original, random.Random], tuple[str, str, str]]
RUNS: dict[str, Judge] = {"damage": judge_damage, "forgery": judge_forgery}
"""Kind of input -> the function that makes and judges one."""
