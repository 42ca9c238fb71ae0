"""Distillation: a network is also trained on the outputs of a teacher (Hinton et al. 2015, arXiv 1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError


@dataclass(frozen=True)
class Distillation:
    """A teacher, and how much a network learns from it.

    Attributes:
        teacher: the network whose outputs are learned, on the device; it is set to evaluation mode and not trained.
        weight: share of the teacher in the loss.
        temperature: by which the outputs are divided.
    """

    teacher: nn.Module
    weight: float
    temperature: float

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return the teacher's outputs, without gradients."""
        with torch.no_grad():
            outputs: Tensor = self.teacher.eval()(inputs)
        return outputs

    def loss(self, task_loss: Tensor, outputs: Tensor, teacher_outputs: Tensor) -> Tensor:
        """Return ``(1 - weight) * task_loss + weight * distillation_loss``."""
        return (1 - self.weight) * task_loss + self.weight * distillation_loss(
            outputs, teacher_outputs, self.temperature
        )


def distillation_loss(outputs: Tensor, teacher_outputs: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(softmax(teacher / T) || softmax(outputs / T))``, as a mean over samples and positions.

    Args:
        outputs: logits, shape ``(batch, classes, ...)``.
        teacher_outputs: logits of the same shape.
        temperature: T; the factor T^2 keeps the size of the gradient independent of T.
    """
    student = F.log_softmax(outputs.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_outputs.float() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    return temperature**2 * divergence.mean()


def check_teacher(outputs: Tensor, teacher_outputs: object, path: str) -> None:
    """Check that a network can learn from the outputs of a teacher.

    Raises:
        ConfigurationError: the shapes differ, or the outputs are not logits of several classes.
    """
    if outputs.dim() < 2 or outputs.shape[1] < 2:
        raise ConfigurationError(
            f"distillation compares the logits of classes, and a network's outputs have the shape "
            f"{tuple(outputs.shape)}; leave it out",
            path=path,
        )
    shape = tuple(teacher_outputs.shape) if isinstance(teacher_outputs, Tensor) else type(teacher_outputs).__name__
    if shape != tuple(outputs.shape):
        raise ConfigurationError(
            f"the teacher's outputs have the shape {shape}, and those of a network of the space "
            f"{tuple(outputs.shape)}; use a teacher of the same classes",
            path=path,
        )
