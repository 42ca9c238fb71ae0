"""The DARTS cell space: operations, networks of derived cells, the supernet, and the space itself."""

from automl_nas_gradient.space.darts_space import DartsSpace
from automl_nas_gradient.space.genotype import PUBLISHED, CellPlan, Genotype
from automl_nas_gradient.space.network import Layout, darts_network

__all__ = ["PUBLISHED", "CellPlan", "DartsSpace", "Genotype", "Layout", "darts_network"]
