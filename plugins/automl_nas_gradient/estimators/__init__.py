"""Estimators: how weights of options are made from alpha, so that the loss has a gradient with respect to alpha."""

from automl_nas_gradient.estimators.base import Draw, Estimator
from automl_nas_gradient.estimators.dirichlet import DirichletWeights
from automl_nas_gradient.estimators.gates import BinaryGates
from automl_nas_gradient.estimators.gumbel import GumbelSoftmax, StraightThroughGumbel
from automl_nas_gradient.estimators.softmax import Softmax

__all__ = [
    "BinaryGates",
    "DirichletWeights",
    "Draw",
    "Estimator",
    "GumbelSoftmax",
    "Softmax",
    "StraightThroughGumbel",
]
