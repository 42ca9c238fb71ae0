"""The candidates of a proposal: `Group` and `Candidates`."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from automl_nas.space import Architecture
from automl_nas_surrogate.factor import Whitened
from automl_nas_surrogate.features import Features
from automl_nas_surrogate.gaussian_process import Single
from automl_nas_surrogate.model import Model


@final
@dataclass(frozen=True)
class Group:
    """Architectures that may be candidates: random ones, or the neighbours of a parent.

    Attributes:
        pairs: their canonical forms, and themselves.
        compared: they, as the model compares them with trials; None: `Candidates` compares them, all such groups at
            once. Worth it for many architectures that may be candidates of the next proposals, too.
    """

    pairs: Sequence[tuple[Architecture, Architecture]]
    compared: Whitened | None = None


@final
class Candidates:
    """The architectures of groups, each canonical form once.

    Attributes:
        architectures: canonical form -> architecture, the first of each canonical form.
        keys: the m canonical forms.

    Args:
        model: compares them with trials.
        groups: in the order of their candidates.
        taken: canonical forms that are no candidates.
    """

    def __init__(self, model: Model, groups: Iterable[Group], taken: Container[Architecture]) -> None:
        self._model = model
        self.architectures: dict[Architecture, Architecture] = {}
        self._compared: list[Whitened] = []
        # Of each of these: the places of candidates among its architectures, and those among all candidates.
        self._places: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        at_once: list[NDArray[np.intp]] = []  # places among all candidates
        for group in groups:
            begin, inside = len(self.architectures), list[int]()
            for place, (key, architecture) in enumerate(group.pairs):
                if key not in taken and key not in self.architectures:
                    self.architectures[key] = architecture
                    inside.append(place)
            among_all = np.arange(begin, len(self.architectures))
            if group.compared is None:
                at_once.append(among_all)
            elif inside:
                self._compared.append(group.compared)
                self._places.append((np.array(inside), among_all))
        self.keys = list(self.architectures)
        among_all = np.concatenate([np.empty(0, np.intp), *at_once])
        if len(among_all):
            self._compared.append(model.compared([self.keys[place] for place in among_all]))
            self._places.append((np.arange(len(among_all)), among_all))

    def features(self) -> Features:
        """Return decisions and costs of the candidates."""
        parts = zip(self._compared, self._places, strict=True)
        first, *others = (compared.features.of(inside) for compared, (inside, _) in parts)
        return first.concatenated(*others).of(np.argsort(np.concatenate([among_all for _, among_all in self._places])))

    def whitened(self) -> Single:
        """Return what the model's `predict` takes of the candidates, shape ``(n, m)``."""
        parts = self._model.whitened(self._compared)
        whitened = np.empty((len(parts[0]), len(self.keys)), np.float32)
        for part, (inside, among_all) in zip(parts, self._places, strict=True):
            whitened[:, among_all] = part[:, inside]
        return whitened
