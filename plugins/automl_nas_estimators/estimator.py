"""The base of `NASClassifier` and `NASRegressor`."""

from __future__ import annotations

import io
import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from automl_nas.errors import ConfigurationError, DataError, RunDirectoryError, RunFailedError
from automl_nas.run import Result, complete_manager, open_run, search
from automl_nas_estimators.arrays import normalization
from automl_nas_estimators.defaults.configuration import choose_configuration
from automl_nas_estimators.defaults.data import TaskChoice, choose_task
from automl_nas_estimators.inputs import InputForm
from automl_nas_estimators.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from automl_nas.evaluation import Task

Progress = Literal["auto", "bar", "log", "none"]
BATCH = 256
"""The number of inputs that a network computes at once in predictions."""


class NASEstimator(BaseEstimator):  # type: ignore[misc]
    """Searches, trains and keeps a network. A subclass says what targets are.

    Args:
        random_state: the seed of data splits, search and training; None: a new one in each fit, or the one of the run
            that ``directory`` contains.
        data: what X is: ``table``, ``image``, ``signal``, ``tokens``, or ``auto``: see `InputForm.of`.
        search_fraction: share of the samples besides the tested ones by which networks are compared.
        test_fraction: share of the samples that is held out of search and training, for `result_`.
        time_limit: seconds that search and training may take together, shared out by estimates of the stages; None:
            what the chosen trainings take.
        directory: folder for data, configuration and run directory; with the same data and parameters, `fit` continues
            the run in it. None: a temporary folder, which exists as long as the estimator.
        sections: sections of the configuration in place of the chosen ones, such as ``{"final": {...}}``; the settings
            of ``task`` are added to the chosen ones, such as ``{"task": {"class_weights": "balanced"}}``.
        device: ``auto``, ``cpu``, ``cuda``, ...
        progress: ``auto``, ``bar``, ``log`` or ``none``; see `automl_nas.search`. With ``none``, the choices are not
            printed either.
    """

    _form: InputForm
    _reader: Callable[[str], Tensor] | None

    def __init__(
        self,
        *,
        random_state: Any = None,
        data: str = "auto",
        search_fraction: float = 0.2,
        test_fraction: float = 0.1,
        time_limit: float | None = None,
        directory: str | os.PathLike[str] | None = None,
        sections: Mapping[str, Any] | None = None,
        device: str = "auto",
        progress: Progress = "auto",
    ) -> None:
        self.random_state = random_state
        self.data = data
        self.search_fraction = search_fraction
        self.test_fraction = test_fraction
        self.time_limit = time_limit
        self.directory = directory
        self.sections = sections
        self.device = device
        self.progress = progress

    @abstractmethod
    def _targets(self, y: Any) -> tuple[NDArray[Any], tuple[str, ...] | None]:
        """Check targets; return them as the task takes them, and the names of classes (None for numbers)."""

    @abstractmethod
    def _arrays(self, inputs: NDArray[Any], form: InputForm, targets: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """Return the arrays of the data file."""

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Search a network and train it.

        Args:
            X: inputs, numbers: a table ``(samples, features)``, images ``(samples, height, width)``, ``(samples,
                channels, height, width)`` or ``(samples, height, width, channels)``, signals ``(samples, channels,
                length)``, or tokens ``(samples, length)`` with ``data="tokens"``.
            y: targets, shape ``(samples,)``.

        Returns:
            The estimator.

        Raises:
            UserError: parameters, X or y are invalid, there are too few samples, or ``directory`` contains the run of
                other data or parameters. It is a ValueError.
            RunFailedError: the run cannot reach a result.
            RunInterrupted: the run was stopped by a signal. With ``directory``, the same fit continues it.
        """
        self._check_parameters()
        x, y = validate_data(self, X, y, allow_nd=True, multi_output=True)
        targets, names = self._targets(y)
        form = InputForm.of(x, self.data)
        inputs = form.arrange(x)
        workspace = Workspace(self.directory)
        file = workspace.save_data(self._arrays(inputs, form, targets))
        choice = choose_task(str(file))
        choice.settings |= {"search_fraction": self.search_fraction, "test_fraction": self.test_fraction}
        choice.comments["test_fraction"] = "held out of search and training"
        if names is not None:
            choice.settings["class_names"] = list(names)
        elif choice.settings["name"] == "arrays":
            choice.settings["loss"] = "mse"  # the caller says that targets are numbers, so nothing is guessed
        columns = getattr(self, "feature_names_in_", None)
        if columns is not None and choice.settings["name"] == "arrays" and form.kind == "table":
            choice.settings["feature_names"] = [str(column) for column in columns]
        self._say(str(form))
        self._search(workspace, choice, f"the data of {type(self).__name__}.fit")
        self._form, self._reader = form, None
        return self

    @property
    def result_(self) -> Result:
        """The result of the run: metrics with intervals on the held-out test samples, candidates, costs.

        Raises:
            RunDirectoryError: the run directory is gone; pass ``directory`` to keep it.
        """
        check_is_fitted(self)
        try:
            return open_run(self.directory_)
        except RunDirectoryError as error:
            raise RunDirectoryError(
                f"the run of this estimator is not in {self.directory_}: {error}. A temporary run directory exists "
                "only as long as the estimator that was fitted; fit with directory=..."
            ) from error

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | Mapping[str, Any] = "package",  # noqa: A002 - the framework's word
        *,
        replace: bool = False,
    ) -> tuple[Path, ...]:
        """Export the network; see `automl_nas.Result.export`.

        Args:
            path: the folder to write to.
            format: name of an exporter (``package``, ``onnx``, ``safetensors``, ``pt2``), or a mapping with ``name``
                and settings.
            replace: whether files that exist and differ are replaced.

        Returns:
            The files.

        Raises:
            RunDirectoryError: the run directory is gone, or the folder has files that differ.
            RunFailedError: the format cannot hold the network.
        """
        return self.result_.export(format, out=path, replace=replace)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write an HTML report of the run, as ``automl-nas report`` does, and return its file.

        Args:
            path: of the file; one that exists is replaced.

        Raises:
            RunDirectoryError: the run directory is gone.
            ConfigurationError: no plugin that writes reports is loaded, or the folder of the file does not exist.
        """
        import click

        from automl_nas.cli import cli

        directory = self.result_.directory
        command = cli.get_command(click.Context(cli), "report")
        if command is None:
            raise ConfigurationError("no plugin has the command 'report'; see: automl-nas plugins")
        with redirect_stdout(io.StringIO()):  # the command prints the name of the file, which is returned here
            command.main([str(directory), "--out", str(path)], standalone_mode=False)
        return Path(path)

    def _check_parameters(self) -> None:
        for name in ("search_fraction", "test_fraction"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
                raise ConfigurationError(f"{name} must be between 0 and 1, not {value!r}")
        limit = self.time_limit
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0):
            raise ConfigurationError(f"time_limit must be a positive number of seconds, not {limit!r}")
        if self.sections is not None and not isinstance(self.sections, Mapping):
            raise ConfigurationError(f"sections must be a mapping, not {self.sections!r}")
        sections = self.sections or {}
        task = sections.get("task", {})
        if not isinstance(task, Mapping):
            raise ConfigurationError(f"the section task must be a mapping of settings, not {task!r}")
        fixed = [name for name in ("name", "path") if name in task]
        if "seed" in sections or fixed:
            raise ConfigurationError(
                f"sections must not contain {'seed' if 'seed' in sections else f'the {fixed[0]} of the task'}: it "
                "follows from the data and the parameters of the estimator"
            )

    def _search(self, workspace: Workspace, choice: TaskChoice, title: str) -> Task:
        """Write the configuration, do or continue the run, take over its network, and return the task."""
        try:
            task, result = self._run(workspace, choice, title)
        except BaseException:
            workspace.discard()
            raise
        if result.final is None:
            raise RunFailedError("the run has no final stage, so no network was trained; leave final in sections")
        network, rule = result.load_trained(), task.preprocessing() or {}
        # In double precision the prediction for a sample is the same, to the last digits, in batches of every size.
        self.network_ = network.double() if rule.get("input") == "table" else network
        self.directory_ = str(result.directory)
        self._workspace = workspace
        self._normalization = normalization(rule, len(task.input_shape))
        self._outputs_rule = dict(task.outputs() or {})
        self._vocabulary = rule.get("vocabulary")
        return task

    def _run(self, workspace: Workspace, choice: TaskChoice, title: str) -> tuple[Task, Result]:
        sections = dict(self.sections or {})
        choice.settings |= sections.pop("task", {})
        choices = choose_configuration(
            choice,
            complete_manager().registry,
            title=title,
            seed=self._seed(workspace),
            deliver=False,
            sections={
                **({} if self.time_limit is None else {"budget": {"minutes": self.time_limit / 60}}),
                **({} if self.device == "auto" else {"runtime": {"device": self.device}}),
                **sections,
            },
        )
        file = workspace.save_configuration(choices.text)
        self._say(*choices.summary, "" if workspace.temporary else f"configuration: {file}")
        return choices.task, search(file, out=workspace.run, resume=True, progress=self.progress)

    def _seed(self, workspace: Workspace) -> int:
        if self.random_state is None and (recorded := workspace.recorded_seed()) is not None:
            return recorded
        if isinstance(self.random_state, int | np.integer) and self.random_state >= 0:
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _outputs(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the outputs of the network, float64, shape ``(samples, outputs)``."""
        import torch

        check_is_fitted(self)
        dtype = next(self.network_.parameters()).dtype
        with torch.inference_mode():
            parts = [
                self.network_(inputs.to(dtype) if inputs.is_floating_point() else inputs) for inputs in self._batches(X)
            ]
        values: NDArray[np.float64] = torch.cat(parts).double().numpy()
        return values

    def _batches(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        """Yield batches of inputs."""
        import torch

        if self._reader is not None and _is_files(X):
            files = [str(file) for file in X]
            for first in range(0, len(files), BATCH):
                yield torch.stack([self._reader(file) for file in files[first : first + BATCH]])
            return
        x = self._checked(X)
        for first in range(0, len(x), BATCH):
            yield self._normal(x[first : first + BATCH])

    def _checked(self, X: Any) -> NDArray[Any]:  # noqa: N803
        x = validate_data(self, X, reset=False, allow_nd=True)
        x = self._form.arrange(x)
        if self._vocabulary is not None and x.size and int(x.max()) >= self._vocabulary:
            raise DataError(f"X contains the token {x.max()}, and the largest one in fit was {self._vocabulary - 1}")
        return x

    def _normal(self, x: NDArray[Any]) -> Tensor:
        import torch

        if self._normalization is None:
            return torch.from_numpy(np.ascontiguousarray(x))
        mean, deviation = self._normalization
        return torch.from_numpy(((x - mean) / deviation).astype(np.float64))

    def _say(self, *lines: str) -> None:
        if self.progress != "none":
            for line in lines:
                if line:
                    print(f"{type(self).__name__}: {line}", file=sys.stderr, flush=True)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_workspace", None)  # the copy in another process does not own the temporary folder
        return state


def _is_files(x: Any) -> bool:
    """Return whether inputs are a sequence of file names."""
    return not isinstance(x, np.ndarray | str) and len(x) > 0 and all(isinstance(item, str | os.PathLike) for item in x)


def as_numbers(inputs: NDArray[Any], form: InputForm) -> NDArray[Any]:
    """Return inputs as the task `arrays` takes them: integers for tokens, float32 for everything else."""
    with np.errstate(over="ignore"):  # the task refuses infinity
        return inputs if form.kind == "tokens" else inputs.astype(np.float32)
