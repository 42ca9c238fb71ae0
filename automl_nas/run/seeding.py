"""The global random generators around evaluations: set for each, and given back as they were."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch


def seed_globally(seed: int) -> None:
    """Set the global generators (Python's, NumPy's, torch's on all devices) for one evaluation.

    So its result is a function of its seed, whatever was evaluated before.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    seed_accelerators = _accelerators()
    if seed_accelerators is not None:
        seed_accelerators(seed)


class GlobalState:
    """The global generators as they are now.

    A process that evaluates in place is also somebody's notebook: what he draws must not depend on it.
    """

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def restore(self) -> None:
        """Make them so again."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)


@cache
def _accelerators() -> Callable[[int], Any] | None:
    # torch.manual_seed would do it, but where there is no accelerator it records a stack trace, for one that might be
    # initialised later, at each call: 1 to 4 ms, more than the rest of the driver takes for a trial.
    if not torch.accelerator.is_available():
        return None
    module = torch.get_device_module(torch.accelerator.current_accelerator())
    return getattr(module, "manual_seed_all", None) or module.manual_seed  # type: ignore[no-any-return]
