"""The search space of DSO-NAS, and what the edges of its blocks cost."""

from automl_nas_dso.space.dso_space import DsoSpace, transfer
from automl_nas_dso.space.edges import Block, Cost, Edge, EdgeSpace

__all__ = ["Block", "Cost", "DsoSpace", "Edge", "EdgeSpace", "transfer"]
