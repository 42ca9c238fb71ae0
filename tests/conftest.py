"""What all tests share."""

from __future__ import annotations

import os

import pytest

# Before torch is imported: tiny tensors are several times slower on many threads, and tests run in several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither read nor write what the user's own runs measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
