"""`NASRegressor`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from automl_nas_estimators.estimator import NASEstimator, as_numbers
from automl_nas_estimators.inputs import InputForm


@final
class NASRegressor(RegressorMixin, NASEstimator):  # type: ignore[misc]
    """Predicts numbers with a network that is searched for the data: tables, images, signals or tokens.

    It chooses, searches and trains as `NASClassifier` does. Targets are standardised for the loss, the mean squared
    error.

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
        network_: the trained network, an ``nn.Module`` on the CPU.
        n_features_in_: the size of the second axis of X.
        directory_: the run directory.
    """

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the predicted numbers, of the shape of y: ``(samples,)`` or ``(samples, k)``."""
        values = self._outputs(X)
        if scale := self._outputs_rule.get("target_scale"):
            values = values * np.asarray(scale["deviation"]) + np.asarray(scale["mean"])
        return values[:, 0] if self._flat else values

    def __sklearn_tags__(self) -> Any:
        """Return the tags of scikit-learn: several numbers may be predicted at once."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any) -> tuple[NDArray[Any], tuple[str, ...] | None]:
        numbers = np.asarray(y, dtype=np.float64)
        self._flat = numbers.ndim == 1
        return numbers, None

    def _arrays(self, inputs: NDArray[Any], form: InputForm, targets: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        return {"x": as_numbers(inputs, form), "y": targets}
