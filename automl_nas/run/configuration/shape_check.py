"""Checks before any training that the networks of a space take the samples of a task and return its classes."""

from __future__ import annotations

import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.task import Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream


def check_shapes(space: SearchSpace, task: Task, path: str) -> None:
    """Run one network of the space on a batch of two inputs, and compare the shapes with those of the task.

    A space without ``input_shape`` is not checked.

    Raises:
        ConfigurationError: the shape of the inputs or the number of outputs differs; the message names both.
    """
    if not space.input_shape:
        return
    if tuple(space.input_shape) != tuple(task.input_shape):
        raise ConfigurationError(
            f"the space takes inputs of shape {tuple(space.input_shape)}, and the task's samples have the shape "
            f"{tuple(task.input_shape)}; set the space's input_shape, or leave it out to take it from the task",
            path=path,
        )
    outputs = output_shape(space, space.sample(stream(0, "shapes")))
    if outputs[-1] != task.num_classes:
        raise ConfigurationError(
            f"the space's networks have {outputs[-1]} outputs, and the task has {task.num_classes} classes; set the "
            "space's num_classes",
            path=path,
        )


def output_shape(space: SearchSpace, architecture: Architecture) -> tuple[int, ...]:
    """Return the shape of a network's output for a batch of two inputs: (2, ...).

    The tensors are real: the first pass on the meta device imports torch's compiler, which takes longer than this pass.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = space.build(architecture).eval()
        return tuple(network(torch.zeros(2, *space.input_shape)).shape)
