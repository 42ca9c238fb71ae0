"""Import torchvision in environments where its compiled operators cannot be loaded.

A torchvision wheel is compiled against one build of torch. With another build (e.g. a CPU-only torch) torchvision skips
its compiled part, and its import fails because it registers meta kernels for two missing operators: ``operator
torchvision::nms does not exist``. Transforms and classification models need no compiled operator, so that defining the
schemas of these two operators is enough. The import is tried first: with the build of torch that it was compiled
against, torchvision registers its operators itself, and a second registration would abort the process.

The core does not use torchvision. This module is in the core because several plugins use torchvision, and plugins do
not import each other.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType

import torch

from automl_nas.errors import PluginError

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[torch.library.Library] = []  # a schema exists only as long as its library object
_lock = threading.Lock()


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Return torchvision or one of its modules, such as ``torchvision.transforms.v2``.

    If the import fails because of missing operators, their schemas are defined and the import is repeated. Existing
    operators are never redefined.

    Raises:
        PluginError: torchvision cannot be imported for another reason.
    """
    with _lock:
        try:
            return importlib.import_module(module)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise _import_error(error) from error
        except (ImportError, OSError) as error:
            raise _import_error(error) from error
        _define_missing_schemas()
        try:
            return importlib.import_module(module)
        except (RuntimeError, ImportError, OSError) as error:
            raise _import_error(error) from error


def _define_missing_schemas() -> None:
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(schema)  # type: ignore[no-untyped-call]
            _libraries.append(library)


def _import_error(error: BaseException) -> PluginError:
    return PluginError(
        f"torchvision cannot be imported with torch {torch.__version__}: {error}; install the torchvision "
        "release for this torch release"
    )
