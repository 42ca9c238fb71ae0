"""Files that a user may be sent, and what a shell may hold: YAML, JSON, npz, ONNX, environment variables."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from fuzz.judge import TRAP, Place, call
from fuzz.runs import CHANGES, CONFIG, JUNK, corrupt
from onnx import TensorProto, helper

# --- YAML ------------------------------------------------------------------------------------------------------------

PIECES = (
    *(
        "\0",
        "\x1b[2J",
        "\ufeff",
        "\u2028",
        "\t",
        "&a ",
        "*a",
        "*b",
        "<<: *a\n",
        "!!python/object/apply:os.mkdir [executed]",
    ),
    *(
        f"!!python/name:{TRAP}.Trap",
        "!!binary aGk=",
        "!!set {x}",
        "!!bool maybe",
        "!<tag:yaml.org,2002:int> x",
        "? ",
        "- ",
    ),
    *(
        "[" * 60,
        "{" * 60,
        "9" * 5000,
        "0x" + "f" * 5000,
        "1e999",
        "-.inf",
        ".nan",
        '"\\ud800"',
        '"\\U00110000"',
        "|\n",
        ">\n",
    ),
    *(
        "---\n",
        "...\n",
        "%YAML 9.9\n---\n",
        "# ",
        ": ",
        "\n",
        "'",
        '"',
        "{a: &b [*b]}",
        "~",
        f"{TRAP}:Trap",
        "null: 1\n",
        "1: 2\n",
    ),
)


def bomb(rng: random.Random) -> str:
    depth, width = rng.randint(5, 12), rng.randint(5, 12)
    first, level = rng.choice((("[x, x]", "[%s]"), ("{x: 1}", "{<<: [%s]}"), ("text", "[%s]")))
    names = [f"n{number}" for number in range(depth)]
    lines = [f"n0: &n0 {first}"]
    for one, other in pairwise(names):
        lines.append(f"{other}: &{other} " + level % ", ".join([f"*{one}"] * width))
    return "\n".join(lines)


def hostile_yaml(rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return bomb(rng).encode()
    if kind == 1:
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12))).encode("utf-8", "surrogatepass")
    if kind == 2:
        return rng.choice(CHANGES)(CONFIG.encode(), rng)
    if kind == 3:
        return rng.choice((b"a" * (3 << 20), b"- " * 500_000, b"a: 1\n" * 200_000, b"x: '" + b"y" * 900_000 + b"'"))
    lines = CONFIG.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(lines))
        column = rng.randrange(len(lines[place]) + 1)
        lines[place] = lines[place][:column] + rng.choice(PIECES) + lines[place][column:]
    return "".join(lines).encode("utf-8", "surrogatepass")


def judge_yaml(place: Place, rng: random.Random) -> tuple[str, str, str]:
    """Read hostile YAML with one of the commands that read it."""
    content = hostile_yaml(rng)
    (place.folder / "hostile.yaml").write_bytes(content)
    how = rng.randrange(3)
    if how == 0:
        text = content[:100_000].decode("utf-8", "replace").replace("\0", " ")
        arguments: list[object] = ["cost", "fuzz.yaml", "--set", f"space={text}"]
    else:
        arguments = ["cost", "hostile.yaml"] if how == 1 else ["run", "hostile.yaml", "--out", "fuzz.yaml", "--quiet"]
    return _judged(place, arguments, f"YAML {content[:60]!r}")


def judge_json(place: Place, rng: random.Random) -> tuple[str, str, str]:
    """Read a hostile architecture."""
    good = {"d0": 0, "d1": 1, "d2": 2}
    content = rng.choice(
        (
            lambda: json.dumps(corrupt(good, rng)).encode(),
            lambda: json.dumps(corrupt({"status": "complete", "architecture": good}, rng)).encode(),
            lambda: rng.choice(CHANGES)(json.dumps(good).encode(), rng),
        )
    )()
    (place.folder / "architecture.json").write_bytes(content)
    return _judged(place, ["cost", "fuzz.yaml", "--architecture", "@architecture.json"], f"JSON {content[:60]!r}")


# --- configurations ---------------------------------------------------------------------------------------------------


def judge_configuration(place: Place, rng: random.Random) -> tuple[str, str, str]:
    """Change settings of a valid configuration, those of random components by their schemas."""
    import yaml

    from automl_nas.run.configuration.builtin import complete_manager

    config = yaml.safe_load(CONFIG)
    registry = complete_manager().registry
    kind, path = rng.choice(
        (
            ("strategies", "strategy"),
            ("evaluators", "evaluator"),
            ("executors", ""),
            ("observers", ""),
            ("cost_models", ""),
        )
    )
    component = registry.get(kind, rng.choice(sorted(registry.names(kind))))
    spec: dict[str, Any] = {"name": component.name}
    for setting in component.signature().settings:
        if rng.random() < 0.5 or setting.required:
            spec[setting.name] = rng.choice((*JUNK, setting.default if not setting.required else 1, 1, 2, 0.5))
    if kind in ("strategies", "evaluators"):
        config["stages"][0][path] = spec
    elif kind == "executors":
        config["executor"] = spec
    elif kind == "observers":
        config["observers"] = [spec]
    else:
        config["problem"]["costs"] = [spec]
    if rng.random() < 0.4:
        config = corrupt(config, rng)
    text = json.dumps(config)
    (place.folder / "hostile.yaml").write_text(text)
    return _judged(place, ["cost", "hostile.yaml"], f"configuration {text[:200]}")


# --- npz --------------------------------------------------------------------------------------------------------------


def header(shape: object, kind: object, version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


def hostile_npz(place: Place, rng: random.Random) -> bytes:
    arrays: dict[str, Any] = {
        "train_images": np.zeros((40, 4, 4, 1), np.uint8),
        "train_labels": np.arange(40) % 4,
        "test_images": np.zeros((12, 4, 4, 1), np.uint8),
        "test_labels": np.arange(12) % 4,
    }
    members = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        members[f"{name}.npy"] = buffer.getvalue()
    victim = rng.choice(list(members))
    number = rng.choice((0, -1, 1, 7, 40, 2**31, 2**40, 2**63, 10**30))
    kinds = (
        "|u1",
        "<i8",
        "<f4",
        "|O",
        "|b1",
        "<m8[s]",
        "<U9",
        "|V5",
        "<c8",
        "[('a','<i4')]",
        f"__import__('{TRAP}')",
        7,
    )
    contents = (
        lambda: header((number, 4, 4, 1), rng.choice(kinds)) + bytes(rng.choice((0, 640, 7))),
        lambda: (
            header(rng.choice(((40,), (40, 1), (), (number,), "(40, [1])", "(10**9,) * 9")), rng.choice(kinds))
            + bytes(320)
        ),
        lambda: rng.choice(CHANGES)(members[victim], rng),
        lambda: pickle.dumps(place.payload()),
        lambda: _saved(np.array([place.payload()] * 40, dtype=object)),
        lambda: _saved(rng.choice((np.full(40, np.nan), np.full(40, 2**63, np.uint64), np.zeros((40, 0)), np.eye(40)))),
        lambda: header((70_000_000,), "|u1") + bytes(70_000_000) if rng.random() < 0.2 else b"",
    )
    members[victim] = rng.choice(contents)()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return rng.choice(CHANGES)(buffer.getvalue(), rng) if rng.random() < 0.3 else buffer.getvalue()


def judge_npz(place: Place, rng: random.Random) -> tuple[str, str, str]:
    """Load hostile data."""
    content = hostile_npz(place, rng)
    (place.folder / "hostile.npz").write_bytes(content)
    task = "task={name: npz, path: hostile.npz, augment: none}"
    settings = ["--set", task, "--set", "space.num_classes=4", "--set", "space.input_shape=[1, 4, 4]"]
    return _judged(place, ["cost", "fuzz.yaml", *settings], f"npz {len(content)} bytes")


def _saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


# --- ONNX -------------------------------------------------------------------------------------------------------------


def hostile_onnx(rng: random.Random) -> bytes:
    names = ["x", "w", "v", "y", "z", "s", ""]
    operators = (
        "Conv",
        "Gemm",
        "MatMul",
        "Reshape",
        "Shape",
        "Concat",
        "Einsum",
        "LSTM",
        "ReduceMean",
        "Expand",
        "Tile",
        "If",
    )
    operators += (
        "MaxPool",
        "Relu",
        "Constant",
        "ConstantOfShape",
        "Range",
        "Slice",
        "Identity",
        "Pad",
        "Resize",
        "Loop",
    )
    size = rng.choice((1, 3, 8, 0, -1, 2**31, 2**62))
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    for number in range(rng.randint(0, 4)):
        inputs = rng.choices([*names, *(f"o{earlier}" for earlier in range(number))], k=rng.randint(0, 3))
        attributes: dict[str, Any] = rng.choice(
            (
                {},
                {"axis": 0},
                {"axis": -9},
                {"group": 0},
                {"kernel_shape": [size] * 2},
                {"equation": "ab,bc->"},
                {"to": 99},
            )
        )
        nodes.append(helper.make_node(rng.choice(operators), inputs, [f"o{number}"], **attributes))
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 3, 3], [0.0] * 108),
        TensorProto(
            name="v", data_type=rng.choice((1, 6, 7, 9, 99)), dims=[size, rng.choice((1, 2**32))], raw_data=b"12345678"
        ),
        helper.make_tensor("s", TensorProto.INT64, [2], [size, 3]),
    ]
    rng.shuffle(nodes if rng.random() < 0.3 else [])
    shape = rng.choice(([1, 3, 8, 8], [1, 3, size, 8], ["n", 3, 8, 8], [], [size]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", rng.choice((1, 7)), shape)],
        [helper.make_tensor_value_info(rng.choice(["y", "o0", "nothing"]), 1, None)],
        weights,
    )
    opset = rng.choice((20, 20, 20, 7, 0, -1, 10**6))
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    content: bytes = model.SerializeToString()
    return rng.choice(CHANGES)(content, rng) if rng.random() < 0.4 else content


def judge_onnx(place: Place, rng: random.Random) -> tuple[str, str, str]:
    """Count a hostile network."""
    content = hostile_onnx(rng)
    (place.folder / "hostile.onnx").write_bytes(content)
    return _judged(place, ["cost", "hostile.onnx"], f"ONNX {len(content)} bytes")


# --- environment and arguments --------------------------------------------------------------------------------------

VARIABLES = (
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT", "AUTOML_NAS_PLUGINS", "AUTOML_NAS_DISABLED_PLUGINS"),
    *(
        "AUTOML_NAS_STRICT",
        "AUTOML_NAS_STRICT_PLUGINS",
        "XDG_CACHE_HOME",
        "HOME",
        "COLUMNS",
        "TERM",
        "PYTHONWARNINGS",
        "TORCH_LOGS",
        "NO_COLOR",
    ),
)
TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "1",
    "junk",
    "9" * 5000,
    "1.5",
    "/nowhere",
    "/dev/null",
    "\x1b[2J",
    "é",
    "a,b,,",
    f"{TRAP}:Trap",
    "~x",
)


def judge_environment(place: Place, rng: random.Random) -> tuple[str, str, str]:
    """Set environment variables, and name paths, as no shell would by itself."""
    environment = {name: rng.choice(TEXTS) for name in rng.sample(VARIABLES, rng.randint(1, 4))}
    strange = rng.choice((*TEXTS, "a" * 300, "x/" * 2000, ".", "..", "fuzz.yaml", "original"))
    arguments = rng.choice(
        (
            ["cost", "fuzz.yaml"],
            ["show", "original"],
            ["show", strange],
            ["cost", strange or "fuzz.yaml"],
            ["cost", f"{strange}.onnx"],
            ["run", strange, "--out", "fuzz.yaml"],
            ["resume", strange],
            ["export", strange],
            ["run", "fuzz.yaml", "--out", f"{strange}/fuzz.yaml", "--set", "seed=-1"],
            ["plugins", strange],
            ["cost", "fuzz.yaml", "--set", f"{strange}=1"],
            ["cost", "fuzz.yaml", "--set", f"task={{name: npz, path: '{strange}'}}"],
            ["cost", "fuzz.yaml", "--architecture", f"@{strange}"],
        )
    )
    return _judged(place, arguments, f"{environment} {[text[:40] for text in arguments]}", environment)


def _judged(
    place: Place, arguments: list[Any], done: str, environment: dict[str, str] | None = None
) -> tuple[str, str, str]:
    answer = call(place, arguments, environment)
    if answer.fault:
        return done, answer.fault, answer.detail
    if answer.code not in (0, 1, 2) or (answer.code and not answer.errors.strip()):
        return done, "wrong answer", f"exit code {answer.code}: {answer.errors}"
    return done, "answered" if answer.code == 0 else "named error", ""


FILES: dict[str, Callable[[Place, random.Random], tuple[str, str, str]]] = {
    "yaml": judge_yaml,
    "json": judge_json,
    "configuration": judge_configuration,
    "npz": judge_npz,
    "onnx": judge_onnx,
    "environment": judge_environment,
}
"""Kind of input -> the function that makes and judges one."""
