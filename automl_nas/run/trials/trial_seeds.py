"""The global random generators, set for each evaluation."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from functools import cache
from typing import Any, final

import numpy as np
import torch


@final
class TrialSeeds:
    """The seeds of a stage's trials: 31 bits of the stream ``(seed, "trial", number)``.

    It is `stream_seed` for many counters of one purpose, for what stands before the counter is hashed once.

    Args:
        seed: of the stage.
    """

    def __init__(self, seed: int) -> None:
        self._begun = hashlib.sha256(f"{seed}\x1ftrial\x1f".encode())

    def __call__(self, number: int) -> int:
        """Return the seed of a trial."""
        hashed = self._begun.copy()
        hashed.update(b"%d" % number)
        return (int.from_bytes(hashed.digest()[:8], "big") >> 1) & 0x7FFFFFFF


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
