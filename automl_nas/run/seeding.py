"""The global random generators, set for each evaluation."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch


def seed_globally(seed: int) -> None:
    """Set the global generators (Python's, NumPy's, torch's on all devices) for one evaluation.

    So its result is a function of its seed, whatever was evaluated before. The session gives them back as they were.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    seed_accelerators = _accelerators()
    if seed_accelerators is not None:
        seed_accelerators(seed)


@cache
def _accelerators() -> Callable[[int], Any] | None:
    # torch.manual_seed would do it, but where there is no accelerator it records a stack trace, for one that might be
    # initialised later, at each call: 1 to 4 ms, more than the rest of the driver takes for a trial.
    if not torch.accelerator.is_available():
        return None
    module = torch.get_device_module(torch.accelerator.current_accelerator())
    return getattr(module, "manual_seed_all", None) or module.manual_seed  # type: ignore[no-any-return]
