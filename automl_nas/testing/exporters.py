"""Contract tests of exporters: `ExporterContract`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.space.architecture import Architecture


class ExporterContract(ABC):
    """The tests of an `Exporter`. Derive a class, implement `make` and `load`, and run pytest::

        class TestMyExporter(ExporterContract):
            def make(self): return MyExporter()
            def load(self, paths, delivery): return my_format.read(paths[0])

    Attributes:
        tolerance: the largest difference between outputs of the network and of the files, as a fraction of the largest
            output; 0: they must be equal.
    """

    tolerance: float = 0.0

    @abstractmethod
    def make(self) -> Exporter:
        """Return the exporter with default settings."""

    @abstractmethod
    def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor]:
        """Return the function that the files compute. Use only the files, and `fresh_network` if they hold weights.

        Args:
            paths: the result of `Exporter.export`.
            delivery: the delivery, for its architecture and input shape; do not use its network.
        """

    def delivery(self) -> Delivery:
        """Return the delivery to export (default: a small convolutional network with BN statistics from data)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = fresh_network()
            for _ in range(3):
                network(2.0 * torch.randn(8, 3, 8, 8) + 0.5)
        return Delivery(network.eval(), Architecture({"width": 8}), (3, 8, 8), {"accuracy": 0.5})

    def test_the_files_compute_the_outputs_of_the_network(self, tmp_path: Path) -> None:
        """For all batch sizes. The exporter creates no other files, and does not remove existing ones."""
        other = tmp_path / "another file.txt"
        other.write_text("unchanged")
        delivery = self.delivery()
        paths = self.make().export(delivery, tmp_path)
        assert paths
        assert len(set(paths)) == len(paths)
        assert {*paths, other} == {path for path in tmp_path.rglob("*") if path.is_file()}
        loaded = self.load(paths, delivery)
        generator = torch.Generator().manual_seed(2)
        for batch in (1, 2, 5):
            self._assert_same(delivery, loaded, torch.randn((batch, *delivery.input_shape), generator=generator))

    def test_the_network_and_the_random_state_stay_and_a_second_export_replaces_the_first(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """An export changes only its files, prints nothing, and can be repeated in the same folder."""
        delivery = self.delivery()
        before = copy.deepcopy(delivery.network.state_dict())
        parts = {name: (type(part), vars(part).keys()) for name, part in delivery.network.named_modules()}
        random = torch.get_rng_state()
        first = self.make().export(delivery, tmp_path)
        assert capfd.readouterr() == ("", ""), "the exporter printed something"
        assert torch.equal(random, torch.get_rng_state())
        after = delivery.network.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        assert parts == {name: (type(part), vars(part).keys()) for name, part in delivery.network.named_modules()}
        assert not any(part.training for part in delivery.network.modules())

        x = torch.ones(1, *delivery.input_shape)
        with torch.no_grad():
            old = delivery.network(x)
            for parameter in delivery.network.parameters():
                parameter.mul_(1.5)
            assert not torch.allclose(delivery.network(x), old, rtol=0.1)
        second = self.make().export(delivery, tmp_path)
        assert sorted(second) == sorted(first) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
        self._assert_same(delivery, self.load(first, delivery), x)

    def test_a_failed_export_leaves_no_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If a file cannot be renamed (e.g. on a full disk), no part of it remains."""

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        # Both functions that give a complete file its final name.
        monkeypatch.setattr("os.replace", full)
        monkeypatch.setattr("os.rename", full)
        with pytest.raises(OSError, match="No space left"):
            self.make().export(self.delivery(), tmp_path)
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == []

    def _assert_same(self, delivery: Delivery, loaded: Callable[[Tensor], Tensor], x: Tensor) -> None:
        with torch.no_grad():
            expected, outputs = delivery.network(x), loaded(x)
        assert outputs.shape == expected.shape
        assert (outputs - expected).abs().max() <= self.tolerance * expected.abs().max()


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
