"""Which candidates are measured for evidence: `Screening`."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, final

import numpy as np

from automl_nas.errors import InfeasibleError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import FeasibleSampler, Preparation
from automl_nas.streams import stream
from automl_nas_surrogate.evidence import Evidence
from automl_nas_surrogate.gaussian_process import Array
from automl_nas_surrogate.model import Described, Model


@final
class Screening:
    """Keeps a pool of measured candidates, and measures a limited number of others for each proposal.

    Args:
        space: the search space.
        sampler: draws the pool.
        evidence: measures candidates.
        seed: of the run.
        pool: the number of random candidates that are measured before the first proposal.
        limit: the number of other candidates that are measured for each proposal.
    """

    def __init__(
        self, space: SearchSpace, sampler: FeasibleSampler, evidence: Evidence, seed: int, pool: int, limit: int
    ) -> None:
        self._space, self._sampler, self._evidence, self._seed = space, sampler, evidence, seed
        self._size, self._limit = pool, limit
        self._pool: dict[Architecture, Architecture] = {}  # canonical form -> candidate
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
        waiting = [key for key in self._pool if key not in self._evidence]
        self._evidence.measure(waiting if limit is None else waiting[:limit])
        left = 0 if limit is None else max(0, len(waiting) - limit)
        if left:
            return Preparation(len(self._pool) - left, len(self._pool), "candidates measured")
        self._filled = True
        return None

    def _draw(self) -> None:
        rng = stream(self._seed, "surrogate/pool")
        while len(self._pool) < self._size:
            try:
                architecture = self._sampler.draw(rng, self._pool)
            except InfeasibleError:
                if self._pool:
                    break
                raise
            if architecture is None:
                break
            self._pool[self._space.canonical(architecture)] = architecture

    def first(self, taken: Container[Architecture]) -> Architecture | None:
        """Return the candidate of the pool with the largest sum of evidence, if nothing else is known.

        Args:
            taken: canonical forms that must not be returned.
        """
        free = [key for key in self._pool if key not in taken]
        if not free:
            return None
        return self._pool[free[int(np.argmax(self._evidence(free).sum(axis=1)))]]

    def measured(
        self,
        candidates: Mapping[Architecture, Architecture],
        taken: Container[Architecture],
        model: Model,
        utility: Callable[[Described], Array],
    ) -> dict[Architecture, Architecture]:
        """Return the candidates that may be proposed, each with measured evidence: canonical form -> architecture.

        If more candidates than the limit were not measured, those with the largest utility are. For that they get the
        mean evidence of the nearest architectures of the pool and the trials: a neighbour of a trial gets that of the
        trial.

        Args:
            candidates: canonical form -> architecture.
            taken: canonical forms that must not be returned.
            model: describes candidates.
            utility: returns the utility of described candidates.
        """
        new = [key for key in candidates if key not in self._evidence]
        if len(new) > self._limit:
            utilities = utility(model.describe(new, self._expected(new, model)))
            new = [new[place] for place in np.argsort(-utilities, kind="stable")[: self._limit]]
        if new:
            self._evidence.measure(new)
            model.refresh()
        free = {key: candidate for key, candidate in self._pool.items() if key not in taken}
        return free | {key: candidate for key, candidate in candidates.items() if key in self._evidence}

    def _expected(self, new: Sequence[Architecture], model: Model) -> Array:
        others = list(dict.fromkeys([*self._pool, *model.members]))
        measured = self._evidence(others)
        apart, _ = model.features(new).distances(model.features(others))
        nearest = (apart <= apart.min(axis=1, keepdims=True) + 1e-12).astype(np.float64)
        expected: Array = nearest @ measured / nearest.sum(axis=1, keepdims=True)
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
        self._pool = {self._space.canonical(candidate): candidate for candidate in candidates}
        self._filled = state["filled"]
        self._evidence.load(state["known"])
