"""How the paths on which a supernet is trained are drawn: each rule is one class."""

from __future__ import annotations

from automl_nas_oneshot.paths.base import FairPaths, Paths, UniformPaths
from automl_nas_oneshot.paths.costs import BinnedPaths, FeasiblePaths
from automl_nas_oneshot.paths.ordered import SandwichPaths, WideningPaths

__all__ = ["BinnedPaths", "FairPaths", "FeasiblePaths", "Paths", "SandwichPaths", "UniformPaths", "WideningPaths"]
