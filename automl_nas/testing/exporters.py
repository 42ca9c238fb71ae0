"""Contract tests of exporters: `ExporterContract`."""

from __future__ import annotations

import copy
import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from automl_nas.evaluation.exporter import Conversion, Delivery, Exporter
from automl_nas.space.architecture import Architecture
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.handed import fingerprint


class ExporterContract(Contract):
    """The tests of an `Exporter`. Derive a class, implement `make` and `load`, and run pytest::

        class TestMyExporter(ExporterContract):
            def make(self): return MyExporter()
            def load(self, paths, delivery): return my_format.read(paths[0])

    Attributes:
        tolerance: the largest difference between outputs of the network and of the files, as a fraction of the largest
            output; 0: they must be equal.
        size_limit: the largest number of bytes of all files, of a network with 3 KB of weights.
    """

    tolerance: float = 0.0
    size_limit: ClassVar[int] = 20_000_000
    other_dtype: ClassVar[bool] = False

    @abstractmethod
    def make(self) -> Exporter:
        """Return the exporter with default settings."""

    def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor] | None:
        """Return the function that the files compute; None (default): they hold no function, so none is compared.

        Use only the files, and `fresh_network` if they hold weights.

        Args:
            paths: the result of `Exporter.export`.
            delivery: the delivery, for its architecture and input shape; do not use its network.
        """
        return None

    def delivery(self) -> Delivery:
        """Return the delivery to export (default: a small convolutional network with BN statistics from data)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = fresh_network()
            for _ in range(3):
                network(2.0 * torch.randn(8, 3, 8, 8) + 0.5)
        return Delivery(network.eval(), Architecture({"width": 8}), (3, 8, 8), {"accuracy": 0.5})

    def use(self, store: Path) -> Mapping[str, Any]:
        """Export a network into the folder."""
        paths = self.make().export(self.delivery(), store)
        return {"files": sorted(str(Path(path).relative_to(store)) for path in paths)}

    def test_the_files_compute_the_outputs_of_the_network(self) -> None:
        """The files compute the same function for all batch sizes.

        Way out: compare the file that was read back with `Delivery.network` before returning; export with a batch axis
        of any size.
        """
        folder, delivery = self.folder(), self.delivery()
        loaded = self.load(self.make().export(delivery, folder), delivery)
        generator = torch.Generator().manual_seed(2)
        for batch in (1, 2, 5):
            self._require_same(delivery, loaded, torch.randn((batch, *delivery.input_shape), generator=generator))

    def test_the_returned_paths_are_the_files(self) -> None:
        """The returned paths are files in the folder, each once and not empty, and there are no others.

        Way out: return `[folder / "network.ext"]` for every file that was written; remove temporary files.
        """
        folder = self.folder() / "a folder with spaces"
        folder.mkdir()
        other = folder / "another file.txt"
        other.write_text("unchanged")
        paths = self.make().export(self.delivery(), folder)
        require(isinstance(paths, Sequence) and not isinstance(paths, str) and paths, f"export returns {paths!r}")
        for path in paths:
            require(isinstance(path, Path), f"export returns a {type(path).__name__}, not a Path")
            require(path.is_relative_to(folder), f"{path} is not in the folder")
            require(path.is_file() and not path.is_symlink(), f"{path.name} is not a file that exists")
            require(path.stat().st_size > 0, f"{path.name} is empty")
        require(len(set(paths)) == len(paths), "a path is returned twice")
        present = {path for path in folder.rglob("*") if path.is_file()}
        require(other in present and other.read_text() == "unchanged", "another file was removed or changed")
        require(present == {*paths, other}, f"not returned: {sorted(p.name for p in present - {*paths, other})}")
        size = sum(path.stat().st_size for path in paths)
        require(size <= self.size_limit, f"the files have {size:,} bytes, over {self.size_limit:,}")

    def test_the_delivery_is_not_changed(self) -> None:
        """Weights, modes, hooks, gradients and attributes of the network, and other fields, are the same afterwards.

        Way out: convert `copy.deepcopy(delivery.network)`.
        """
        delivery = self.delivery()
        before = _network(delivery.network), _rest(delivery)
        self.make().export(delivery, self.folder())
        require(_network(delivery.network) == before[0], "the network was changed")
        after = _rest(delivery)
        require(after == before[1], "a field of the delivery was changed")
        require(all(type(note) is str for note in delivery.notes), f"the notes are {delivery.notes}")

    def test_conversions_are_of_files_that_were_written(self) -> None:
        """What it appends to `Delivery.conversions` is a `Conversion` of one file that it returns to another.

        Way out: append a `Conversion` after both files are complete, with their names.
        """
        delivery = self.delivery()
        names = {path.name for path in self.make().export(delivery, self.folder())}
        for conversion in delivery.conversions:
            require(isinstance(conversion, Conversion), f"a conversion is a {type(conversion).__name__}")
            named = {conversion.file, conversion.source}
            require(named <= names, f"a conversion names {sorted(named - names)}; written are {sorted(names)}")

    def test_a_second_export_replaces_the_first(self) -> None:
        """The files of a second export, with other weights, have the same names and the new weights.

        Way out: overwrite files by `os.replace`; keep nothing of the first network in the instance.
        """
        folder, delivery = self.folder(), self.delivery()
        exporter = self.make()
        first = exporter.export(delivery, folder)
        x = torch.ones(1, *delivery.input_shape)
        with torch.no_grad():
            old = delivery.network(x)
            for parameter in delivery.network.parameters():
                parameter.mul_(1.5)
            assert not torch.allclose(delivery.network(x), old, rtol=0.1)
        second = exporter.export(delivery, folder)
        present = sorted(path for path in folder.rglob("*") if path.is_file())
        require(sorted(second) == sorted(first) == present, f"the second export wrote {[p.name for p in second]}")
        self._require_same(delivery, self.load(second, delivery), x)

    def test_a_rehearsal_is_an_export(self) -> None:
        """With `Delivery.rehearsal` the files are written into the folder, too.

        Way out: skip slow comparisons in a rehearsal, not the conversion, which may fail.
        """
        folder = self.folder()
        paths = self.make().export(replace(self.delivery(), rehearsal=True), folder)
        require(paths and all(path.is_file() for path in paths), "a rehearsal writes no files")

    def test_a_failed_export_leaves_no_files(self) -> None:
        """If a file cannot be renamed (e.g. on a full disk), export raises OSError and no part of it remains.

        Way out: write under a temporary name in the folder, `os.replace` it, and remove it in `except` if that fails.
        """
        folder, delivery = self.folder(), self.delivery()
        try:
            with _full_disk():
                self.make().export(delivery, folder)
        except OSError as error:
            require("No space left" in str(error), f"the error is {error!r}")
        else:
            raise AssertionError("export returns although its files cannot be renamed: it does not rename them")
        left = [path.name for path in folder.iterdir()]
        require(not left, f"{', '.join(left)} remain")

    def test_a_disk_that_is_full_leaves_no_files(self) -> None:
        """If a file cannot be written, export raises an error and no part of it remains.

        Way out: begin the `try` that removes the temporary file before the file is written.
        """
        folder, delivery = self.folder(), replace(self.delivery(), rehearsal=True)
        try:
            with _small_files():
                self.make().export(delivery, folder)
        except Exception:
            left = [path.name for path in folder.iterdir()]
            require(not left, f"{', '.join(left)} remain")

    def _require_same(self, delivery: Delivery, loaded: Callable[[Tensor], Tensor] | None, x: Tensor) -> None:
        if loaded is None:
            return
        with torch.no_grad():
            expected, outputs = delivery.network(x), loaded(x)
        require(outputs.shape == expected.shape, f"shape {tuple(outputs.shape)} instead of {tuple(expected.shape)}")
        difference, largest = (outputs - expected).abs().max(), expected.abs().max()
        require(difference <= self.tolerance * largest, f"outputs differ by {difference:.3g} of {largest:.3g}")


def _rest(delivery: Delivery) -> Any:
    """Return the fingerprint of all fields that an exporter only reads."""
    return fingerprint(replace(delivery, network=nn.Identity(), notes=[], conversions=[], shared={}))


def _network(network: nn.Module) -> Any:
    parts = [
        (name, type(part).__qualname__, sorted(vars(part)), part.training, len(part._forward_hooks))
        for name, part in network.named_modules()
    ]
    gradients = [(name, p.requires_grad, p.grad is None, p.dtype) for name, p in network.named_parameters()]
    return parts, gradients, fingerprint(copy.deepcopy(dict(network.state_dict())))


@contextmanager
def _full_disk() -> Iterator[None]:
    """Let both functions that give a complete file its final name fail."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = os.replace, os.rename
    os.replace = os.rename = full
    try:
        yield
    finally:
        os.replace, os.rename = before


@contextmanager
def _small_files() -> Iterator[None]:
    """Let files of this process end after 200 bytes, where the system can do that: writing more is an OSError."""
    if sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fresh_network() -> nn.Module:
    """Return the contract's network with fresh weights: convolutions (one depthwise), BN, dropout, a linear layer.

    The input has shape ``(batch, 3, 8, 8)``, the output ``(batch, 5)``.
    """
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, 5),
    )
