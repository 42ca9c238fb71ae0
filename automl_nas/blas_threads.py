"""How many threads compute with small matrices: `one_blas_thread`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy and scipy multiply and factor matrices with one thread inside of the ``with`` block.

    numpy and scipy bring a BLAS library each, and each starts as many threads as there are cores. These wait for work
    in a loop that takes a core, so code that calls both libraries in turn with matrices of a few hundred rows is
    several times slower with many threads than with one (``benchmarks/blas_threads.py``). And sums are rounded in
    another order with another number of threads, so results would depend on the number of cores.

    The number of threads belongs to the process: of blocks in several threads, the one that began first decides.
    """
    libraries = _libraries()
    # To set a number takes several times as long as to read it, and blocks inside of others have one thread already.
    if all(library.num_threads == 1 for library in libraries.lib_controllers):
        yield
    else:
        with libraries.limit(limits=1):
            yield


@functools.cache
def _libraries() -> Any:
    # Only libraries that are loaded are found, which takes 30 ms, so both packages are asked to load theirs.
    import numpy.linalg  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
