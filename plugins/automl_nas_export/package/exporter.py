"""The exporter `package`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import final

import onnx
import torch

import automl_nas
from automl_nas.errors import RunFailedError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas_export.int8 import INT8, SAMPLES, Deployed, check_settings, write_int8
from automl_nas_export.onnx_format import DATA, OLDEST_OPSET, OnnxExporter
from automl_nas_export.package.card import TEMPLATES, card, costs
from automl_nas_export.package.checks import INT8_TOLERANCE, SOURCE, check_infer, check_source, check_torch
from automl_nas_export.package.interface import Interface
from automl_nas_export.package.layers import NoSourceError
from automl_nas_export.package.source import network_source
from automl_nas_export.pt2 import Pt2Exporter
from automl_nas_export.quiet import quiet_tracing
from automl_nas_export.safetensors_format import DESCRIPTION, WEIGHTS, SafetensorsExporter
from automl_nas_export.sizes import free_shapes
from automl_nas_export.staging import staging
from automl_nas_export.verify import run_network

FOLDER = "package"

FILES = {
    "README.md": "this page",
    "infer.py": "predictions for files; needs onnxruntime, numpy and Pillow",
    "model.onnx": "the network for ONNX Runtime",
    DATA: "its weights",
    INT8: "the same with weights and activations of 8 bits, see below: `infer.py --int8`",
    "model.pt2": "the network as a torch.export program",
    WEIGHTS: "the weights of the network",
    SOURCE: "the network as Python source of PyTorch",
    "preprocessing.json": "how inputs are computed, and what outputs mean",
    DESCRIPTION: "the architecture and its description",
    "package.json": "all of this page for programs, with the SHA-256 of every file",
}
"""The files of a package and what they are."""

PT2_TOLERANCE = 1e-5


@final
class PackageExporter(Exporter):
    """Write the folder ``package``: all that another team needs to use the network, without this framework.

    It contains the network as ``model.onnx``, ``model.pt2``, ``model.safetensors`` and, where that is possible, as
    Python source (``network.py``); ``preprocessing.json``, which is also in the metadata of ``model.onnx``;
    ``infer.py``, which makes predictions for files with onnxruntime, numpy and Pillow; and a model card, ``README.md``.

    Source, program and ``infer.py`` are run in processes that cannot import this framework, and compared with the
    network on inputs of the test split. In a rehearsal of several networks, the first one is checked in this way; of
    the others, what depends on the network is compared in this process.

    Args:
        normalization: whether ``model.onnx`` normalises, so that its inputs are pixels from 0 to 255; images only.
        softmax: whether the outputs of ``model.onnx`` are probabilities (classes: softmax, labels: sigmoid) instead of
            logits.
        dynamic_size: whether ``model.onnx`` and ``model.pt2`` accept images of any height and width, where the network
            does; ``infer.py --size HEIGHT WIDTH`` then uses another size than that of the training.
        int8: whether ``model.int8.onnx`` is written, too: the network with weights and activations of 8 bits, for
            ``infer.py --int8``. Accuracy, size and latency before and after are in the model card.
        int8_samples: the number of training inputs from which the ranges of its activations are measured.
        opset: see `OnnxExporter`.
        tolerance: of outputs in ONNX Runtime; see `OnnxExporter`.
        licence: of the weights, a sentence for the model card; empty: the card says that none was stated.

    Raises:
        ConfigurationError: an opset that cannot be written, or a tolerance out of range.
    """

    def __init__(
        self,
        *,
        normalization: bool = False,
        softmax: bool = False,
        dynamic_size: bool = False,
        int8: bool = False,
        int8_samples: int = SAMPLES,
        opset: int = OLDEST_OPSET,
        tolerance: float = 1e-4,
        licence: str = "",
    ) -> None:
        self._normalization, self._softmax, self._licence = normalization, softmax, licence
        self._tolerance = tolerance
        check_settings(int8, int8_samples)
        self._dynamic_size, self._int8_samples = dynamic_size, int8_samples if int8 else 0
        self._onnx = OnnxExporter(opset=opset, tolerance=tolerance, dynamic_size=dynamic_size)
        self._rehearsed: list[Interface] = []

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write and check the package; see `PackageExporter`.

        Args:
            delivery: the network with its description.
            folder: an existing folder. A package in it is replaced as a whole.

        Returns:
            The files of the package.

        Raises:
            RunFailedError: a format cannot hold the network, an option does not fit the task, a file does not compute
                what the network computes, or the existing folder contains files of others.
        """
        target = folder / FOLDER
        _check_replaceable(target)
        network, shape = delivery.network, delivery.input_shape
        x, _ = run_network(network, shape, 1, delivery.samples)
        interface = Interface.of(
            delivery,
            x.dtype,
            normalization=self._normalization,
            softmax=self._softmax,
            dynamic_size=self._dynamic_size,
        )
        inputs = delivery.held_out
        inputs = run_network(network, shape, 3, delivery.samples)[0] if inputs is None else inputs.to(x.dtype)
        with staging(folder) as stage:
            written = stage / FOLDER
            written.mkdir()
            with quiet_tracing():
                reason = self._write_network(delivery, interface, written)
                sizes = [shape]
                if self._dynamic_size:
                    sizes += free_shapes(network, shape, inputs)[1:]
                batches = [run_network(network, size, len(inputs), inputs)[0] for size in sizes]
                if delivery.rehearsal and interface in self._rehearsed:
                    # Program and ONNX model were compared when they were written; how infer.py reads a file, and what
                    # the processes can import, does not depend on the network.
                    checks = [] if reason else [check_source(written, network, batches, PT2_TOLERANCE)]
                else:
                    checks = check_torch(written, network, batches, PT2_TOLERANCE)
                    files = delivery.held_out_files
                    checks.append(check_infer(written, network, interface, inputs, self._tolerance, files))
                    if self._int8_samples:
                        checks.append(check_infer(written, None, interface, inputs, INT8_TOLERANCE, files))
                    if delivery.rehearsal:
                        self._rehearsed.append(interface)
            if reason is not None:
                delivery.notes.append(f"the package has no network.py: {reason}")
            self._describe(delivery, interface, written, reason, checks)
            check_no_places(written, stage)
            return _put_in_place(written, target, stage)

    def _write_network(self, delivery: Delivery, interface: Interface, folder: Path) -> str | None:
        """Write the network in all forms; return why there is no source, None if there is."""
        SafetensorsExporter().export(delivery, folder)
        Pt2Exporter(tolerance=PT2_TOLERANCE, dynamic_size=self._dynamic_size).export(delivery, folder)
        samples = delivery.samples
        if samples is None and interface.normalization:
            samples = delivery.held_out
        if samples is not None and interface.normalization:
            samples = interface.levels(samples).to(samples.dtype)
        deployed = replace(delivery, network=interface.deployed(delivery.network), samples=samples)
        self._onnx.export(deployed, folder)
        content = json.dumps(interface.to_json(), indent=2, ensure_ascii=False) + "\n"
        (folder / "preprocessing.json").write_text(content, encoding="utf-8")
        if self._int8_samples:
            write_int8(delivery, folder, self._int8_samples, Deployed(interface.of_network, interface.to_network))
        for name in ("model.onnx", INT8):
            if (folder / name).exists():
                _add_metadata(folder / name, {"preprocessing": json.dumps(interface.to_json())})
        shutil.copyfile(TEMPLATES / "infer.py", folder / "infer.py")
        rule = interface.network_input
        try:
            source = network_source(
                delivery.network,
                "A trained network.",
                f"{rule['dtype']}, (batch, {', '.join(map(str, rule['shape']))})",
            )
        except NoSourceError as error:
            return str(error)
        (folder / SOURCE).write_text(source, encoding="utf-8")
        return None

    def _describe(
        self, delivery: Delivery, interface: Interface, folder: Path, reason: str | None, checks: Sequence[str]
    ) -> None:
        """Write the model card and ``package.json``."""
        names = {name: what for name, what in FILES.items() if (folder / name).exists()}
        names |= {name: FILES[name] for name in ("README.md", "package.json")}
        names = {name: names[name] for name in FILES if name in names}
        text = card(delivery, interface, names, reason, checks, self._licence)
        (folder / "README.md").write_text(text, encoding="utf-8")
        content = {
            "format": 1,
            "architecture": delivery.architecture.to_dict(),
            "interface": interface.to_json(),
            "description": dict(delivery.description),
            "costs": costs(delivery.description),
            "source": {"file": None if reason else SOURCE, "reason": reason},
            "checks": list(checks),
            "conversions": [each.to_json() for each in delivery.conversions],
            "licence": self._licence or None,
            "files": {
                path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                for path in sorted(folder.iterdir())
            },
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / "package.json").write_text(text, encoding="utf-8")


