"""What all tests share."""

from __future__ import annotations

import os

# Before torch is imported: tiny tensors are several times slower on many threads, and tests run in several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
