"""Running a written package in other processes, which cannot import this framework, and comparing it."""

from __future__ import annotations

import errno
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from automl_nas.errors import RunFailedError
from automl_nas_export.int8 import INT8, session_of
from automl_nas_export.package.interface import READABLE, Interface
from automl_nas_export.safetensors_format import WEIGHTS
from automl_nas_export.verify import flat

SOURCE = "network.py"
"""The file with the source of the network."""

INPUT_TOLERANCE = 1e-5
"""By how much an input that ``infer.py`` computes may differ from the task's, as a fraction of the largest one."""

INT8_TOLERANCE = 0.05
"""The same for probabilities of ``model.int8.onnx``: a rounding of an input may change a level of 8 bits."""

_BLOCK = """
import sys
from pathlib import Path

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith({blocked}):
            raise ModuleNotFoundError("blocked: " + name, name=name)

sys.path[:] = [p for p in sys.path if not (Path(p) / "automl_nas").is_dir()]
sys.meta_path.insert(0, Block())
folder, work, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, str(folder))
"""

_TORCH = """
import torch
from torch.utils._pytree import tree_leaves

torch.set_num_threads(threads)
batches = torch.load(work / "inputs.pt", weights_only=True)
outputs = {}
with torch.no_grad():
    if (folder / "network.py").exists():
        import network
        own = network.load(str(folder / "model.safetensors"))
        outputs["network.py"] = [tree_leaves(own(x)) for x in batches]
    program = torch.export.load(folder / "model.pt2").module()
    outputs["model.pt2"] = [tree_leaves(program(x)) for x in batches]
torch.save(outputs, work / "outputs.pt")
"""

_INFER = """
import json
import numpy
import infer

model = infer.Model(threads=threads, int8=len(sys.argv) > 4)
files = json.loads((work / "files.json").read_text())
inputs = numpy.concatenate([model.inputs(file) for file in files])
outputs = model.outputs(inputs)
numpy.savez(work / "infer.npz", inputs=inputs, probabilities=model.probabilities(outputs))
(work / "infer.json").write_text(json.dumps(model.predict(files)))
"""


def check_torch(folder: Path, network: nn.Module, batches: Sequence[Tensor], tolerance: float) -> list[str]:
    """Compare the source and the program of a package with the network.

    Args:
        folder: of the package.
        network: the original.
        batches: inputs of the network; images of one batch may have another height and width than those of another.
        tolerance: by how much an output may differ, as a fraction of the largest one.

    Returns:
        What was compared, a sentence each.

    Raises:
        RunFailedError: they cannot be run without this framework, or compute other values.
    """
    with _work() as work:
        torch.save([inputs.contiguous() for inputs in batches], work / "inputs.pt")
        _run(_TORCH, folder, work, ("automl_nas",))
        outputs: dict[str, list[list[Tensor]]] = torch.load(work / "outputs.pt", weights_only=True)
    return [_compared(name, computed, network, batches, tolerance) for name, computed in outputs.items()]


def check_source(folder: Path, network: nn.Module, batches: Sequence[Tensor], tolerance: float) -> str:
    """Compare the source of a package with the network in this process; see `check_torch`.

    Raises:
        RunFailedError: the source cannot be run, or computes other values.
    """
    try:
        own = runpy.run_path(str(folder / SOURCE))["load"](str(folder / WEIGHTS))
        with torch.no_grad():
            computed = [[tensor for _, tensor in flat(own(inputs))] for inputs in batches]
    except Exception as error:
        raise RunFailedError(f"{SOURCE} cannot be run: {type(error).__name__}: {error}") from error
    return _compared(SOURCE, computed, network, batches, tolerance)


def _compared(
    name: str,
    computed: Sequence[Sequence[Tensor]],
    network: nn.Module,
    batches: Sequence[Tensor],
    tolerance: float,
) -> str:
    """Compare outputs for batches with those of the network; return what was compared."""
    with torch.no_grad():
        expected = [[tensor for _, tensor in flat(network(inputs))] for inputs in batches]
    pairs = zip(expected, computed, strict=True)
    difference = max(_difference(name, reference, tensors, tolerance) for reference, tensors in pairs)
    others = ", ".join(f"{inputs.shape[2]} x {inputs.shape[3]}" for inputs in batches[1:])
    also = f" and as many images of {others}" if others else ""
    return f"`{name}` on {len(batches[0])} inputs{also}: outputs differ by at most {difference:.2g} of the largest one"


