"""Writing the delivered network in a format: `Exporter` and `Delivery`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.space.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automl_nas.evaluation.task import Predictor, TaskReport


@dataclass(frozen=True)
class ConversionValue:
    """What was measured of a file before and after a conversion.

    Attributes:
        name: of a metric or cost, such as ``accuracy`` or ``size``.
        unit: of the values; empty: they have none.
        before: of the original file.
        after: of the converted file.
        before_interval: 95 % interval of ``before``; None: unknown.
        after_interval: 95 % interval of ``after``; None: unknown.
    """

    name: str
    unit: str
    before: float
    after: float
    before_interval: tuple[float, float] | None = None
    after_interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; intervals that are unknown are left out."""
        data: dict[str, Any] = {"name": self.name, "unit": self.unit, "before": self.before, "after": self.after}
        for key in ("before_interval", "after_interval"):
            interval = getattr(self, key)
            if interval is not None:
                data[key] = list(interval)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ConversionValue:
        """Read what `to_json` returned."""
        intervals = {key: (data[key][0], data[key][1]) for key in ("before_interval", "after_interval") if key in data}
        return cls(data["name"], data["unit"], data["before"], data["after"], **intervals)


@dataclass(frozen=True)
class Conversion:
    """An exported file that computes other outputs than the network on purpose, such as one with int8 weights.

    Attributes:
        file: its name.
        source: the name of the file that it was made from.
        method: how it was made and measured, in words.
        values: what was measured of both; metrics are those of the test split.
    """

    file: str
    source: str
    method: str
    values: tuple[ConversionValue, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        values = [value.to_json() for value in self.values]
        return {"file": self.file, "source": self.source, "method": self.method, "values": values}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Conversion:
        """Read what `to_json` returned."""
        values = tuple(ConversionValue.from_json(value) for value in data["values"])
        return cls(data["file"], data["source"], data["method"], values)


@dataclass(frozen=True)
class Delivery:
    """The delivered network with its description.

    Attributes:
        network: trained, on the CPU, in evaluation mode; its modules are plain PyTorch, not classes of this framework.
            Every exporter receives its own copy.
        architecture: of the network.
        input_shape: of one input, without the batch.
        description: plain data: configuration of space and task, costs, test metrics, version of the framework. It
            holds the names of files, without their folders.
        samples: inputs of the task on the CPU, of shape ``(batch, *input_shape)``, to trace the network with and to
            compare outputs; None: exporters draw normal numbers, which not every network accepts.
        held_out: inputs of the test split without augmentation, on the CPU, for a comparison of predictions; in a
            rehearsal of the search split. None: unknown.
        held_out_files: the files from which ``held_out`` was computed; None: unknown.
        preprocessing: how inputs are computed from raw data; see `Task.preprocessing`.
        outputs: what the network's outputs mean; see `Task.outputs`.
        class_names: in the order of the outputs; see `Task.class_names`.
        calibration: returns up to a number of inputs of the split that networks are trained on, as they are trained on
            them, on the CPU; None: unknown.
        judge: returns the metrics of a predictor on the test split; None: unknown, and in a rehearsal.
        conversions: receives what was measured of files that compute other outputs on purpose; recorded in the result.
        notes: receives what users should know about the files of an exporter, such as a part that could not be written;
            recorded in the result.
        rehearsal: whether this is a network with fresh weights that is exported before the run, to a temporary folder.
        shared: what an exporter computed and another one can use, such as a traced program, under a name that begins
            with that of the plugin. Whoever uses an entry checks that it was computed from an equal network, and does
            not change it.
    """

    network: nn.Module
    architecture: Architecture
    input_shape: tuple[int, ...]
    description: Mapping[str, object] = field(default_factory=dict)
    samples: Tensor | None = None
    held_out: Tensor | None = None
    held_out_files: tuple[str, ...] | None = None
    preprocessing: Mapping[str, object] | None = None
    outputs: Mapping[str, object] | None = None
    class_names: tuple[str, ...] | None = None
    calibration: Callable[[int], Tensor] | None = None
    judge: Callable[[Predictor], TaskReport] | None = None
    conversions: list[Conversion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rehearsal: bool = False
    shared: dict[str, Any] = field(default_factory=dict, repr=False)


class Exporter(ABC):
    """Writes a network in one format. Settings are keyword-only in the constructor.

    An exporter is also constructed once while the configuration is checked, so that an invalid setting is reported
    before the search. So the constructor must be cheap and must not write files.

    Before a run, networks with fresh weights are exported once (`Delivery.rehearsal`), so that a network that the
    format cannot hold is reported before it is trained.
    """

    @abstractmethod
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write the files into a folder that exists, check them by reading them back, and return their paths.

        The network must not change: convert a copy of it, and compare the files with the network itself. If its tensors
        differ afterwards, the run removes the files and reports the format as failed, as after any exception.

        Write each file under a temporary name and rename it, so that a crash leaves no incomplete file under its name.

        Args:
            delivery: the network.
            folder: to write to. In a run it is empty, and its files are moved beside those of other formats afterwards.
                Files outside it are refused.

        Raises:
            RunFailedError: the format cannot represent the network, or the file that was read back computes other
                outputs; the message says by how much they differ.
        """

    def adds_nothing(self, network: nn.Module) -> str | None:
        """Return in words why this format holds no more of a network than others do; None: it does (default).

        ``automl-nas export`` without a format leaves such formats out and gives the reason; a format that is named is
        written in any case.

        Args:
            network: trained, on the CPU, in evaluation mode.
        """
        return None
