"""Import torchvision where its compiled operators cannot be loaded.

torchvision's wheels are compiled against one build of torch. Beside another build (the index's wheel beside a CPU-only
torch, say) torchvision skips its compiled part, and its import then fails on two operators that it only describes:
``operator torchvision::nms does not exist``. Transforms and classification models need no compiled operator, so
defining the schemas of those two is enough. The import is tried first: beside the torch it was compiled against,
torchvision registers its operators itself, and a second registration would abort the process.

The core uses no torchvision; this module is here because several plugins do, and plugins do not import each other.
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
_libraries: list[torch.library.Library] = []  # a schema exists for as long as its library object does
_lock = threading.Lock()


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Return torchvision or one of its modules, such as ``torchvision.transforms.v2``.

    Defines the schemas of missing operators if, and only if, the import fails without them; an operator that exists is
    never redefined.

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
        f"torchvision cannot be imported beside torch {torch.__version__}: {error}; install the torchvision "
        "release that belongs to this torch release"
    )
