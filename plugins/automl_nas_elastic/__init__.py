"""The plugin `elastic`: search spaces from existing models, with their weights.

`compress` and `ElasticSpace` are imported from here; they load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    import click

    from automl_nas_elastic.compression import Compression, compress
    from automl_nas_elastic.space import ElasticSpace
    from automl_nas_elastic.taylor import loss_products

__all__ = ["Compression", "ElasticSpace", "compress", "loss_products"]

_LAZY = {
    "Compression": "automl_nas_elastic.compression",
    "ElasticSpace": "automl_nas_elastic.space",
    "compress": "automl_nas_elastic.compression",
    "loss_products": "automl_nas_elastic.taylor",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The plugin manager searches `dir` for hooks, so it must contain all globals and not only the public names.
    return sorted({*globals(), *__all__})


@hookimpl
def register_spaces(register: Register) -> None:
    """Register ``from_model``."""
    register(
        "from_model",
        "automl_nas_elastic.space:from_model",
        summary="a model of torchvision, timm or your own: widths, depths and kernels of it, with its weights",
    )


@hookimpl
def register_strategies(register: Register) -> None:
    """Register ``narrowed_first``."""
    register(
        "narrowed_first",
        "automl_nas_elastic.narrowed_first:NarrowedFirst",
        summary="the uniformly narrower networks under the constraints, then what another strategy proposes",
    )


@hookimpl
def register_functions(register: Register) -> None:
    """Offer ``automl_nas.compress``."""
    register(
        "compress",
        "automl_nas_elastic.compression:compress",
        summary="Make a trained model smaller under limits, and compare both.",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add ``automl-nas compress``."""
    from automl_nas_elastic.command import compress as command

    cli.add_command(command)
