"""Checks before any training that a network of a space takes the samples of a task, and that the task can judge it."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, DataError, SpaceError
from automl_nas.evaluation.task import Batch, Task
from automl_nas.evaluation.training.auxiliary_heads import training_form
from automl_nas.space.modules.running import module_text, running_modules
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream, stream_seed

SAMPLES = 4
"""The largest number of samples that the network is run on: enough for batch normalisation, and fast."""


def check_network(space: SearchSpace, task: Task, path: str) -> None:
    """Run one network of the space on samples of the first training batch, and let the task judge its outputs.

    The network runs in training mode, with its auxiliary heads, and in evaluation mode. For both, `Task.loss` must be
    a finite scalar, which in training requires a gradient, and `Task.check_outputs` must accept the outputs. A space
    that does not build networks is not checked.

    Args:
        space: the search space or the final space.
        task: the task.
        path: of the space in the configuration.

    Raises:
        ConfigurationError: a shape or type differs, the network fails, or the task refuses its outputs.
    """
    if space.input_shape and tuple(space.input_shape) != tuple(task.input_shape):
        raise ConfigurationError(
            f"the space takes inputs of shape {tuple(space.input_shape)}, and the task's samples have the shape "
            f"{tuple(task.input_shape)}; set the space's input_shape, or leave it out to take it from the task",
            path=path,
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(0, "shapes"))
        try:
            network = space.build(space.sample(stream(0, "shapes")))
        except SpaceError:
            if space.input_shape:
                raise
            return
        _Check(task, _first_samples(task), path).run(network)


def _first_samples(task: Task) -> Batch:
    batch = next(iter(task.batches("train", 0, stream_seed(0, "shapes"))), None)
    if batch is None:
        raise ConfigurationError(
            f"the split 'train' ({task.size('train')} samples) has no full batch; use a smaller batch size",
            path="task.batch_size",
        )
    inputs, targets = batch
    if tuple(inputs.shape[1:]) != tuple(task.input_shape):
        raise DataError(
            f"the task's input_shape is {tuple(task.input_shape)}, and its training batch has the shape "
            f"{tuple(inputs.shape)}, batch included; correct one of them"
        )
    return inputs[:SAMPLES], targets[:SAMPLES]


class _Check:
    """Runs a network on a batch and judges the outputs.

    Args:
        task: the task.
        batch: samples of the training split.
        path: of the space in the configuration.
    """

    def __init__(self, task: Task, batch: Batch, path: str) -> None:
        self._task, self._path = task, path
        self._inputs, self._targets = batch

    def run(self, network: nn.Module) -> None:
        """Check the network in training mode and in evaluation mode.

        Raises:
            ConfigurationError: see `check_network`.
        """
        self._check_parameters(network)
        # The training form of a network returns its outputs and those of auxiliary heads.
        trained = training_form(network)
        outputs = self._outputs(trained.train(), "in training mode")
        main = outputs[0] if isinstance(outputs, tuple) and outputs and _all_tensors(outputs) else outputs
        if main is outputs or trained is not network:
            self._judge(main, "in training mode")
        with torch.no_grad():
            evaluated = self._outputs(network.eval(), "in evaluation mode")
            self._judge(evaluated, "in evaluation mode")
        if main is not outputs and trained is network:
            self._judge(main, "in training mode")

    def _check_parameters(self, network: nn.Module) -> None:
        for name, parameter in network.named_parameters():
            owner = network.get_submodule(name.rpartition(".")[0])
            described = f"'{name.rpartition('.')[0] or '(root)'}' ({type(owner).__name__})"
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise self._error(
                    f"the module {described} is lazy: its parameters have no shape before the first batch, so costs "
                    "cannot be counted and weights cannot be loaded; use the class without 'Lazy' and state the size"
                )
            if parameter.dtype == torch.float64:
                raise self._error(
                    f"the parameter '{name}' of the network is float64, and inputs and outputs of a run are float32; "
                    "remove the call of double() or dtype=torch.float64"
                )

    def _outputs(self, network: nn.Module, mode: str) -> object:
        with running_modules(network) as running:
            try:
                return network(self._inputs)
            except Exception as error:
                inputs = f"{self._inputs.dtype} of shape {tuple(self._inputs.shape)}"
                raise self._error(
                    f"the network fails {mode} on samples of the task ({inputs}, batch included): "
                    f"{module_text(running)} raises: {_first_line(error)}{self._hint()}"
                ) from error

    def _hint(self) -> str:
        if self._inputs.is_floating_point():
            return ""
        return "; the inputs are integer tokens, which a network usually takes with nn.Embedding"

    def _judge(self, outputs: object, mode: str) -> None:
        if not isinstance(outputs, Tensor):
            kind = type(outputs).__name__
            way_out = (
                "return the tensor of the outputs; auxiliary heads, which are used in training only, belong in the "
                "module that training_form returns"
                if isinstance(outputs, tuple | list | dict)
                else "return the tensor of the outputs from forward"
            )
            raise self._error(f"the network returns a {kind} {mode}, and the task judges one tensor; {way_out}")
        shapes = f"outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(self._targets.shape)}"
        # Like `Runtime.predictor`, which returns float32 to metrics.
        outputs = outputs.float() if outputs.is_floating_point() else outputs
        loss = self._loss(outputs, shapes)
        if loss.dim() != 0:
            raise self._error(
                f"the task's loss of {shapes} has the shape {tuple(loss.shape)}; it must be a scalar, the mean over "
                "the batch"
            )
        if not bool(torch.isfinite(loss)):
            cause = "" if bool(torch.isfinite(outputs).all()) else ", since the network's outputs are not finite"
            raise self._error(
                f"the task's loss of {shapes} is {loss.item()} for a network with fresh weights {mode}{cause}; look "
                "for a division by zero, a logarithm or a missing normalisation in network, loss or data"
            )
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise self._error(
                "the task's loss does not depend on the network's parameters by a gradient; remove detach(), "
                "no_grad() and conversions to NumPy or integers from the network's forward and from the loss"
            )
        try:
            self._task.check_outputs(outputs.detach(), self._targets)
        except DataError as error:
            raise self._error(str(error)) from error

    def _loss(self, outputs: Tensor, shapes: str) -> Tensor:
        try:
            with warnings.catch_warnings():
                # Losses of torch warn if they broadcast: (8, 1) and (8,) become (8, 8), and the network learns a mean.
                warnings.filterwarnings("error", message="Using a target size")
                loss = self._task.loss(outputs, self._targets)
        except Exception as error:
            # The task's own check usually has the better message.
            try:
                self._task.check_outputs(outputs.detach(), self._targets)
            except DataError as judged:
                raise self._error(str(judged)) from error
            except Exception:
                pass
            if isinstance(error, UserWarning):
                raise self._error(
                    f"the task's loss would broadcast {shapes} against each other, which trains the network on wrong "
                    "pairs; give both the same shape, with squeeze(1) in the network or targets[:, None] in the data"
                ) from None
            raise self._error(
                f"the task's loss fails for {shapes} ({self._targets.dtype}): {_first_line(error)}; change what the "
                f"network returns, such as the number of its outputs{self._needed()}"
            ) from error
        if not isinstance(loss, Tensor):
            raise self._error(f"the task's loss returned a {type(loss).__name__}; it must be a tensor, a scalar")
        return loss

    def _needed(self) -> str:
        count = self._task.num_classes
        return "" if count is None else f" (the task's num_classes is {count})"

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, path=self._path)


def _all_tensors(outputs: tuple[object, ...]) -> bool:
    return all(isinstance(output, Tensor) for output in outputs)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