def check_infer(
    folder: Path,
    network: nn.Module | None,
    interface: Interface,
    inputs: Tensor,
    tolerance: float,
    files: Sequence[str] | None = None,
) -> str:
    """Compare ``infer.py`` with the network: the inputs that it computes from files, probabilities and classes.

    Args:
        folder: of the package.
        network: the original; None: ``model.int8.onnx`` of the package, in this process.
        interface: of the package.
        inputs: of the network, as the task computes them without augmentation.
        tolerance: by how much a probability or a number may differ, as a fraction of the largest one.
        files: the raw files of the inputs; None: images are computed back from the inputs.

    Returns:
        What was compared.

    Raises:
        RunFailedError: ``infer.py`` cannot be run without this framework and torch, or computes other values.
    """
    import numpy

    others: tuple[str, ...] = ()
    if network is None:
        name, others = "infer.py --int8", ("int8",)
        x = interface.of_network(inputs).numpy()
        (values, *_) = session_of(folder / INT8).run(None, {"input": x})
        output = interface.to_network(torch.from_numpy(values))
    else:
        name = "infer.py"
        with torch.no_grad():
            output = next(tensor for _, tensor in flat(network(inputs)))
    expected = interface.probabilities(output)
    with _work() as work:
        kind = f"{len(inputs)} files of the task"
        if files is None:
            kind, files = _write_files(work / "files", interface, inputs)
        (work / "files.json").write_text(json.dumps([str(Path(file).absolute()) for file in files]))
        _run(_INFER, folder, work, ("automl_nas", "torch", "onnx."), others)
        results = numpy.load(work / "infer.npz", allow_pickle=False)
        predictions = json.loads((work / "infer.json").read_text(encoding="utf-8"))
        computed, chances = torch.from_numpy(results["inputs"]), torch.from_numpy(results["probabilities"])
    reached = _difference(
        "the inputs that infer.py computes", [interface.deployed_inputs(inputs)], [computed], INPUT_TOLERANCE
    )
    difference = _difference(name, [expected], [chances], tolerance)
    text = (
        f"`{name}` on {kind}: inputs differ from those of the task by at most {reached:.2g}, and "
        f"probabilities or numbers by at most {difference:.2g} of the largest one"
    )
    if interface.output["kind"] != "classes" or expected.ndim != 2:
        return text
    classes = interface.output["class_names"] or [str(number) for number in range(expected.shape[1])]
    top = expected.topk(min(2, expected.shape[1])).values
    clear = top[:, 0] - top[:, -1] > 2 * tolerance
    for row, prediction in enumerate(predictions):
        if clear[row] and prediction["class"] != classes[int(expected[row].argmax())]:
            raise RunFailedError(
                f"{name} predicts {prediction['class']!r} for input {row}, the network "
                f"{classes[int(expected[row].argmax())]!r}"
            )
    return f"{text}; the classes are those of the {'network' if network else 'quantised network'}"


def _write_files(folder: Path, interface: Interface, inputs: Tensor) -> tuple[str, list[str]]:
    """Write inputs as files that ``infer.py`` reads: images as PNG, all others as one array; say what they are."""
    import numpy
    from PIL import Image

    folder.mkdir()
    rule = interface.network_input
    if rule["kind"] == "image" and rule["channels"] in READABLE:
        for number, pixels in enumerate(interface.pixels(inputs).to(torch.uint8).permute(0, 2, 3, 1).numpy()):
            image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            image.save(folder / f"{number:06}.png")
        return f"{len(inputs)} images, read from PNG files", sorted(map(str, folder.iterdir()))
    numpy.save(folder / "inputs.npy", interface.deployed_inputs(inputs).numpy())
    return f"{len(inputs)} inputs, read from an array", [str(folder / "inputs.npy")]


@contextmanager
def _work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="automl_nas-package-") as name:
        yield Path(name)


def _run(script: str, folder: Path, work: Path, blocked: tuple[str, ...], others: Sequence[str] = ()) -> None:
    """Run a script in a process that cannot import some packages.

    Raises:
        RunFailedError: it failed; the message has its last line.
        OSError: its disk is full.
    """
    text = _BLOCK.replace("{blocked}", repr(blocked)) + script
    command = [sys.executable, "-B", "-W", "ignore", "-c", text, str(folder.resolve()), str(work)]
    command += [str(torch.get_num_threads()), *others]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        if os.strerror(errno.ENOSPC) in result.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work))
        raise RunFailedError(f"the package cannot be used without this framework: {lines[-1]}")


def _difference(name: str, expected: Sequence[Tensor], outputs: Sequence[Tensor], tolerance: float) -> float:
    """Return the largest difference as a fraction of the largest magnitude.

    Raises:
        RunFailedError: it is above the tolerance, or the shapes differ.
    """
    if len(expected) != len(outputs):
        raise RunFailedError(f"{name}: {len(outputs)} outputs instead of {len(expected)}")
    largest = 0.0
    for reference, output in zip(expected, outputs, strict=True):
        if reference.shape != output.shape:
            raise RunFailedError(f"{name}: shape {tuple(output.shape)} instead of {tuple(reference.shape)}")
        if not reference.numel():
            continue
        scale = float(reference.double().abs().max()) or 1.0
        difference = float((reference.double() - output.double()).abs().max()) / scale
        if not difference <= tolerance:  # also true for NaN
            raise RunFailedError(
                f"{name}: differs from the network by {difference:.2e} of its largest value (allowed {tolerance:.0e})"
            )
        largest = max(largest, difference)
    return largest
