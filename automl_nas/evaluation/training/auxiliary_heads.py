"""Parts of a network that serve training only: auxiliary heads and their losses."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from automl_nas.evaluation.task import Task

Outputs: TypeAlias = "Tensor | tuple[Tensor, ...]"
"""What a network gives: its outputs; or, in training, ``(outputs, *auxiliary)``, whose losses are added weighted."""


@runtime_checkable
class HasTrainingForm(Protocol):
    """A network that is trained inside another module, which adds what is not delivered.

    What stands in the network itself is counted by cost models, saved and exported; an auxiliary head is none of that.
    """

    def training_form(self) -> nn.Module:
        """Return a module around this very network, with fresh weights of its own.

        In training mode it returns ``(outputs, *auxiliary)``, each of which the task's loss takes.
        """


def training_form(network: nn.Module) -> nn.Module:
    """Return what is trained in place of a network: its training form if it has one, otherwise the network."""
    return network.training_form() if isinstance(network, HasTrainingForm) else network


def training_loss(task: Task, outputs: Outputs, targets: Tensor, weight: float) -> Tensor:
    """Return the loss of the outputs plus the weighted sum of those of auxiliary outputs.

    Args:
        task: has the loss.
        outputs: of a network in training.
        targets: of the batch.
        weight: `Recipe.auxiliary`.
    """
    if isinstance(outputs, Tensor):
        return task.loss(outputs, targets)
    main, *auxiliary = outputs
    loss = task.loss(main, targets)
    if weight:
        for each in auxiliary:
            loss = loss + weight * task.loss(each, targets)
    return loss
