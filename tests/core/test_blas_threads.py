"""One BLAS thread: inside of the block, until the outer one of two ends, and never for torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scipy.linalg  # noqa: F401 - only libraries that are loaded are seen
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from automl_nas.blas_threads import one_blas_thread


def blas_threads() -> set[int]:
    """Return the numbers of threads of the BLAS libraries of this process."""
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Two threads outside of the block, whatever the machine and its variables say."""
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("the BLAS of this machine has one thread")
        yield


def test_one_thread_until_the_block_ends() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_an_exception_ends_the_block() -> None:
    with pytest.raises(ValueError, match="stop"), one_blas_thread():
        raise ValueError("stop")
    assert blas_threads() == {2}


def test_blocks_inside_of_blocks() -> None:
    with one_blas_thread():
        with one_blas_thread():
            pass
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_blas_thread():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
