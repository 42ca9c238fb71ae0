"""Importing torchvision where its compiled operators cannot be loaded.

torchvision's wheels are compiled against one build of torch. Beside another one (the index's wheel beside a CPU-only
torch, say) the compiled part is skipped, and then the import fails on two operators that it only wants to describe:
``operator torchvision::nms does not exist``. Transforms need none of the compiled operators, so it is enough to define
the schemas of those two.
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
_library: list[torch.library.Library] = []  # the schemas exist for as long as the library object does
_lock = threading.Lock()


def transforms_v2() -> ModuleType:
    """Return ``torchvision.transforms.v2``, defining missing operator schemas first where the import needs them.

    An operator that exists is never touched.

    Raises:
        PluginError: torchvision cannot be imported for another reason.
    """
    with _lock:
        try:
            return _import()
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise _refusal(error) from error
        except (ImportError, OSError) as error:
            raise _refusal(error) from error
        define_missing_schemas()
        try:
            return _import()
        except (RuntimeError, ImportError, OSError) as error:
            raise _refusal(error) from error


def define_missing_schemas() -> tuple[str, ...]:
    """Define the schemas of the operators that torchvision's import wants and that do not exist; return their names."""
    missing = tuple(name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name))
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in missing:
            library.define(_SCHEMAS[name])  # type: ignore[no-untyped-call]
        _library.append(library)
    return missing


def _import() -> ModuleType:
    return importlib.import_module("torchvision.transforms.v2")


def _refusal(error: BaseException) -> PluginError:
    return PluginError(
        f"torchvision cannot be imported beside torch {torch.__version__}: {error}; install the torchvision that "
        "belongs to it, or use an augmentation that does not need it (crop, flip, cutout, shift, crop_flip, none)"
    )
