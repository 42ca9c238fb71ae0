"""What one format does to the delivered network, and how it fails, stays with that format."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from automl_nas.errors import RunFailedError, RunInterrupted
from automl_nas.evaluation import Delivery, Exporter
from automl_nas.run.final.delivery import _without_folders, export_beside, export_copy
from automl_nas.run.record.atomic_files import CannotWriteError, disk_errors
from automl_nas.space import Architecture


class Does(Exporter):
    """Writes a file after an action on the network, and returns what it is told to."""

    def __init__(self, action: Callable[[nn.Module], Any], returned: Any = None) -> None:
        self._action, self._returned = action, returned

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        path = folder / "model.txt"
        path.write_text(str(delivery.network))
        self._action(delivery.network)
        return [path] if self._returned is None else self._returned  # type: ignore[no-any-return]


@pytest.fixture
def delivery() -> Delivery:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return Delivery(network.eval(), Architecture({"a": 1}), (3,))


def fails(error: BaseException) -> Callable[[nn.Module], None]:
    def action(network: nn.Module) -> None:
        raise error

    return action


def zero(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "zeroed": (zero, "other values of 0.weight"),
    "half": (lambda network: network.half(), "other values of 0.weight"),
    "not a number": (
        lambda network: network[2].bias.data.fill_(float("nan")),
        "other values of 2.bias",
    ),
    "mode": (lambda network: network[1].train(), "the training mode"),
    "fused": (lambda network: network.__setitem__(1, nn.Identity()), "it has other tensors: 1.bias"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_exporter_that_changes_its_network_fails_and_changes_no_other(
    name: str, delivery: Delivery, tmp_path: Path
) -> None:
    action, words = CHANGES[name]
    before = {key: value.clone() for key, value in delivery.network.state_dict().items()}
    with pytest.raises(RunFailedError, match="changed the network that it received") as error:
        export_copy(Does(action), delivery, tmp_path)
    assert words in str(error.value)
    assert not list(tmp_path.iterdir())
    after = delivery.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[key]) for key, value in before.items())
    assert not any(module.training for module in delivery.network.modules())


def test_statistics_that_are_not_numbers_are_no_change(delivery: Delivery, tmp_path: Path) -> None:
    delivery.network.get_buffer("1.running_var").fill_(float("nan"))
    assert export_copy(Does(lambda network: None), delivery, tmp_path) == [tmp_path / "model.txt"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (IndexError("index out of range in self"), "IndexError: index out of range in self"),
        (SystemExit(0), "SystemExit: 0"),
        (BaseException(), "BaseException"),
        (MemoryError(), "MemoryError"),
        (FileNotFoundError(errno.ENOENT, "no such file"), "FileNotFoundError: .*no such file"),
        (RunFailedError("\x1b[31mit branches\x1b[0m"), "it branches"),
        (ValueError("\x1b[1;31mred\x1b[0m"), "ValueError: red"),
    ],
)
def test_every_error_is_the_formats(error: BaseException, text: str, delivery: Delivery, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=f"^{text}$"):
        export_copy(Does(fails(error)), delivery, tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), RunInterrupted("stop")])
def test_what_ends_the_run(error: BaseException, delivery: Delivery, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        export_copy(Does(fails(error)), delivery, tmp_path)


def test_a_full_disk_that_a_writer_of_the_core_meets_ends_the_run(delivery: Delivery, tmp_path: Path) -> None:
    def meets(code: int) -> Callable[[nn.Module], None]:
        def act(network: nn.Module) -> None:
            with disk_errors(tmp_path / "model.bin"):
                raise OSError(code, "from the system")

        return act

    with pytest.raises(CannotWriteError, match="the disk is full"):
        export_copy(Does(meets(errno.ENOSPC)), delivery, tmp_path)
    with pytest.raises(RunFailedError) as caught:
        export_copy(Does(meets(errno.EACCES)), delivery, tmp_path)
    assert not isinstance(caught.value, CannotWriteError)  # stays with the format


@pytest.mark.parametrize("returned", ["model.txt", ["model.txt"], 3, [Path("nowhere") / "model.txt"], (None,)])
def test_only_files_that_exist_may_be_returned(returned: Any, delivery: Delivery, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=r"must return a list of paths|files that do not exist"):
        export_copy(Does(lambda network: None, returned), delivery, tmp_path)


def test_files_outside_the_folder_are_refused(delivery: Delivery, tmp_path: Path) -> None:
    folder, outside = tmp_path / "export", tmp_path / "elsewhere.txt"
    folder.mkdir()
    outside.write_text("text")
    for returned in ([outside], [folder / ".." / outside.name]):
        with pytest.raises(
            RunFailedError, match=r"files outside the folder that it received: .*elsewhere\.txt; it must"
        ):
            export_copy(Does(lambda network: None, returned), delivery, folder)
    assert outside.read_text() == "text"


@pytest.mark.parametrize(("name", "value"), [("notes", 3), ("conversions", "model.int8.onnx")])
def test_notes_are_text_and_conversions_are_conversions(
    name: str, value: object, delivery: Delivery, tmp_path: Path
) -> None:
    class Notes(Does):
        def export(self, delivery: Delivery, folder: Path) -> Any:
            getattr(delivery, name).append(value)
            return super().export(delivery, folder)

    with pytest.raises(
        RunFailedError, match=rf"Notes appended {value!r} to Delivery\.{name}, a (int|str) instead of a"
    ):
        export_copy(Notes(lambda network: None), delivery, tmp_path)
    assert not delivery.notes and not delivery.conversions


def test_formats_leave_the_files_of_others_alone(delivery: Delivery, tmp_path: Path) -> None:
    other = tmp_path / "model.txt"
    other.write_text("of another format")
    with pytest.raises(
        RunFailedError, match=r"^it writes model\.txt, which another format of this export has written;"
    ):
        export_beside(Does(lambda network: None), delivery, tmp_path)
    assert other.read_text() == "of another format" and list(tmp_path.iterdir()) == [other]
    other.rename(tmp_path / "other.txt")
    assert export_beside(Does(lambda network: None), delivery, tmp_path) == [other]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.txt", "other.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="absolute paths of POSIX")
def test_descriptions_have_no_folders() -> None:
    task = {"name": "npz", "path": "/home/me/data/images.npz", "more": [{"a": "/b/c.txt"}], "augment": "a/b", "n": 1}
    assert _without_folders(task) == {
        "name": "npz",
        "path": "images.npz",
        "more": [{"a": "c.txt"}],
        "augment": "a/b",
        "n": 1,
    }
