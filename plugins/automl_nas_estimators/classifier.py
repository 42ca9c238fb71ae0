"""`NASClassifier`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from automl_nas.errors import ConfigurationError, DataError
from automl_nas_estimators.defaults.data import choose_task
from automl_nas_estimators.estimator import NASEstimator, as_numbers
from automl_nas_estimators.inputs import InputForm, as_pixels
from automl_nas_estimators.workspace import Workspace


@final
class NASClassifier(ClassifierMixin, NASEstimator):  # type: ignore[misc]
    """Predicts classes with a network that is searched for the data: tables, images, signals or tokens.

    A space, the lengths of the trainings and a limit are chosen from the data, printed, and written as a configuration
    for ``automl-nas run``. The supernet is trained, networks are compared on held-out samples, and the best one is
    trained on all but the test samples. `result_` has its test metrics with intervals.

    A fitted classifier can be pickled; the network is part of the pickle, and the run directory is not. Like every
    pickle it must only be loaded from a source that is trusted.

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

    Attributes:
        classes_: the classes, as in y.
        network_: the trained network, an ``nn.Module`` on the CPU.
        n_features_in_: the size of the second axis of X.
        directory_: the run directory.
    """

    def fit_folder(self, path: str | os.PathLike[str]) -> Self:
        """Search a network for image files and train it.

        Args:
            path: a folder with a folder of images for each class, or a CSV file of paths and classes; see the task
                ``image_folder``.

        Returns:
            The classifier; `predict` then takes the names of image files, or images of the size of the network's
            inputs, ``(samples, channels, height, width)``, with values from 0 to 255.

        Raises:
            UserError: as in `fit`; also if files are broken, or the images have several labels each.
        """
        self._check_parameters()
        choice = choose_task(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve would follow links
        if choice.settings["name"] != "image_folder":
            raise ConfigurationError(
                f"{path} is neither a folder of images nor a CSV file of their paths; use fit(X, y)"
            )
        choice.settings |= {"search_fraction": self.search_fraction, "test_fraction": self.test_fraction}
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)  # of an earlier fit
        task = self._search(Workspace(self.directory), choice, str(path))
        self.classes_ = np.array(task.class_names)
        self._form, self._reader = InputForm("image", task.input_shape), task.reader()
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the most probable class of each input, shape ``(samples,)``."""
        outputs = self._outputs(X)
        classes: NDArray[Any] = self.classes_[outputs.argmax(1)]
        return classes

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class, shape ``(samples, classes)``, in the order of ``classes_``."""
        outputs = self._outputs(X)
        powers: NDArray[np.float64] = np.exp(outputs - outputs.max(1, keepdims=True))
        powers /= powers.sum(1, keepdims=True)
        return powers

    def _targets(self, y: Any) -> tuple[NDArray[Any], tuple[str, ...] | None]:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        classes, numbers = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"y contains one class only, {classes[0]!r}; a classifier needs at least two classes")
        self.classes_ = classes
        return numbers.astype(np.int64), tuple(str(each) for each in classes.tolist())

    def _arrays(self, inputs: NDArray[Any], form: InputForm, targets: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        pixels = as_pixels(inputs) if form.kind == "image" and inputs.shape[1] in (1, 3) else None
        if pixels is not None:
            return {"train_images": np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), "train_labels": targets}
        return {"x": as_numbers(inputs, form), "y": targets}
