"""Settings with which a component does a part of its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shortened:
    """Settings with which a component does a part of its work: `automl_nas.strategy.Strategy.shortened`.

    Attributes:
        share: of the work, above 0, at most 1.
        settings: the settings of the component that change, each with its whole value.
    """

    share: float
    settings: Mapping[str, Any]
