"""The regressors among which a predictor chooses: `AdditiveRegressor`, `GaussianProcess`, `BlockProcess`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.evaluation import mean_and_deviation, varies
from automl_nas_costs.prediction.features import Array

_ALPHAS = tuple(np.logspace(-4, 2, 13))

_LENGTHS = (0.5, 1.0, 2.0)
"""Lengths of the smooth parts, for logarithms of counts with variance 1: the sum of three covers the lengths between
them, and is fitted without a search for one length."""

_ROUGH = 0.05  # the penalty of the first estimate, which bounds the weight of a count without information
_LEAST = 1e-3  # of the largest block: smaller counts have no influence
_ROWS = 1024  # blocks at once, to limit the memory


class Regressor(ABC):
    """A function of features, fitted to values."""

    @abstractmethod
    def fit(self, features: Array, values: Array) -> Regressor:
        """Fit to values, shape ``(n,)``, of features, shape ``(n, k)``; return itself."""

    @abstractmethod
    def again(self) -> Regressor:
        """Return one to be fitted to part of the same data; its search begins at the optimum of this one."""

    @abstractmethod
    def predict(self, features: Array) -> Array:
        """Return predictions, shape ``(m,)``."""


@final
class AdditiveRegressor(Regressor):
    """A constant and a contribution for each feature.

    Args:
        ridge: whether contributions are penalised, with the penalty of the least leave-one-out error; otherwise plain
            least squares, which fits a cost that is a sum over the options exactly.
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
        predicted: Array = features @ self._model.coef_ + self._model.intercept_
        return predicted

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
        start: the four numbers at which the search begins: sizes a and b, length l, variance of the noise.
    """

    def __init__(self, start: tuple[float, float, float, float] = (1.0, 1.0, 3.0, 0.05)) -> None:
        self._start = start

    def fit(self, features: Array, values: Array) -> Regressor:
        """See `Regressor.fit`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

        # Values are standardised and another option is a step of length 1.4, so these ranges contain every optimum.
        size, deviation, length, noise = self._start
        additive = ConstantKernel(size, (1e-5, 1e5)) * DotProduct(1.0, sigma_0_bounds="fixed")
        smooth = ConstantKernel(deviation, (1e-5, 1e5)) * RBF(length, (0.5, 50.0))
        kernel = additive + smooth + WhiteKernel(noise, (1e-6, 1.0))
        self._center, self._scale = map(float, mean_and_deviation(values))
        with warnings.catch_warnings():
            # The size of a part without use reaches the end of its range, of which scikit-learn warns.
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
        # The posterior mean, as scikit-learn computes it, without its checks, which take most of the time.
        products = features @ self._features.T
        distances = (features**2).sum(axis=1)[:, None] + self._squares - 2 * products
        smooth = np.exp(np.maximum(distances, 0.0) * (-0.5 / self._length**2))
        kernel = self._sizes[0] * (1 + products) + self._sizes[1] * smooth
        predicted: Array = kernel @ self._weights * self._scale + self._center
        return predicted


