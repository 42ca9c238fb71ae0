"""Exporters that break their contract."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automl_nas.evaluation import Delivery, Exporter
from automl_nas.testing import Contract, ExporterContract
from automl_nas.testing.exporters import fresh_network
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(ExporterContract):
        def make(self) -> Exporter:
            made: Exporter = component()
            return made

        def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor]:
            network = fresh_network().eval()
            network.load_state_dict(torch.load(paths[0], weights_only=True))
            return network

    return Subject


CASES = Cases("exporters", contract)


@CASES.keeps
class Weights(Exporter):
    """Writes the weights; keeps the contract."""

    def state(self, delivery: Delivery) -> Any:
        return delivery.network.state_dict()

    def name(self) -> str:
        return "weights.pt"

    def write(self, state: Any, file: Path) -> None:
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        os.close(handle)
        try:
            torch.save(state, temporary)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink()
            raise

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        file = folder / self.name()
        self.write(self.state(delivery), file)
        return [file]


@CASES.breaks("another_process_gives_the_same")
class NameByHash(Weights):
    def name(self) -> str:
        return f"weights-{hash('network') % 10_000}.pt"


@CASES.breaks("the_global_generators_are_left_alone")
class TracesWithNoise(Weights):
    def state(self, delivery: Delivery) -> Any:
        delivery.network(torch.randn(1, *delivery.input_shape))
        return super().state(delivery)


@CASES.breaks("global_settings_are_left_alone")
class DisablesGradients(Weights):
    def state(self, delivery: Delivery) -> Any:
        torch.set_grad_enabled(False)
        return super().state(delivery)


@CASES.breaks("nothing_is_printed")
class PrintsThePath(Weights):
    def write(self, state: Any, file: Path) -> None:
        super().write(state, file)
        print("wrote", file)


@CASES.breaks("no_file_is_written_elsewhere")
class WritesALog(Weights):
    def write(self, state: Any, file: Path) -> None:
        super().write(state, file)
        Path("export.log").write_text("done")


@CASES.breaks("no_file_is_written_elsewhere")
class LeavesTemporaryFiles(Weights):
    def write(self, state: Any, file: Path) -> None:
        torch.save(state, Path(tempfile.mkdtemp()) / "weights.pt")
        super().write(state, file)


@CASES.breaks("the_files_compute_the_outputs_of_the_network")
class RoundsWeights(Weights):
    def state(self, delivery: Delivery) -> Any:
        return {name: value.half().to(value.dtype) for name, value in super().state(delivery).items()}


@CASES.breaks("the_files_compute_the_outputs_of_the_network")
class FreshWeights(Weights):
    def state(self, delivery: Delivery) -> Any:
        with torch.random.fork_rng(devices=[]):
            return fresh_network().state_dict()


@CASES.breaks("the_returned_paths_are_the_files")
class ReturnsText(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        return [str(path) for path in super().export(delivery, folder)]  # type: ignore[misc]


@CASES.breaks("the_returned_paths_are_the_files")
class ReturnsAMissingFile(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        return [*super().export(delivery, folder), folder / "readme.md"]


@CASES.breaks("the_returned_paths_are_the_files")
class ReturnsTwice(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        return [*super().export(delivery, folder)] * 2


@CASES.breaks("the_returned_paths_are_the_files")
class WritesMore(Weights):
    def write(self, state: Any, file: Path) -> None:
        super().write(state, file)
        (file.parent / "extra.txt").write_text("x")


@CASES.breaks("the_returned_paths_are_the_files")
class WritesAnEmptyFile(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        (folder / "empty.txt").touch()
        return [*super().export(delivery, folder), folder / "empty.txt"]


@CASES.breaks("the_returned_paths_are_the_files")
class WritesBesideTheFolder(Weights):
    def name(self) -> str:
        return "../weights.pt"


@CASES.breaks("the_returned_paths_are_the_files")
class ClearsTheFolder(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        for path in folder.iterdir():
            path.unlink()
        return super().export(delivery, folder)


@CASES.breaks("the_returned_paths_are_the_files")
class SplitsPathsAtSpaces(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        return super().export(delivery, Path(str(folder).split()[0]))


@CASES.breaks("the_delivery_is_not_changed")
class LeavesTrainingMode(Weights):
    def state(self, delivery: Delivery) -> Any:
        delivery.network.train()
        return super().state(delivery)


@CASES.breaks("the_delivery_is_not_changed")
class ConvertsInPlace(Weights):
    def state(self, delivery: Delivery) -> Any:
        state = copy.deepcopy(super().state(delivery))
        delivery.network.half()
        return state


@CASES.breaks("the_delivery_is_not_changed")
class FreezesParameters(Weights):
    def state(self, delivery: Delivery) -> Any:
        delivery.network.requires_grad_(False)
        return super().state(delivery)


@CASES.breaks("the_delivery_is_not_changed")
class LeavesAHook(Weights):
    def state(self, delivery: Delivery) -> Any:
        delivery.network.register_forward_hook(lambda *_: None)
        return super().state(delivery)


@CASES.breaks("the_delivery_is_not_changed")
class ChangesTheDescription(Weights):
    def state(self, delivery: Delivery) -> Any:
        delivery.description["format"] = "pt"  # type: ignore[index]
        return super().state(delivery)


@CASES.breaks("a_second_export_replaces_the_first")
class KeepsTheFirst(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        file = folder / self.name()
        return [file] if file.exists() else super().export(delivery, folder)


@CASES.breaks("a_second_export_replaces_the_first")
class NumbersFiles(Weights):
    count = 0

    def name(self) -> str:
        self.count += 1
        return f"weights-{self.count}.pt"


@CASES.breaks("a_rehearsal_is_an_export")
class SkipsRehearsals(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        return [] if delivery.rehearsal else super().export(replace(delivery), folder)


@CASES.breaks("a_failed_export_leaves_no_files")
class WritesInPlace(Weights):
    def write(self, state: Any, file: Path) -> None:
        torch.save(state, file)


@CASES.breaks("a_failed_export_leaves_no_files")
class LeavesPartsBehind(Weights):
    def write(self, state: Any, file: Path) -> None:
        torch.save(state, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)


@CASES.breaks("the_returned_paths_are_the_files")
class WritesALink(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        (file,) = super().export(delivery, folder)
        (folder / "link.pt").symlink_to(file)
        return [file, folder / "link.pt"]


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("conversions_are_of_files_that_were_written")
class ConversionOfAMissingFile(Weights):
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        from automl_nas.evaluation import Conversion

        delivery.conversions.append(Conversion("weights-int8.pt", "weights.pt", "int8", ()))
        return super().export(delivery, folder)


@CASES.breaks("a_disk_that_is_full_leaves_no_files")
class CleansUpAfterRenamingOnly(Weights):
    """A disk that is full while the file is written leaves the temporary file behind."""

    def write(self, state: Any, file: Path) -> None:
        temporary = file.with_suffix(".part")
        torch.save(state, temporary)
        try:
            temporary.replace(file)
        except BaseException:
            temporary.unlink()
            raise


@CASES.breaks("a_second_export_replaces_the_first")
class KeepsTheFirstNetwork(Weights):
    """One instance exports the weights of the first network to every folder."""

    kept: Any = None

    def state(self, delivery: Delivery) -> Any:
        if self.kept is None or self.kept[0] != delivery.architecture.key:
            self.kept = delivery.architecture.key, copy.deepcopy(super().state(delivery))
        return self.kept[1]
