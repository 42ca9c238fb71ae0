"""The regressors of scikit-learn that a predictor chooses among, and what all regressors have in common."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np

from automl_nas_costs.prediction.features import Array

_ALPHAS = tuple(np.logspace(-4, 2, 13))


class Regressor(ABC):
    """A function of features that is fitted to values."""

    @abstractmethod
    def fit(self, features: Array, values: Array) -> Regressor:
        """Fit to values, shape ``(n,)``, of features, shape ``(n, k)``; return itself."""

    @abstractmethod
    def again(self) -> Regressor:
        """Return one to be fitted to part of the same data: where it searches, it begins at what was found here."""

    @abstractmethod
    def predict(self, features: Array) -> Array:
        """Return predictions, shape ``(m,)``."""


@final
class AdditiveRegressor(Regressor):
    """A constant and a contribution for each feature.

    Args:
        ridge: whether contributions are penalised, by as much as leave-one-out says; otherwise plain least squares,
            which finds a cost that is a sum over the options exactly.
    """

    def __init__(self, *, ridge: bool = True) -> None:
        self._ridge = ridge

    def fit(self, features: Array, values: Array) -> Regressor:
        """See `Regressor.fit`."""
        from sklearn.linear_model import LinearRegression, RidgeCV

        model: Any = RidgeCV(alphas=_ALPHAS) if self._ridge else LinearRegression()
        self._model = model.fit(features, values)
        return self

    def again(self) -> Regressor:
        """See `Regressor.again`."""
        return AdditiveRegressor(ridge=self._ridge)

    def predict(self, features: Array) -> Array:
        """See `Regressor.predict`."""
        found: Array = features @ self._model.coef_ + self._model.intercept_
        return found

    @property
    def coefficients(self) -> tuple[float, Array]:
        """The constant, and the contribution of each feature."""
        return float(self._model.intercept_), np.asarray(self._model.coef_)


@final
class GaussianProcess(Regressor):
    """Gaussian process regression: an additive part, smooth deviations from it, and noise, of fitted sizes.

    The kernel is ``a (1 + x.y) + b exp(-|x - y|^2 / 2 l^2)`` plus noise; its four numbers maximise the likelihood of
    the samples (Rasmussen and Williams 2006, chapter 5). With b = 0 that is Bayesian linear regression.

    Attributes:
        noise: its fitted variance, that of the values being 1.

    Args:
        start: where the search for the four numbers begins: sizes a and b, length l, variance of the noise.
    """

    def __init__(self, start: tuple[float, float, float, float] = (1.0, 1.0, 3.0, 0.05)) -> None:
        self._start = start

    def fit(self, features: Array, values: Array) -> Regressor:
        """See `Regressor.fit`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

        # Values are standardised and a taken option is a step of length 1.4, so these ranges leave out nothing.
        size, deviation, length, noise = self._start
        additive = ConstantKernel(size, (1e-5, 1e5)) * DotProduct(1.0, sigma_0_bounds="fixed")
        smooth = ConstantKernel(deviation, (1e-5, 1e5)) * RBF(length, (0.5, 50.0))
        kernel = additive + smooth + WhiteKernel(noise, (1e-6, 1.0))
        self._center, self._scale = float(values.mean()), float(values.std()) or 1.0
        with warnings.catch_warnings():
            # A part that is not needed goes to the end of its range, of which scikit-learn warns.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="lbfgs failed to converge", category=UserWarning)
            fitted: Any = GaussianProcessRegressor(kernel).fit(features, (values - self._center) / self._scale)
        parts = fitted.kernel_.get_params()
        self._sizes = parts["k1__k1__k1__constant_value"], parts["k1__k2__k1__constant_value"]
        self._length, self.noise = parts["k1__k2__k2__length_scale"], parts["k2__noise_level"]
        self._features, self._weights = features, fitted.alpha_
        self._squares = (features**2).sum(axis=1)
        return self

    def again(self) -> Regressor:
        """See `Regressor.again`."""
        return GaussianProcess((*self._sizes, self._length, self.noise))

    def predict(self, features: Array) -> Array:
        """See `Regressor.predict`."""
        # The posterior mean, as scikit-learn computes it, without the checks that take most of its time.
        products = features @ self._features.T
        distances = (features**2).sum(axis=1)[:, None] + self._squares - 2 * products
        smooth = np.exp(np.maximum(distances, 0.0) * (-0.5 / self._length**2))
        kernel = self._sizes[0] * (1 + products) + self._sizes[1] * smooth
        found: Array = kernel @ self._weights * self._scale + self._center
        return found
