"""Observers of collapse: the share of skip connections, and the dominant eigenvalue of the Hessian in alpha."""

from automl_nas_gradient.collapse.eigenvalue import DominantEigenvalue, largest_eigenvalue
from automl_nas_gradient.collapse.observers import CollapseObserver, CollapseSettings, SkipShare, Stop

__all__ = ["CollapseObserver", "CollapseSettings", "DominantEigenvalue", "SkipShare", "Stop", "largest_eigenvalue"]
