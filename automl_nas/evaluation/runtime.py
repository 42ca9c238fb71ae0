"""The runtime of a process: device, precision, memory format, threads, seeds, data-parallel training."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from automl_nas.depthwise_gradient import use_fast_gradients
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.ranks import SOLO, Ranks, average, process_ranks
from automl_nas.onednn_guard import guard_convolutions
from automl_nas.streams import stream_seed

if TYPE_CHECKING:
    from automl_nas.evaluation.task import Batch, Task

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_SAMPLES = 8
"""Number of samples of a batch that a sparing runtime computes or trains on, on the CPU."""


class Runtime:
    """Device, precision, memory format, threads and seeds of a run.

    ``auto`` for the precision or the memory format must be replaced before: `automl_nas.evaluation.tune` chooses the
    fastest options of this machine when a configuration is resolved, and the run directory holds the choice.

    Args:
        device: ``auto`` (a GPU if there is one), or an argument of `torch.device`. Under torchrun, ``auto`` and
            ``cuda`` are the GPU of the local rank.
        precision: ``float32``, or ``bfloat16`` or ``float16`` by autocast. `Fit` scales losses in float16, which
            needs a CUDA device.
        memory_format: ``channels_last`` or ``contiguous``, for 4-dimensional tensors.
        threads: the number of CPU threads of torch; None: torch's default. The number is recorded with the run, since
            the rounding of sums depends on it.
        data_megabytes: data sets in memory up to this size (1e6 bytes) are copied to the device once, unless it is the
            CPU; 0: never. It has no influence on results.
        sync_batch_norm: whether, under torchrun, batch normalisation in training uses the statistics of the batches of
            all ranks (`torch.nn.SyncBatchNorm`, on CUDA devices) instead of those of each rank's own.
        needed: whether the device must be available. False: an unavailable device is an error when something is first
            computed on it, as in a run whose evaluations other processes do.

    Raises:
        ConfigurationError: the device is needed and not available, a value is ``auto``, or several ranks of a machine
            would share a GPU.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32",
        memory_format: Literal["channels_last", "contiguous", "auto"] = "channels_last",
        threads: int | None = None,
        data_megabytes: float = 1024.0,
        sync_batch_norm: bool = False,
        needed: bool = True,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        self._recorded = device
        device = _of_local_rank(device)
        self._name, self._unavailable = device, ""
        self._predicted: int | None = None
        self._alone = False
        self.sync_batch_norm = sync_batch_norm
        try:
            self._device = torch.device(device)
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError) as error:
            self._unavailable = str(error).splitlines()[0]
        for name, value, options in (
            ("precision", precision, ("float32", "bfloat16", "float16")),
            ("memory_format", memory_format, ("channels_last", "contiguous")),
        ):
            if value not in options:
                hint = "; tune() replaces auto" if value == "auto" else ""
                raise ConfigurationError(
                    f"{name} must be {' or '.join(options)}, not {value!r}{hint}", path=f"runtime.{name}"
                )
        if threads is not None and threads < 1:
            raise ConfigurationError(f"threads must be at least 1, not {threads}", path="runtime.threads")
        self.precision = precision
        self.memory_format = memory_format
        if not data_megabytes >= 0:
            raise ConfigurationError(f"must be at least 0, not {data_megabytes}", path="runtime.data_megabytes")
        self.threads = threads or torch.get_num_threads()
        self.data_megabytes = data_megabytes
        self._resident: list[tuple[Task, Task]] = []
        self._divided: list[Task] = []  # whose batches divide among the ranks
        if needed:
            self.require()
        self._format = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format

    def require(self, why: str = "") -> None:
        """Raise an error if the device is not available.

        Args:
            why: a clause of the message: what needs the device.

        Raises:
            ConfigurationError: the device is not available, or cannot compute in the precision.
        """
        if self._unavailable:
            raise ConfigurationError(
                f"the device '{self._name}' is not available ({self._unavailable}){why and f'; {why}'}; use auto or "
                "cpu",
                path="runtime.device",
            )
        if self.precision == "float16" and self._device.type != "cuda":
            raise ConfigurationError(
                f"float16 needs a CUDA device, and the device is {self._device}; use bfloat16 or float32",
                path="runtime.precision",
            )
        if self.sync_batch_norm and self._device.type != "cuda":
            raise ConfigurationError(
                f"torch synchronises batch normalisation on CUDA devices only, and the device is {self._device}; leave "
                "it out",
                path="runtime.sync_batch_norm",
            )

    @property
    def device(self) -> torch.device:
        """The device.

        Raises:
            ConfigurationError: it is not available.
        """
        self.require()
        return self._device

    def settings(self) -> dict[str, object]:
        """Return the settings in use, for the run directory; a Runtime with these settings computes the same."""
        return {
            # Not that of this rank.
            "device": self._recorded if self._unavailable or self._recorded == "cuda" else str(self._device),
            "precision": self.precision,
            "memory_format": self.memory_format,
            "threads": self.threads,
            "data_megabytes": self.data_megabytes,
            **({"sync_batch_norm": True} if self.sync_batch_norm else {}),
        }

    def activate(self) -> None:
        """Set the number of CPU threads of this process, and make CUDA use deterministic convolutions only."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        if self._kind == "cuda":
            # The others add up in the order in which threads finish: a resumed run would not repeat its numbers.
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False

    def place(self, module: ModuleT) -> ModuleT:
        """Move a module to the device and into the memory format, in place; return it.

        On the CPU, narrow strided 1x1 convolutions compute on contiguous tensors (`automl_nas.onednn_guard`), and the
        gradients of depthwise ones on small feature maps by products of matrices (`automl_nas.depthwise_gradient`).
        """
        module.to(device=self.device, memory_format=self._format)  # type: ignore[call-overload]
        guard_convolutions(module)
        use_fast_gradients(module)
        return module

    def tensor(self, value: Tensor) -> Tensor:
        """Return a batch on the device; 4-dimensional inputs are converted to the memory format."""
        if value.dim() == 4:
            return value.to(device=self.device, memory_format=self._format, non_blocking=True)
        return value.to(device=self.device, non_blocking=True)

    def resident(self, task: Task) -> Task:
        """Return a task whose samples are on the device, if they are in memory and small enough; else the task itself.

        They are copied at the first call for a task. On the CPU this is always the task itself.
        """
        if not self.data_megabytes or self._kind == "cpu":
            return task
        for held, copied in self._resident:
            if held is task:
                return copied
        copied = task.on_device(self.device, self.data_megabytes * 1e6)
        self._resident.append((task, copied))
        return copied

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context manager for forward passes."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))

    def predictor(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """Set a network to evaluation mode; return it as a function from CPU inputs to CPU outputs (float32)."""
        model.eval()
        computed: list[Tensor] = []

        def compute(inputs: Tensor) -> Tensor:
            with torch.inference_mode(), self.autocast():
                outputs: Tensor = model(self.tensor(inputs))
            return outputs.float().cpu()

        def predict(inputs: Tensor) -> Tensor:
            if self._predicted is None:
                return compute(inputs)
            if len(computed) >= self._predicted:
                first = computed[0][:1]
                return first.expand(len(inputs), *first.shape[1:]).clone()
            count = _SAMPLES if self._kind == "cpu" else len(inputs)
            computed.append(compute(inputs[:count]))
            return computed[-1][torch.arange(len(inputs)) % count] if len(inputs) > count else computed[-1]

        return predict

    def sparing(self, batches: int) -> Runtime:
        """Return a runtime whose predictors compute the first batches only, for runs that only try what works.

        The outputs of further batches repeat those of the first sample, so that whole splits can be scored. On the
        CPU a large batch is not computed as a whole either: its outputs repeat those of the first samples, and of a
        training batch only the first samples are trained on. On a GPU it is, since the memory may be too small for it.
        Statistics of batch normalisation are recalibrated on as many batches, too (`first_batches`).

        Args:
            batches: number of batches that each predictor computes, at least 1.
        """
        runtime = copy.copy(self)
        runtime._predicted = batches
        return runtime

    def first_batches(self, batches: Iterable[Tensor]) -> Iterable[Tensor]:
        """Return batches of inputs; of a sparing runtime the first ones, on the CPU their first samples; see `sparing`.

        No further batch is read.
        """
        if self._predicted is None:
            return batches
        first = islice(batches, self._predicted)
        return (inputs[:_SAMPLES] for inputs in first) if self._kind == "cpu" else first

    @contextlib.contextmanager
    def seeded(self, seed: int, purpose: str, counter: int = 0) -> Iterator[None]:
        """Set the global generators of torch, NumPy and Python to a named stream, and restore them afterwards.

        For code that takes no generator argument: initialisation, dropout, transforms. The core uses this context
        manager around every build, training iteration and evaluation, so that plugins never set seeds. It can be
        nested.
        """
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        accelerator = self._accelerator_state()
        self.reseed(seed, purpose, counter)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
            self._restore_accelerator(accelerator)

    def reseed(self, seed: int, purpose: str, counter: int = 0) -> None:
        """Set the global generators to another stream. Call it only inside `seeded`, which restores them.

        Saving and restoring the generators takes 0.1 ms, most of it for NumPy's; this method takes a tenth of that. A
        training loop is therefore wrapped once and reseeded at each iteration.
        """
        value = stream_seed(seed, purpose, counter)
        random.seed(value)
        np.random.seed(value & 0xFFFFFFFF)
        # Not torch.manual_seed: it also seeds all other devices of the machine, which would not be restored.
        torch.default_generator.manual_seed(value)
        if self._kind == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(value)
        elif self._kind != "cpu":
            torch.get_device_module(self.device).manual_seed(value)

    @property
    def _kind(self) -> str:
        """The type of the device whose generator is seeded; an unavailable device has none."""
        return "cpu" if self._unavailable else self._device.type

    def _accelerator_state(self) -> Tensor | None:
        if self._kind == "cuda":
            return torch.cuda.get_rng_state(self.device)
        if self._kind == "cpu":
            return None
        state: Tensor = torch.get_device_module(self.device).get_rng_state()
        return state

    def _restore_accelerator(self, state: Tensor | None) -> None:
        if state is None:
            return
        if self._kind == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.get_device_module(self.device).set_rng_state(state)

    @property
    def ranks(self) -> Ranks:
        """The processes that work together: those of torchrun, or this one alone."""
        return SOLO if self._alone else process_ranks()

    @property
    def world_size(self) -> int:
        """The number of data-parallel processes; 1 without torchrun."""
        return self.ranks.size

    @property
    def rank(self) -> int:
        """The rank of this process among the data-parallel processes, counted from 0."""
        return self.ranks.rank

    def alone(self) -> Runtime:
        """Return a runtime for work that this process does by itself, whatever the other ranks do meanwhile."""
        runtime = copy.copy(self)
        runtime._alone = True
        return runtime

    def parallel(self, net: nn.Module) -> nn.Module:
        """Return a network for data-parallel training: the network itself, or under torchrun a wrapper of it.

        All ranks begin with the weights of rank 0. The gradients are the means over the ranks. Parameters that a step
        does not use (those of candidates that were not drawn) have gradient None on all ranks. Statistics of batch
        normalisation are those of each rank until `synchronise`.
        """
        if self.world_size == 1:
            return net
        if self.sync_batch_norm:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        wrapper: Any = nn.parallel.DistributedDataParallel
        # The name of the setting in torch 2.13, and before.
        names = inspect.signature(wrapper).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        parallel: nn.Module = wrapper(net, find_unused_parameters=True, **{buffers: False})
        return parallel

    def synchronise(self, net: nn.Module) -> None:
        """Replace the buffers of a network by their means over the ranks; without torchrun, nothing happens.

        For the running statistics of batch normalisation, which are moving averages: the mean of the ranks' averages is
        the average of the ranks' means, so that they may be synchronised after any number of iterations.
        """
        if self.world_size > 1:
            average([buffer for buffer in net.buffers() if buffer.is_floating_point()], self.world_size)

    def shard(self, batch: Tensor) -> Tensor:
        """Return the part of a batch for this process: every world_size-th sample, starting at number ``rank``.

        Raises:
            ConfigurationError: the batch size is not a multiple of the number of processes, so that the mean of their
                gradients would not be the gradient of the batch.
        """
        if self.world_size == 1:
            return batch
        check_divides(len(batch), self.world_size)
        return batch[self.rank :: self.world_size]

    def batches(self, task: Task, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Return the training batches of a task; under torchrun, the part of each batch for this process.

        A sparing runtime on the CPU returns the first samples of each batch only; see `sparing`.

        Raises:
            ConfigurationError: the batch size is not a multiple of the number of processes.
        """
        ranks = self.ranks
        if ranks.size == 1:
            batches = iter(task.batches(split, epoch, seed, start))
            if self._predicted is None or self._kind != "cpu":
                return batches
            return ((inputs[:_SAMPLES], targets[:_SAMPLES]) for inputs, targets in batches)
        if not any(each is task for each in self._divided):
            check_divides(len(next(iter(task.batches(split, 0, seed)))[0]), ranks.size)
            self._divided.append(task)
        return iter(task.batch_parts(split, epoch, seed, start, rank=ranks.rank, size=ranks.size))

    def reduce(self, tensors: Sequence[Tensor]) -> None:
        """Average tensors over all processes, in place: gradients of alpha, lambda or a policy."""
        if self.world_size > 1:
            average(list(tensors), self.world_size)


def check_divides(batch: int, size: int, path: str = "task.batch_size") -> None:
    """Check that all ranks receive as many samples of a batch, so that their mean gradient is that of the batch.

    Args:
        batch: the number of samples of a batch.
        size: the number of ranks.
        path: of the batch size in the configuration.

    Raises:
        ConfigurationError: the batch is not a multiple of the number of ranks.
    """
    if batch % size:
        raise ConfigurationError(
            f"a batch of {batch} does not divide among {size} processes; use a multiple of {size}", path=path
        )


def _of_local_rank(device: str) -> str:
    """Return the device of this process among several of one machine that torchrun started.

    Raises:
        ConfigurationError: they would share a GPU.
    """
    local, count = os.environ.get("LOCAL_RANK"), os.environ.get("LOCAL_WORLD_SIZE", "1")
    if local is None or count == "1" or not device.startswith("cuda"):
        return device
    if device != "cuda":
        raise ConfigurationError(
            f"{count} processes of torchrun would share {device}; use cuda, which gives each its own",
            path="runtime.device",
        )
    return f"cuda:{local}"
