"""Auxiliary heads: parts of a network that are only used in training, and their losses."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from automl_nas.evaluation.task import Task

Outputs: TypeAlias = "Tensor | tuple[Tensor, ...]"
"""What a network returns: its outputs; or in training ``(outputs, *auxiliary)``, whose weighted losses are added."""


@runtime_checkable
class HasTrainingForm(Protocol):
    """A network that is trained inside another module with parts that are not delivered, such as auxiliary heads.

    Cost models count the network itself, and it is saved and exported; the additional parts are not.
    """

    def training_form(self) -> nn.Module:
        """Return a module that contains this network and has additional parts with fresh weights.

        In training mode the module returns ``(outputs, *auxiliary)``; the task's loss accepts each of them.
        """


def training_form(network: nn.Module) -> nn.Module:
    """Return the training form of a network if it has one, otherwise the network."""
    return network.training_form() if isinstance(network, HasTrainingForm) else network


def training_loss(task: Task, outputs: Outputs, targets: Tensor, weight: float) -> Tensor:
    """Return the loss of the outputs plus the weighted sum of those of auxiliary outputs.

    Args:
        task: the task, which has the loss.
        outputs: the outputs of a network in training mode.
        targets: the targets of the batch.
        weight: the weight of the auxiliary losses, `Recipe.auxiliary`.
    """
    if isinstance(outputs, Tensor):
        return task.loss(outputs, targets)
    main, *auxiliary = outputs
    loss = task.loss(main, targets)
    if weight:
        for auxiliary_outputs in auxiliary:
            loss = loss + weight * task.loss(auxiliary_outputs, targets)
    return loss
