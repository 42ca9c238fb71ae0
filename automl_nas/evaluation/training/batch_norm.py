"""Recalibration of batch normalisation: the statistics that one path of a supernet has, as a true mean."""

from __future__ import annotations

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

    The running mean becomes the cumulative mean of the batch means, the running variance that of the unbiased batch
    variances (momentum None in torch): a true mean, not an exponential average (SPOS, section 3.4). Whole batches are
    used: the smallest number that holds ``images``, over as many epochs as it takes. 0 leaves the network as it is.
    The batches depend on the seed alone, so all candidates see the same ones. The training flags are restored.

    Raises:
        ConfigurationError: the split holds no full batch.
    """
    if images > 0 and batch_norms(network):
        recalibrate_on(network, runtime, recalibration_inputs(task, images=images, seed=seed, split=split))


def recalibration_inputs(task: Task, *, images: int, seed: int, split: str, start: int = 0) -> Iterator[Tensor]:
    """Yield the batches of inputs that `recalibrate` uses, from the ``start``-th on, on the CPU.

    Raises:
        ConfigurationError: the split holds no full batch.
    """
    epoch, first = divmod(start, full_batches(task, split))
    if images <= 0:
        return
    seen: int | None = None
    while True:
        for inputs, _ in task.batches(split, epoch, stream_seed(seed, "recalibrate"), first):
            # All batches have one size (the contract of Task): those that were skipped are counted without being read.
            seen = start * len(inputs) if seen is None else seen
            if seen >= images:
                return
            yield inputs
            seen += len(inputs)
            if seen >= images:  # before the next one is read
                return
        epoch, first = epoch + 1, 0


def recalibrate_on(network: nn.Module, runtime: Runtime, batches: Iterable[Tensor]) -> None:
    """Do what `recalibrate` does, on batches of inputs that the caller has at hand."""
    norms = batch_norms(network)
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        with torch.no_grad(), runtime.autocast():
            for inputs in batches:
                network(runtime.tensor(inputs))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """Return the batch normalisations that keep running statistics."""
    return [module for module in network.modules() if isinstance(module, BatchNorm) and module.track_running_stats]


def full_batches(task: Task, split: str) -> int:
    """Return the number of batches of one epoch.

    Raises:
        ConfigurationError: there is none.
    """
    count = task.batches_per_epoch(split)
    if count < 1:
        raise ConfigurationError(
            f"the split '{split}' ({task.size(split)} samples) holds no full batch; use a smaller batch size",
            path="task.batch_size",
        )
    return count
