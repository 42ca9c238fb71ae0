"""Where and how tensors are computed: device, precision, memory format, threads, seeds, data-parallel training."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.onednn_guard import guard_convolutions
from automl_nas.streams import stream_seed

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Runtime:
    """Device, precision, memory format, threads and seeds of a run.

    ``auto`` for the precision or the memory format is a wish, not a state: `automl_nas.evaluation.tune` turns it
    into what is fastest here when a configuration is resolved, and the record holds its choice.

    Args:
        device: ``auto`` (a GPU if there is one; under torchrun the local rank's), or anything `torch.device` takes.
        precision: ``float32``, or ``bfloat16`` by autocast; ``auto`` must have been settled.
        memory_format: ``channels_last`` or ``contiguous`` for 4-dimensional tensors; ``auto`` must have been settled.
        threads: CPU threads of torch; None: what torch would take. The number in use is recorded with the run, since
            sums depend on it.

    Raises:
        ConfigurationError: the device does not exist here, or an ``auto`` has not been settled.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        precision: Literal["float32", "bfloat16", "auto"] = "float32",
        memory_format: Literal["channels_last", "contiguous", "auto"] = "channels_last",
        threads: int | None = None,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
            if device == "cuda" and "LOCAL_RANK" in os.environ:
                device = f"cuda:{os.environ['LOCAL_RANK']}"
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(
                f"no device '{device}' here ({reason}); use auto or cpu", path="runtime.device"
            ) from None
        for name, value, known in (
            ("precision", precision, ("float32", "bfloat16")),
            ("memory_format", memory_format, ("channels_last", "contiguous")),
        ):
            if value not in known:
                hint = "; tune() settles it" if value == "auto" else ""
                raise ConfigurationError(
                    f"{name} is {' or '.join(known)} here, not {value!r}{hint}", path=f"runtime.{name}"
                )
        if threads is not None and threads < 1:
            raise ConfigurationError(f"threads must be at least 1, not {threads}", path="runtime.threads")
        self.precision = precision
        self.memory_format = memory_format
        self.threads = threads or torch.get_num_threads()
        self._format = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format

    def settings(self) -> dict[str, object]:
        """Return the settings in force, for the record; a Runtime made from them computes the same."""
        return {
            "device": str(self.device),
            "precision": self.precision,
            "memory_format": self.memory_format,
            "threads": self.threads,
        }

    def activate(self) -> None:
        """Set the number of CPU threads of this process, and let CUDA use deterministic convolutions only."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        if self.device.type == "cuda":
            # Others add up in the order in which they finish, and a resumed run would not repeat itself.
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False

    def place(self, module: ModuleT) -> ModuleT:
        """Move a module to the device, in the memory format; in place, and returned.

        On the CPU, narrow strided 1x1 convolutions compute on contiguous tensors (`automl_nas.onednn_guard`).
        """
        module.to(device=self.device, memory_format=self._format)  # type: ignore[call-overload]
        guard_convolutions(module)
        return module

    def tensor(self, value: Tensor) -> Tensor:
        """Move a batch to the device; 4-dimensional inputs take the memory format."""
        if value.dim() == 4:
            return value.to(device=self.device, memory_format=self._format, non_blocking=True)
        return value.to(device=self.device, non_blocking=True)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which forward passes run."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def predictor(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """Put a network into evaluation mode and return it as a function from CPU inputs to CPU outputs (float32)."""
        model.eval()

        def predict(inputs: Tensor) -> Tensor:
            with torch.inference_mode(), self.autocast():
                outputs: Tensor = model(self.tensor(inputs))
            return outputs.float().cpu()

        return predict

    @contextlib.contextmanager
    def seeded(self, seed: int, purpose: str, counter: int = 0) -> Iterator[None]:
        """Set the global generators (torch, NumPy, Python) to a named stream, and restore them afterwards.

        For what takes no generator: initialisation, dropout, transforms. Plugins never seed: core wraps every build,
        training iteration and evaluation in this. Nests.
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
        """Set the global generators to another stream; only inside `seeded`, which restores them.

        Saving and restoring costs 0.1 ms, most of it NumPy's; this alone costs a tenth, so a training loop is wrapped
        once and reseeded at each iteration.
        """
        value = stream_seed(seed, purpose, counter)
        random.seed(value)
        np.random.seed(value & 0xFFFFFFFF)
        # Not torch.manual_seed: it also seeds every other device of the machine, which nobody would restore.
        torch.default_generator.manual_seed(value)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(value)
        elif self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(value)

    def _accelerator_state(self) -> Tensor | None:
        if self.device.type == "cuda":
            return torch.cuda.get_rng_state(self.device)
        if self.device.type == "cpu":
            return None
        state: Tensor = torch.get_device_module(self.device).get_rng_state()
        return state

    def _restore_accelerator(self, state: Tensor | None) -> None:
        if state is None:
            return
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.get_device_module(self.device).set_rng_state(state)

    @property
    def world_size(self) -> int:
        """The number of data-parallel processes (1 unless started under torchrun)."""
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    @property
    def rank(self) -> int:
        """The number of this process among them."""
        return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0

    def parallel(self, net: nn.Module) -> nn.Module:
        """Return the network ready for data-parallel training: itself, or wrapped under torchrun.

        Parameters that take no part in a step (candidates that were not drawn) keep gradient None on every rank.
        """
        if self.world_size == 1:
            return net
        return nn.parallel.DistributedDataParallel(net, find_unused_parameters=True)

    def shard(self, batch: Tensor) -> Tensor:
        """Return this process's share of a batch: every world_size-th sample, starting at rank.

        Raises:
            ConfigurationError: the batch does not divide evenly, and the mean of the shares' gradients would not be the
                batch's.
        """
        if self.world_size == 1:
            return batch
        if len(batch) % self.world_size:
            raise ConfigurationError(
                f"a batch of {len(batch)} does not divide among {self.world_size} processes; use a multiple of it",
                path="task.batch_size",
            )
        return batch[self.rank :: self.world_size]

    def reduce(self, tensors: Sequence[Tensor]) -> None:
        """Average tensors over all processes, in place: gradients of alpha, lambda or a policy."""
        for tensor in tensors if self.world_size > 1 else ():
            dist.all_reduce(tensor)
            tensor /= self.world_size
