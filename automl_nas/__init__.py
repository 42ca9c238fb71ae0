"""automl_nas: plugin-based neural architecture search for PyTorch.

Importing this package imports neither torch nor any plugin; names load on first use. Functions of plugins, such as
``compress``, are attributes, too: the first use of a name that is not one of the core's loads the plugins.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from automl_nas._lazy import lazy_names
from automl_nas._version import __version__ as __version__

if TYPE_CHECKING:
    from automl_nas.evaluation.tasks.dataset_task import DatasetTask as DatasetTask
    from automl_nas.evaluation.tasks.tensor_task import TensorTask as TensorTask
    from automl_nas.run.api import (
        extend as extend,
        open_run as open_run,
        resume as resume,
        retrain as retrain,
        search as search,
    )
    from automl_nas.run.results import Result as Result
    from automl_nas.space.architecture import Architecture as Architecture
    from automl_nas.space.modules.choice import OneOf as OneOf
    from automl_nas.space.modules.space import ModuleSpace as ModuleSpace

_HOMES = {
    "run.api": (
        "extend",
        "open_run",
        "resume",
        "retrain",
        "search",
    ),
    "run.results": ("Result",),
    "evaluation.tasks.dataset_task": ("DatasetTask",),
    "evaluation.tasks.tensor_task": ("TensorTask",),
    "space.architecture": ("Architecture",),
    "space.modules.space": ("ModuleSpace",),
    "space.modules.choice": ("OneOf",),
}

__all__, _own, __dir__ = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    # The import system looks for submodules here first, and inspection for names with underscores.
    if name in __all__ or name.startswith("_") or find_spec(f"{__name__}.{name}") is not None:
        return _own(name)
    from automl_nas.plugin.manager import default_manager

    return default_manager().function(name)