@final
class BlockProcess(Regressor):
    """Gaussian process regression over blocks: a network costs a constant plus the unknown costs of its blocks.

    The cost of a block is ``phi . w + s (u + v)``: weights w of its counts phi, as in a roofline model; a smooth
    function u of the logarithms of the counts; and a deviation v of its own. s is the block's size by a non-negative
    fit of the counts alone. The sizes of the constant, w, u (for three lengths), v and of the noise, which grows with
    the value, maximise the likelihood of the samples (Rasmussen and Williams 2006, chapter 5). A network's cost is then
    a Gaussian process too, with the covariance ``M C M'`` for the numbers M of blocks and the covariance C of blocks,
    and so are the costs of blocks that are in no sample.

    Args:
        counted: of each block, shape ``(blocks, counts)``, relative to the mean network.
        start: logarithms of the sizes at which the search begins.
    """

    def __init__(self, counted: Array, start: Array | None = None) -> None:
        self._counted, self._start = counted, start
        logs = np.log(counted + _LEAST * counted.max(axis=0))
        logs = logs[:, varies(logs)]
        self._logs: Array = (logs - logs.mean(axis=0)) / logs.std(axis=0)

    def fit(self, features: Array, values: Array) -> Regressor:
        """See `Regressor.fit`; the features are the number of times that each network runs each block."""
        from scipy.optimize import minimize

        unit = float(values.mean())
        relative = values / unit
        sizes = self._sizes(features, relative)
        seen = np.flatnonzero(features.any(axis=0))
        uses = features[:, seen]
        parts = [uses @ part @ uses.T for part in self._covariances(seen, seen, sizes)]
        parts += [np.ones((len(values), len(values))), np.diag(relative**2)]
        lows = [1e-6] * len(parts)  # of the noise: 0.1 % of a value, so that the equations can be solved
        starts = [0.1, *(0.05 for _ in _LENGTHS), 0.01, 0.1, 1e-3]
        first = np.log(starts) if self._start is None else self._start
        bounds = [(low, np.log(100.0)) for low in np.log(lows)]
        optimum: Any = minimize(
            _negative_log_likelihood, first, (parts, relative), jac=True, method="L-BFGS-B", bounds=bounds
        )
        self._logs_of_sizes: Array = optimum.x
        amounts = np.exp(optimum.x)
        weights = np.linalg.solve(sum(a * part for a, part in zip(amounts, parts, strict=True)), relative)
        self._constant = float(amounts[-2] * weights.sum() * unit)
        self._costs = np.empty(len(self._counted))
        inside = uses.T @ weights
        for start in range(0, len(self._costs), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(self._costs)))
            covariances = self._covariances(rows, seen, sizes)
            self._costs[rows] = unit * sum(
                a * (part @ inside) for a, part in zip(amounts[: len(covariances)], covariances, strict=True)
            )
        return self

    def again(self) -> Regressor:
        """See `Regressor.again`."""
        return BlockProcess(self._counted, self._logs_of_sizes)

    def predict(self, features: Array) -> Array:
        """See `Regressor.predict`."""
        predicted: Array = self._constant + features @ self._costs
        return predicted

    @property
    def coefficients(self) -> tuple[float, Array]:
        """The constant, and the cost of each block."""
        return self._constant, self._costs

    def _sizes(self, uses: Array, relative: Array) -> Array:
        """Return a rough cost of each block: non-negative weights of the counts, of least relative error."""
        from scipy.optimize import nnls

        count = self._counted.shape[1]
        design = np.concatenate((np.ones((len(relative), 1)), uses @ self._counted), axis=1) / relative[:, None]
        penalty = _ROUGH * np.eye(1 + count)
        aim = np.concatenate((np.ones(len(relative)), np.full(1 + count, _ROUGH / (1 + count))))
        weights = nnls(np.concatenate((design, penalty)), aim)[0]
        # Blocks whose counts are all 0 have a cost, too.
        sizes: Array = self._counted @ weights[1:] + 1e-4
        return sizes

    def _covariances(self, rows: NDArray[Any], columns: NDArray[Any], sizes: Array) -> list[Array]:
        """Return the covariances of blocks by the weights, by each smooth part, and by the deviations of their own."""
        scale = sizes[rows][:, None] * sizes[columns]
        left, right = self._logs[rows], self._logs[columns]
        squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
        distances = np.maximum(squares, 0.0) / max(self._logs.shape[1], 1)
        return [
            self._counted[rows] @ self._counted[columns].T,
            *(scale * np.exp(distances / (-2 * length**2)) for length in _LENGTHS),
            scale * (rows[:, None] == columns),
        ]


def _negative_log_likelihood(logs: Array, parts: list[Array], values: Array) -> tuple[float, Array]:
    """Return minus the logarithm of the likelihood, except for a constant, and its derivatives by ``logs``."""
    amounts = np.exp(logs)
    kernel = sum(a * part for a, part in zip(amounts, parts, strict=True))
    factor = np.linalg.cholesky(kernel)
    inverse = np.linalg.inv(kernel)
    weights = inverse @ values
    slopes = inverse - np.outer(weights, weights)
    value = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
    return value, np.array([0.5 * a * float((slopes * part).sum()) for a, part in zip(amounts, parts, strict=True)])
