"""What the files of a run directory hold, as shapes (`automl_nas.run.record.shapes`).

Checksums find damage. These shapes also refuse files that somebody made: nothing that reads a run has to expect other
types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl_nas.run.record.shapes import Checked, Each, Fields, Shape, at_least, one_of

_SCALAR: Shape = (None, bool, int, float, str)
ARCHITECTURE: Shape = Each((_SCALAR, [_SCALAR]))
_METRICS: Shape = Each(float)
_COSTS: Shape = Each((float, None))
_FIDELITY: Shape = (float, None)
_MAPPING: Shape = dict
_DIRECTIONS: Shape = Each(one_of("maximize", "minimize"))

_INTERVAL = Checked([float], lambda ends: "" if len(ends) == 2 else f"must have two numbers, not {len(ends)}")
_MEASUREMENT = Fields(
    {"value": float, "low": float, "high": float}, {"confidence": float, "details": _MAPPING}, closed=True
)

_TRIAL = Fields(
    {
        "number": at_least(0),
        "architecture": ARCHITECTURE,
        "metrics": _METRICS,
        "costs": _COSTS,
        "fidelity": _FIDELITY,
    }
)

_NETWORK = Fields(
    {
        "role": str,
        "trial": (at_least(0), None),
        "seed": int,
        "architecture": ARCHITECTURE,
        "costs": _COSTS,
    },
    {
        "space": (_MAPPING, None),
        "measured": Each(_MEASUREMENT),
        "search": _METRICS,
        "test": _METRICS,
        "test_interval": Each(_INTERVAL),
        "failed": str,
    },
)

_COMPARISON = Fields(
    {"with": str, "network": at_least(0), "difference": float},
    {"interval": _INTERVAL, "exceeds_noise": bool},
)

_LIMIT = Fields(
    {
        "cost": str,
        "unit": str,
        "limit": str,
        "predicted": (float, None),
        "measured": (_MEASUREMENT, None),
        "exported": (_MEASUREMENT, None),
        "margin": float,
        "met": bool,
    },
    closed=True,
)

_CONVERSION = Fields(
    {
        "file": str,
        "source": str,
        "method": str,
        "values": [
            Fields(
                {"name": str, "unit": str, "before": float, "after": float},
                {"before_interval": _INTERVAL, "after_interval": _INTERVAL},
                closed=True,
            )
        ],
    },
    closed=True,
)

_EXPORT_FAILURES: Shape = [Fields({"format": str, "error": str}, closed=True)]

_DELIVERED = Fields(
    {"network": at_least(0), "files": [str], "not_exported": _EXPORT_FAILURES, "budget": [_LIMIT]},
    {"export_notes": [str], "conversions": [_CONVERSION], "dominated_by": at_least(0)},
    closed=True,
)

_REPORT = Fields(
    {
        "metric": str,
        "chosen": at_least(0),
        "networks": [_NETWORK],
        "comparison": [_COMPARISON],
        "settings": _MAPPING,
        "files": [str],
    },
    {
        "not_exported": _EXPORT_FAILURES,
        "budget": [_LIMIT],
        "export_notes": [str],
        "conversions": [_CONVERSION],
        "dominated_by": at_least(0),
        "others": [_DELIVERED],
    },
)


def _unknown_network(report: Mapping[str, Any]) -> str:
    """Return what is wrong with the positions in a report of the final stage; empty if nothing is."""
    if report["chosen"] >= len(report["networks"]):
        return "has no network with the number 'chosen'"
    for delivered in (report, *report.get("others", ())):
        positions = [delivered.get(key, 0) for key in ("network", "dominated_by")]
        if max(positions) >= len(report["networks"]):
            return f"has no network with the number {max(positions)}, which 'others' or 'dominated_by' names"
    return ""


_FINAL = Checked(_REPORT, _unknown_network)

FINAL_STATE = Fields(
    {
        "networks": [_NETWORK],
        "trained": at_least(0),
        "report": (None, _FINAL),
        "measured": _MAPPING,
        "fit": (_MAPPING, None),
    },
    {
        "delivered": [_DELIVERED],
        "epoch_loss": Checked([float], lambda pair: "" if len(pair) == 2 else "must have two numbers"),
    },
)
"""The state of the final stage in a checkpoint."""

RESULT = Fields(
    {
        "status": one_of("complete"),
        "version": str,
        "seed": int,
        "stage": str,
        "architecture": (ARCHITECTURE, None),
        "best": (_TRIAL, None),
        "pareto": [_TRIAL],
        "stages": [
            Fields(
                {
                    "name": str,
                    "trials": at_least(0),
                    "states": Each(at_least(0)),
                    "problem": Fields({"objectives": _DIRECTIONS, "constraints": Each(str)}),
                    "best": (_TRIAL, None),
                    "pareto": [_TRIAL],
                    "units": Each(str),
                }
            )
        ],
        "final": (None, _FINAL),
    },
    closed=True,
)

_SPACE = Fields({"decisions": Each(str)}, {"modules": (Each([str]), None)})
IDENTITY = Fields(
    {"space": _SPACE, "final_space": (_SPACE, None), "task": (str, None), "final_task": (str, None)},
    {
        "earlier_data": [_MAPPING],
        "costs": _MAPPING,
        "runtime": _MAPPING,
        "files": Each((str, None)),
        "ranks": at_least(1),
        "earlier_ranks": [at_least(1)],
        "derived_from": Fields({"run": str, "by": str, "result": str}),
    },
    closed=True,
)

ENVIRONMENT = Each((str, None))

MEASURED = Each(_MAPPING)

NOTE = Fields({"sha256": str, "tied": Each(str), "space": _MAPPING, "space_fingerprint": str}, closed=True)
"""The JSON file beside the weights of an artifact."""

_PROBLEM: Shape = Fields(
    {}, {"objectives": (_DIRECTIONS, None), "constraints": (Each((str, Fields({"limit": str}), None)), None)}
)

_COMPONENT = Fields({"name": str})

_STAGE = Fields(
    {"name": str, "strategy": _COMPONENT},
    {
        "evaluator": (_COMPONENT, None),
        "pruner": (_COMPONENT, None),
        "problem": (_PROBLEM, None),
        "budget": (Fields({}, {"trials": (at_least(1), None)}), None),
    },
)

_FINAL_SECTION = Fields(
    {}, {"space": _COMPONENT, "task": _COMPONENT, "export": [_COMPONENT], "data": (str, None), "top_k": at_least(1)}
)

_RUNTIME = Fields(
    {},
    {
        "device": str,
        "precision": one_of("float32", "bfloat16", "float16"),
        "memory_format": one_of("channels_last", "contiguous"),
        "threads": at_least(1),
        "data_megabytes": float,
        "sync_batch_norm": bool,
    },
    closed=True,
)

_LENGTH = (None, float, [float])
_SHORTENED = Fields({"written": _LENGTH, "used": _LENGTH}, closed=True)

CONFIG = Fields(
    {
        "seed": at_least(0),
        "space": _COMPONENT,
        "problem": Fields(
            {
                "objectives": _DIRECTIONS,
                "constraints": Each((str, Fields({"limit": str}), None)),
            }
        ),
        "runtime": _RUNTIME,
        "stages": Checked([_STAGE], lambda stages: "" if stages else "must not be empty"),
        "executor": _COMPONENT,
        "checkpoint_seconds": float,
    },
    {
        "task": _COMPONENT,
        "final": (_FINAL_SECTION, None),
        "observers": [_COMPONENT],
        "check_networks": at_least(0),
        "budget": Fields({"minutes": float}, {"shortened": (Each(_SHORTENED), None)}),
        "smoke_above_minutes": (float, None),
    },
    closed=True,
)
"""``config.yaml``, as far as it is read before it is resolved."""


def checkpoint(stages: int) -> Shape:
    """Return the shape of a checkpoint of a run.

    Args:
        stages: the number of stages of the run, with the final stage.
    """
    pending = Fields(
        {"number": at_least(0), "architecture": ARCHITECTURE, "fidelity": _FIDELITY, "info": _MAPPING}, closed=True
    )
    return Fields(
        {"config": str, "stage": at_least(0, stages), "next_number": at_least(0), "metrics": at_least(0)},
        {
            "version": str,
            "steps": at_least(0),
            "strategy": (_MAPPING, None),
            "submitted": at_least(0),
            "failures": at_least(0),
            "seconds": float,
            "uncollected": [at_least(0)],
            "pending": [pending],
        },
    )
