"""Sparse structure selection: train scales on parts of an ordinary network, and remove the parts whose scale is 0."""

from automl_nas_dso.sparse_structure.parts import find
from automl_nas_dso.sparse_structure.selection import SparseSelection

__all__ = ["SparseSelection", "find"]
