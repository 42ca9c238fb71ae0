"""Which candidates are measured for evidence: `Screening`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.blas_threads import one_blas_thread
from automl_nas.errors import InfeasibleError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import FeasibleSampler, Preparation
from automl_nas.streams import stream
from automl_nas_surrogate.candidates import Candidates
from automl_nas_surrogate.evidence import Evidence
from automl_nas_surrogate.features import Features
from automl_nas_surrogate.gaussian_process import Array
from automl_nas_surrogate.model import Model


@final
class Screening:
    """Keeps a pool of measured candidates, and measures a limited number of others for each proposal.

    Args:
        space: the search space.
        sampler: draws the pool.
        evidence: measures candidates.
        model: predicts candidates.
        seed: of the run.
        pool: the number of random candidates that are measured before the first proposal.
        limit: the number of other candidates that are measured for each proposal.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: FeasibleSampler,
        evidence: Evidence,
        model: Model,
        seed: int,
        pool: int,
        limit: int,
    ) -> None:
        self._space, self._sampler, self._evidence, self._seed = space, sampler, evidence, seed
        self._model = model
        self._size, self._limit = pool, limit
        self._set_pool({})
        self._filled = not evidence

    def fill(self, limit: int | None = None) -> Preparation | None:
        """Draw the pool, once, and measure it.

        Args:
            limit: the largest number of candidates that are measured now; None: all.

        Returns:
            How far it is; None: all are measured.

        Raises:
            InfeasibleError: no architecture that meets the constraints has been found.
        """
        if self._filled:
            return None
        if not self._pool:
            self._draw()
        waiting = self._evidence.missing(self._pool)
        self._evidence.measure(waiting if limit is None else waiting[:limit])
        left = 0 if limit is None else max(0, len(waiting) - limit)
        if left:
            return Preparation(len(self._pool) - left, len(self._pool), "candidates measured")
        self._filled = True
        return None

    def _draw(self) -> None:
        rng, drawn = stream(self._seed, "surrogate/pool"), dict[Architecture, Architecture]()
        while len(drawn) < self._size:
            try:
                architecture = self._sampler.draw(rng, drawn)
            except InfeasibleError:
                if drawn:
                    break
                raise
            if architecture is None:
                break
            drawn[self._space.canonical(architecture)] = architecture
        self._set_pool(drawn)

    def _set_pool(self, pool: dict[Architecture, Architecture]) -> None:
        self._pool, self._keys = pool, list(pool)  # canonical form -> candidate
        self._places = {key: place for place, key in enumerate(self._keys)}
        self._free, self._seen = np.ones(len(pool), dtype=bool), 0
        self._rows = np.zeros(0, np.intp)  # of the keys in the evidence
        self._quantiles: tuple[int, Array] = (-1, np.zeros((0, 0)))  # number of measured architectures, quantiles
        self._compared = self._model.compared(self._keys, recurring=True)

    def _untaken(self, taken: Collection[Architecture]) -> NDArray[np.intp]:
        """Return the ascending places of the candidates of the pool that were not taken; nothing is ever given back."""
        for key in itertools.islice(taken, self._seen, None):
            if (place := self._places.get(key)) is not None:
                self._free[place] = False
        self._seen = len(taken)
        return np.flatnonzero(self._free)

    def first(self, taken: Collection[Architecture]) -> Architecture | None:
        """Return the candidate of the pool with the largest sum of evidence, if nothing else is known.

        Args:
            taken: canonical forms that must not be returned, in the order in which they were added.
        """
        free = self._untaken(taken)
        if not len(free):
            return None
        return self._pool[self._keys[free[int(np.argmax(self._evidence_of_pool()[free].sum(axis=1)))]]]

    def best(
        self,
        candidates: Candidates,
        taken: Collection[Architecture],
        utility: Callable[[Array, Array], Array],
    ) -> Architecture | None:
        """Return the candidate with the largest utility among those with measured evidence and the pool.

        If more candidates than the limit were not measured, those with the largest utility are. For that they get the
        mean evidence of the nearest architectures of the pool and the trials: a neighbour of a trial gets that of the
        trial.

        Args:
            candidates: none of them is taken; those of the pool are predicted with it, too.
            taken: canonical forms that must not be returned, in the order in which they were added.
            utility: returns utilities, from predicted means and standard deviations.
        """
        keys, model = candidates.keys, self._model
        whitened, rows = candidates.whitened(), self._evidence.rows(keys)
        new = np.flatnonzero(rows < 0)
        if len(new) > self._limit:
            utilities = utility(*model.predict(whitened[:, new], self._expected(candidates.features().of(new))))
            new = new[np.argsort(-utilities, kind="stable")[: self._limit]]
        if len(new):
            self._evidence.measure([keys[place] for place in new])
            model.refresh()
            rows[new] = self._evidence.rows([keys[place] for place in new])
        free, others = self._untaken(taken), np.flatnonzero(rows >= 0)
        if not len(free) and not len(others):
            return None
        (pool,) = model.whitened([self._compared])
        of_pool = utility(*model.predict(pool, self._evidence_of_pool()))
        of_others = utility(*model.predict(whitened[:, others], self._evidence.quantiles(rows[others])))
        utilities = np.concatenate([of_pool[free], of_others])
        place = int(np.argmax(utilities))
        key = self._keys[free[place]] if place < len(free) else keys[others[place - len(free)]]
        # A neighbour of a trial is proposed as it is, although the pool has another one of the same canonical form.
        return candidates.architectures[key] if key in candidates.architectures else self._pool[key]

    def _evidence_of_pool(self) -> Array:
        """Return the quantiles of the pool; they are computed when the number of measured architectures changes."""
        count, quantiles = self._quantiles
        if count != len(self._evidence):
            if not len(self._rows):
                self._rows = self._evidence.rows(self._keys)
            quantiles = self._evidence.quantiles(self._rows)
            self._quantiles = len(self._evidence), quantiles
        return quantiles

    @one_blas_thread()
    def _expected(self, features: Features) -> Array:
        """Return the mean evidence of the nearest architectures of the pool and the trials, shape ``(n, columns)``."""
        trials = self._model.described
        apart = features.differing(self._compared.features)
        measured = self._evidence_of_pool()
        members = {member: place for place, member in enumerate(self._model.members) if member not in self._places}
        if others := list(members.values()):
            more = features.differing(trials.features.of(np.array(others)))
            apart, measured = np.concatenate([apart, more], axis=1), np.concatenate([measured, trials.evidence[others]])
        near = apart <= apart.min(axis=1, keepdims=True) + 1e-6  # the last digits are rounding
        # numpy finds the places in two dimensions twelve times slower than those in one.
        rows, nearest = np.divmod(np.flatnonzero(near), near.shape[1])
        begins = np.flatnonzero(np.diff(rows, prepend=-1))  # each row has a nearest one
        counts = np.diff(begins, append=len(rows))
        expected: Array = np.add.reduceat(measured[nearest], begins) / counts[:, None]
        return expected

    def state(self) -> dict[str, Any]:
        """Return the pool and all measurements as plain data."""
        if not self._evidence:
            return {}
        return {
            "pool": [candidate.key for candidate in self._pool.values()],
            "filled": self._filled,
            "known": self._evidence.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Invert `state`."""
        if not state:
            return
        candidates = [Architecture.from_json(key) for key in state["pool"]]
        self._set_pool({self._space.canonical(candidate): candidate for candidate in candidates})
        self._filled = state["filled"]
        self._evidence.load(state["known"])
