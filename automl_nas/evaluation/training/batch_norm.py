"""Recalibration: the statistics of batch normalisation for one path of a supernet, as a mean over training data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task
from automl_nas.streams import stream_seed

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def recalibrate(
    network: nn.Module, task: Task, runtime: Runtime, *, images: int, seed: int, split: str = "train"
) -> None:
    """Recompute the statistics of every batch normalisation from training images, in place.

    The running mean becomes the mean of the batch means, the running variance the mean of the unbiased batch variances
    (momentum None in torch), instead of exponential averages (SPOS, section 3.4). The number of batches is the smallest
    that holds ``images``; they may span several epochs. 0 images leave the network unchanged. The batches depend only
    on the seed, so that they are the same for all candidates. The modes of all modules are restored.

    Raises:
        ConfigurationError: the split has fewer samples than one batch.
    """
    if images > 0 and batch_norms(network):
        inputs = recalibration_inputs(runtime.resident(task), images=images, seed=seed, split=split)
        recalibrate_on(network, runtime, inputs)


def recalibration_inputs(task: Task, *, images: int, seed: int, split: str, start: int = 0) -> Iterator[Tensor]:
    """Yield the batches of inputs that `recalibrate` uses, on the CPU, beginning with batch number ``start``.

    Raises:
        ConfigurationError: the split has fewer samples than one batch.
    """
    epoch, first = divmod(start, full_batches(task, split))
    if images <= 0:
        return
    seen: int | None = None
    while True:
        for inputs, _ in task.batches(split, epoch, stream_seed(seed, "recalibrate"), first):
            # All batches have the same size (the contract of Task), so that skipped batches need not be read.
            seen = start * len(inputs) if seen is None else seen
            if seen >= images:
                return
            yield inputs
            seen += len(inputs)
            if seen >= images:  # so that no further batch is read
                return
        epoch, first = epoch + 1, 0


def recalibrate_on(network: nn.Module, runtime: Runtime, batches: Iterable[Tensor]) -> None:
    """Recompute the statistics as `recalibrate` does, from given batches of inputs; see `Runtime.first_batches`."""
    with recalibrating(network), torch.no_grad(), runtime.autocast():
        for inputs in runtime.first_batches(batches):
            network(runtime.tensor(inputs))


@contextlib.contextmanager
def recalibrating(network: nn.Module) -> Iterator[None]:
    """Recompute the statistics of a network, or of a part of one, from the inputs that it is called with.

    Statistics begin anew, and become the mean over the calls. Only batch normalisation is in training mode; afterwards
    all modules have their modes again.
    """
    norms = batch_norms(network)
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """Return the batch normalisation layers that have running statistics."""
    return [module for module in network.modules() if isinstance(module, BatchNorm) and module.track_running_stats]


def full_batches(task: Task, split: str) -> int:
    """Return the number of batches of one epoch.

    Raises:
        ConfigurationError: the split has fewer samples than one batch.
    """
    count = task.batches_per_epoch(split)
    if count < 1:
        raise ConfigurationError(
            f"the split '{split}' ({task.size(split)} samples) has no full batch; use a smaller batch size",
            path="task.batch_size",
        )
    return count
