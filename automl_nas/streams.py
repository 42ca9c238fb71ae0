"""Named random streams: every random number of a run is a function of (seed, purpose, counter).

A stream has no state to save: whoever needs the n-th draw of a purpose asks for it by number, so a resumed run
continues exactly where the record ends.
"""

from __future__ import annotations

import hashlib
import random


def stream_seed(seed: int, purpose: str, counter: int = 0) -> int:
    """Return the 63-bit seed of the stream ``(seed, purpose, counter)``.

    The bits come from SHA-256, so streams of different purposes or counters are independent for every
    practical use, whatever their names. 63 bits fit every generator (torch, NumPy, Python).
    """
    digest = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, purpose: str, counter: int = 0) -> random.Random:
    """Return a fresh generator at the start of the stream ``(seed, purpose, counter)``."""
    return random.Random(stream_seed(seed, purpose, counter))
