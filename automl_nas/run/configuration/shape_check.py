"""Does the space's network take the task's samples, and give what the task scores? Known before any training."""

from __future__ import annotations

import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.task import Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream


def check_shapes(space: SearchSpace, task: Task, path: str) -> None:
    """Run one network of the space on two samples of the task's shape.

    Raises:
        ConfigurationError: the shapes do not fit; the message names both.
    """
    if not space.input_shape:
        return
    if tuple(space.input_shape) != tuple(task.input_shape):
        raise ConfigurationError(
            f"the space takes inputs of shape {tuple(space.input_shape)}, the task's samples are "
            f"{tuple(task.input_shape)}; set the "
            "space's input_shape, or leave it out where it is taken from the task",
            path=path,
        )
    outputs = output_shape(space, space.sample(stream(0, "shapes")))
    if outputs[-1] != task.num_classes:
        raise ConfigurationError(
            f"the space's networks have {outputs[-1]} outputs, the task has {task.num_classes} classes; set the "
            "space's num_classes",
            path=path,
        )


def output_shape(space: SearchSpace, architecture: Architecture) -> tuple[int, ...]:
    """Return the shape of a network's output for a batch of two.

    Computed with real tensors: a first pass on the meta device would import torch's compiler, which takes longer.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = space.build(architecture).eval()
        return tuple(network(torch.zeros(2, *space.input_shape)).shape)