def _add_metadata(file: Path, properties: dict[str, str]) -> None:
    model = onnx.load(file, load_external_data=False)
    present = {item.key: item.value for item in model.metadata_props}
    onnx.helper.set_model_props(model, present | properties)
    file.write_bytes(model.SerializeToString())


def check_no_places(folder: Path, stage: Path) -> None:
    """Raise an error if a file contains a path or the name of this machine.

    Args:
        folder: of the package.
        stage: the temporary folder that it is in.

    Raises:
        RunFailedError: a file does; names the file and the string.
    """
    places = {sys.prefix, str(stage), str(stage.parent)}
    with suppress(RuntimeError):  # a user without a home folder, as in a container
        places.add(str(Path.home()))
    with suppress(FileNotFoundError):  # the working directory was removed
        places.add(str(Path.cwd()))
    places |= {str(Path(package.__file__ or "").parents[1]) for package in (automl_nas, torch)}
    strings = {place for place in places if len(Path(place).parts) > 2} | {socket.gethostname()} - {"localhost", ""}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for text in strings:
            if len(text) > 4 and text.encode() in content:
                raise RunFailedError(f"{path.name} contains {text}, which concerns this machine only")


def _check_replaceable(target: Path) -> None:
    """Raise an error if a folder is not a package that may be replaced."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise RunFailedError(f"{target} exists and is not a folder; move it, or export to another folder")
    others = sorted(path.name for path in target.iterdir() if path.name not in {*FILES, "__pycache__"})
    if others:
        raise RunFailedError(
            f"{target} contains {', '.join(others[:3])}, which are not files of a package; move the folder, or "
            "export to another one"
        )


def _put_in_place(written: Path, target: Path, stage: Path) -> list[Path]:
    """Give a complete package its name, in place of an older one, and return its files.

    The bytes are on the disk before the name is. If renaming fails, the older package gets its name back.
    """
    for path in written.iterdir():
        with path.open("rb+") as content:
            os.fsync(content.fileno())
    if not target.exists():
        written.replace(target)
    else:
        target.replace(stage / "previous")
        try:
            written.replace(target)
        except OSError:
            (stage / "previous").replace(target)
            raise
    return [target / name for name in FILES if (target / name).exists()]
