"""A cost as the sum of unknown block costs, of which similar ones are similar: `BlockProcess`."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas_costs.prediction.features import Array
from automl_nas_costs.prediction.regressors import Regressor

_LENGTHS = (0.5, 1.0, 2.0)
"""Of the smooth parts, where the logarithm of everything that is counted has the variance 1: the sum of three covers
what lies between, and is fitted without a search for one length."""

_ROUGH = 0.05  # of the penalty of the first guess; it only has to keep a count without use from running away
_LEAST = 1e-3  # of the largest block: smaller counts are as good as none
_ROWS = 1024  # blocks at once, so that many of them do not fill the memory


@final
class BlockProcess(Regressor):
    """Gaussian process regression over blocks: a network costs a constant and what its blocks cost, which is unknown.

    The cost of a block is ``phi . w + s (u + v)``: weights of what is counted of it, as in a roofline model; a smooth
    function u of the logarithms of the counts; and a deviation v of its own. s is the block's size by a non-negative
    fit of the counts alone. The sizes of the constant, w, u (for three lengths), v and of the noise, which grows with
    the value, maximise the likelihood of the samples (Rasmussen and Williams 2006, chapter 5). A network's cost is then
    a Gaussian process too, with the covariance ``M C M'`` for the numbers M of blocks and the covariance C of blocks,
    and so are the costs of blocks that no sample has.

    Args:
        counted: of each block, shape ``(blocks, counts)``, relative to the mean network.
        start: logarithms of the sizes with which the search begins.
    """

    def __init__(self, counted: Array, start: Array | None = None) -> None:
        self._counted, self._start = counted, start
        logs = np.log(counted + _LEAST * counted.max(axis=0))
        logs = logs[:, logs.std(axis=0) > 0]
        self._logs: Array = (logs - logs.mean(axis=0)) / np.where(logs.std(axis=0) > 0, logs.std(axis=0), 1.0)

    def fit(self, features: Array, values: Array) -> Regressor:
        """See `Regressor.fit`; features say how often each block stands in each network."""
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
        found: Any = minimize(_surprise, first, (parts, relative), jac=True, method="L-BFGS-B", bounds=bounds)
        self._found: Array = found.x
        amounts = np.exp(found.x)
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
        return BlockProcess(self._counted, self._found)

    def predict(self, features: Array) -> Array:
        """See `Regressor.predict`."""
        found: Array = self._constant + features @ self._costs
        return found

    @property
    def coefficients(self) -> tuple[float, Array]:
        """The constant, and the cost of each block."""
        return self._constant, self._costs

    def _sizes(self, uses: Array, relative: Array) -> Array:
        """Return roughly what each block costs: never negative weights of the counts, of least relative error."""
        from scipy.optimize import nnls

        count = self._counted.shape[1]
        design = np.concatenate((np.ones((len(relative), 1)), uses @ self._counted), axis=1) / relative[:, None]
        penalty = _ROUGH * np.eye(1 + count)
        aim = np.concatenate((np.ones(len(relative)), np.full(1 + count, _ROUGH / (1 + count))))
        weights = nnls(np.concatenate((design, penalty)), aim)[0]
        # Blocks in which nothing is counted cost something, too.
        found: Array = self._counted @ weights[1:] + 1e-4
        return found

    def _covariances(self, rows: NDArray[Any], columns: NDArray[Any], sizes: Array) -> list[Array]:
        """Return the covariance of blocks: of weights, of each smooth part, of deviations of their own."""
        scale = sizes[rows][:, None] * sizes[columns]
        left, right = self._logs[rows], self._logs[columns]
        squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
        distances = np.maximum(squares, 0.0) / max(self._logs.shape[1], 1)
        return [
            self._counted[rows] @ self._counted[columns].T,
            *(scale * np.exp(distances / (-2 * length**2)) for length in _LENGTHS),
            scale * (rows[:, None] == columns),
        ]


def _surprise(logs: Array, parts: list[Array], values: Array) -> tuple[float, Array]:
    """Return minus the logarithm of the likelihood, but for a constant, and its derivatives by ``logs``."""
    amounts = np.exp(logs)
    kernel = sum(a * part for a, part in zip(amounts, parts, strict=True))
    factor = np.linalg.cholesky(kernel)
    inverse = np.linalg.inv(kernel)
    weights = inverse @ values
    slopes = inverse - np.outer(weights, weights)
    surprise = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
    return surprise, np.array([0.5 * a * float((slopes * part).sum()) for a, part in zip(amounts, parts, strict=True)])
