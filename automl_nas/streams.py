"""Named random streams: every random number of a run is a function of (seed, purpose, counter).

A stream has no state to save: the n-th stream of a purpose is requested by its counter, so a resumed run continues
exactly where its ledger ends.
"""

from __future__ import annotations

import hashlib
import random


def stream_seed(seed: int, purpose: str, counter: int = 0) -> int:
    """Return the 63-bit seed of the stream ``(seed, purpose, counter)``.

    The bits come from SHA-256, so streams of different purposes or counters are independent for every practical use,
    even if their names are similar. 63 bits fit every generator (torch, NumPy, Python).
    """
    digest = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, purpose: str, counter: int = 0) -> random.Random:
    """Return a fresh generator at the start of the stream ``(seed, purpose, counter)``."""
    return random.Random(stream_seed(seed, purpose, counter))
