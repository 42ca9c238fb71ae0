"""The seeds of trials, and the global random generators that are set from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from automl_nas.streams import stream_seed


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a trial: 31 bits of the stream ``(seed, "trial", number)``.

    Args:
        seed: of the stage.
        number: of the trial.
    """
    return stream_seed(seed, "trial", number) & 0x7FFFFFFF


def seed_globally(seed: int) -> None:
    """Set the global generators (Python, NumPy, torch on all devices) for one evaluation.

    The result of the evaluation is then a function of its seed, independent of earlier evaluations. The session
    restores the generators when the run ends.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    seed_accelerators = _accelerators()
    if seed_accelerators is not None:
        seed_accelerators(seed)


@cache
def _accelerators() -> Callable[[int], Any] | None:
    # torch.manual_seed would seed them too. Without an accelerator it records a stack trace at each call, for one that
    # might be initialised later: that takes 1 to 4 ms, more than everything else that the driver does for a trial.
    if not torch.accelerator.is_available():
        return None
    module = torch.get_device_module(torch.accelerator.current_accelerator())
    return getattr(module, "manual_seed_all", None) or module.manual_seed  # type: ignore[no-any-return]
