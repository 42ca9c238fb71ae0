"""The processes of one run: a single one, or the ranks that torchrun started.

All ranks run the same program on the same values. Where a value depends on the moment or the machine (a clock, a
signal, a measurement, a file), the ranks use that of rank 0. They exchange JSON in tensors, never pickles, so that no
rank executes what another one sent.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, final

from automl_nas.errors import AutoMLNASError, ConfigurationError, RanksEndedError, RunInterrupted

if TYPE_CHECKING:
    from torch import Tensor

ValueT = TypeVar("ValueT")

TIMEOUT = "AUTOML_NAS_RANK_TIMEOUT"
"""The environment variable with the seconds that a rank waits for the others within a step; by default 1800."""

_FOREVER = timedelta(days=365)
_GRACE = 2.0
"""Seconds in which a rank that fails has told the others why, before they take it for killed."""


class Ranks:
    """The ranks of a run, as one of them sees them.

    Every method is called by all ranks, in the same order. With a single process each returns at once.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.
    """

    rank: int = 0
    size: int = 1

    def agree(self, value: ValueT) -> ValueT:
        """Return the value of rank 0 on all ranks; it is JSON data."""
        return value

    def gather(self, value: ValueT) -> list[ValueT]:
        """Return the values of all ranks, which are JSON data, in the order of the ranks."""
        return [value]

    def lead(self, function: Callable[[], ValueT]) -> ValueT | None:
        """Let rank 0 call a function while the others wait; they return None.

        Raises:
            RanksEndedError: the function raised in rank 0, which has its own error.
        """
        return function()

    def in_turn(self, function: Callable[[], ValueT]) -> ValueT:
        """Call a function in rank 0 and then in all others; return what it returned in this rank."""
        return function()

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in a rank."""
        return any(self.gather(flag))

    def refuse(self, problem: str) -> None:
        """Raise the first problem of a rank in all ranks, with its number.

        Args:
            problem: of this rank; empty: it has none.

        Raises:
            ConfigurationError: a rank has a problem.
        """
        for rank, text in enumerate(self.gather(problem)):
            if text:
                raise ConfigurationError(f"rank {rank} cannot take part: {text}" if self.size > 1 else text)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Tell the others why this rank fails; or name the lost rank with which an exchange failed.

        Raises:
            RanksEndedError: another rank failed or ended.
        """
        yield


@final
class _Group(Ranks):
    """Several processes, which torch.distributed connects.

    Args:
        store: of the group; it outlives a rank that is killed, since torchrun's agent holds it. None: the group was
            made by somebody else.
    """

    def __init__(self, store: Any = None) -> None:
        import torch.distributed as dist

        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._store, self._group, self._ended, self._guards = store, None, False, 0

    def agree(self, value: ValueT) -> ValueT:
        data = self._broadcast(_encoded(value) if self.rank == 0 else b"")
        agreed: ValueT = json.loads(data)
        return agreed

    def gather(self, value: ValueT) -> list[ValueT]:
        return [json.loads(data) for data in self._gather(_encoded(value))]

    def lead(self, function: Callable[[], ValueT]) -> ValueT | None:
        value: ValueT | None = None
        if self.rank == 0:
            try:
                with _leading():
                    value = function()
            except BaseException as error:
                self._tell(error)
                with contextlib.suppress(AutoMLNASError):
                    self.agree(_one_line(error))
                raise
        if failure := self.agree(""):
            raise RanksEndedError(f"rank 0 failed: {failure}", silent=True)
        return value

    def in_turn(self, function: Callable[[], ValueT]) -> ValueT:
        led = self.lead(lambda: (function(),))
        return function() if led is None else led[0]

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        self._guards += 1
        self._ended = False
        try:
            yield
        except (RunInterrupted, RanksEndedError):
            raise  # all ranks stop; or this rank knows already
        except BaseException as error:
            if _is_lost(error):
                raise self._lost(error) from error
            text = _one_line(error)
            first = self._tell(error)
            if first is not None and first[0] != self.rank and first[1] == text:
                # An error that all ranks meet is shown by one of them.
                raise RanksEndedError(f"rank {first[0]} failed: {text}", silent=True) from error
            raise

    def _tell(self, error: BaseException) -> tuple[int, str] | None:
        """Let the other ranks know why this one ends; return the rank that did so first, and why."""
        if self._store is None:
            return None
        self._ended = True
        with contextlib.suppress(Exception):  # the machine that holds the store may be gone
            own = json.dumps([self.rank, _one_line(error)])
            rank, text = json.loads(self._store.compare_set(self._key("failure"), "", own))
            self._store.add(self._key(f"known/{self.rank}"), 1)
            return rank, text
        return None

    def _lost(self, error: BaseException) -> RanksEndedError:
        """Return the error of a rank whose exchange with another one failed."""
        self._ended = True
        if self._store is None:
            return RanksEndedError(f"another rank ended: {_one_line(error)}")
        with contextlib.suppress(Exception):
            self._store.add(self._key(f"known/{self.rank}"), 1)
            failure = self._failure()
            if failure is not None:
                rank, text = failure
                return RanksEndedError(f"rank {rank} failed: {text}", silent=self.rank != 0)
            first = self._store.add(self._key("reported"), 1) == 1
            lost = [rank for rank in range(self.size) if self._store.add(self._key(f"known/{rank}"), 0) == 0]
            names = ", ".join(map(str, lost)) or "unknown"
            noun = "rank" if len(lost) == 1 else "ranks"
            return RanksEndedError(
                f"{noun} {names} ended without a message (killed, or out of memory?), so all ranks end",
                silent=not first,
            )
        return RanksEndedError(f"the connection to the other ranks failed: {_one_line(error)}")

    def _failure(self) -> tuple[int, str] | None:
        """Return the rank that failed and its message; None if no rank tells one."""
        end = time.monotonic() + _GRACE
        while time.monotonic() < end:
            if self._store.check([self._key("failure")]):
                rank, text = json.loads(self._store.get(self._key("failure")))
                return rank, text
            time.sleep(0.05)
        return None

    def _key(self, name: str) -> str:
        """Return a key of the store: a script may begin several runs, and go on after one that fails in all ranks."""
        return f"{self._guards}/{name}"

    def _broadcast(self, data: bytes) -> bytes:
        import torch
        import torch.distributed as dist

        length = torch.tensor([len(data)])
        self._wait(lambda group: dist.broadcast(length, 0, group=group, async_op=True))
        content = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.rank == 0 else _empty(int(length))
        if len(content):
            self._wait(lambda group: dist.broadcast(content, 0, group=group, async_op=True))
        return content.numpy().tobytes()

    def _gather(self, data: bytes) -> list[bytes]:
        import torch
        import torch.distributed as dist

        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._wait(lambda group: dist.all_gather(lengths, torch.tensor([len(data)]), group=group, async_op=True))
        longest = max(map(int, lengths))
        own = torch.frombuffer(bytearray(data.ljust(longest)), dtype=torch.uint8)
        parts = [_empty(longest) for _ in range(self.size)]
        self._wait(lambda group: dist.all_gather(parts, own, group=group, async_op=True))
        return [part.numpy().tobytes()[: int(length)] for part, length in zip(parts, lengths, strict=True)]

    def _wait(self, begin: Callable[[Any], Any]) -> None:
        """Begin an exchange and wait for its end.

        Without a time limit: another rank may evaluate a candidate for hours. A rank that dies ends the exchange at
        once, and between two looks Python handles signals.
        """
        import torch.distributed as dist

        if self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=_FOREVER)
        work, pause = begin(self._group), 1e-5
        while not work.is_completed():
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        work.wait()


SOLO = Ranks()
"""A single process."""

_process: Ranks = SOLO
_alone = 0
"""Whether rank 0 works while the others wait, at several levels perhaps."""


@contextlib.contextmanager
def _leading() -> Iterator[None]:
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def process_ranks() -> Ranks:
    """Return the ranks of which this process is one; a single one if torch.distributed is not initialised.

    While rank 0 works alone (`Ranks.lead`), it is a single process.
    """
    global _process
    if _alone:
        return SOLO
    if _process is SOLO and _is_initialised():
        _process = _Group()
    elif _process is not SOLO and not _is_initialised():
        _process = SOLO
    return _process


def started_by_torchrun() -> bool:
    """Return whether torchrun started this process as one of several.

    Raises:
        ConfigurationError: ``WORLD_SIZE`` is not a number.
    """
    size = os.environ.get("WORLD_SIZE", "").strip() or "1"
    if not re.fullmatch("[0-9]{1,9}", size):
        raise ConfigurationError(
            f"the environment variable WORLD_SIZE is {size!r}, and must be the number of processes that torchrun "
            "started; unset it"
        )
    return int(size) > 1


def join_ranks() -> Ranks:
    """Connect this process with the others that torchrun started, unless it is connected; return the ranks.

    Raises:
        ConfigurationError: the environment is not that of torchrun, or the other processes cannot be reached.
    """
    global _process
    if not started_by_torchrun() or _is_initialised():
        return process_ranks()
    import torch
    import torch.distributed as dist
    from torch.distributed import distributed_c10d
    from torch.distributed.rendezvous import rendezvous

    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ConfigurationError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and {', '.join(missing)} is not set; start the processes with "
            "torchrun, or unset WORLD_SIZE"
        )
    timeout = timedelta(seconds=_timeout())
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"rank {os.environ['RANK']} cannot reach the other processes of torchrun at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']}: {_one_line(error)}"
        ) from error
    _process = _Group(distributed_c10d.PrefixStore("automl_nas", store))
    atexit.register(_leave)
    return _process


def exchange_failed(error: BaseException) -> bool:
    """Return whether an error is that of an exchange between ranks, one of which is gone or does not answer."""
    return process_ranks().size > 1 and _is_lost(error)


def average(tensors: list[Tensor], size: int) -> None:
    """Replace tensors by their mean over all ranks: all of a type and device in one exchange."""
    import torch
    import torch.distributed as dist

    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in groups.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        flat /= size
        parts = torch.split(flat, [tensor.numel() for tensor in group])
        torch._foreach_copy_(group, [part.view_as(tensor) for part, tensor in zip(parts, group, strict=True)])


def _is_initialised() -> bool:
    import sys

    distributed = sys.modules.get("torch.distributed")  # not imported: not initialised
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _leave() -> None:
    import torch.distributed as dist

    with contextlib.suppress(Exception):
        if dist.is_initialized() and not (isinstance(_process, _Group) and _process._ended):
            dist.destroy_process_group()


def _timeout() -> float:
    text = os.environ.get(TIMEOUT, "").strip() or "1800"
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < 1e8:
            return seconds
    raise ConfigurationError(f"the environment variable {TIMEOUT} is {text!r}, and must be a number of seconds")


def _encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def _empty(length: int) -> Tensor:
    import torch

    return torch.empty(length, dtype=torch.uint8)


def _one_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split())
    return text[:2000] if isinstance(error, AutoMLNASError) and text else f"{type(error).__name__}: {text[:500]}"


def _is_lost(error: BaseException | None) -> bool:
    """Whether an exchange with another rank is the cause of an error."""
    import torch.distributed as dist

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, dist.DistError):
            return True
        if isinstance(error, RuntimeError) and re.search("gloo|ncclUnhandled|NCCL", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
