"""The search strategy `DSO`: settings, training, progress report, and the files of its result."""

from automl_nas_dso.strategy.dso import DSO

__all__ = ["DSO"]
