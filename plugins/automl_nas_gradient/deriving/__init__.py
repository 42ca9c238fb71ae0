"""Deriving networks from probabilities: the most probable ones that meet all limits."""

from automl_nas_gradient.deriving.deriver import Derived, Deriver, DeriveSettings

__all__ = ["DeriveSettings", "Derived", "Deriver"]
