"""Search spaces of one model's narrower, shallower networks: `ElasticSpace`, and `from_model` for configurations."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from automl_nas.channels import Narrowing, checked_shape, on_meta, traced
from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation import InitialWeights, Runtime
from automl_nas.space import Architecture, ChoiceModule, Decision, SupernetSpace
from automl_nas_elastic.choices import Fixed, Option, Steps, Width
from automl_nas_elastic.importance import Importance, orders
from automl_nas_elastic.models import load_model
from automl_nas_elastic.planning import Planner, runnable_findings
from automl_nas_elastic.supernet import ElasticSupernet
from automl_nas_elastic.usable import usable

Weights = Literal["own", "fresh"]


@final
class ElasticSpace(SupernetSpace):
    """The networks that a trained network contains: with fewer channels, blocks and smaller kernels.

    The network is run once without data. Channels that residual additions, concatenations, groups, normalisation or
    attention tie to each other are one decision. All networks are made of the network's own modules with slices of its
    weights; the largest one is the network itself. Decisions:

    - ``PATH.width``, ``PATH.heads``, ``PATH.groups``: the number of channels, attention heads or groups that the layer
      at PATH produces, and all that depends on it; the most important ones stay.
    - ``PATH.depth``: how many of the residual blocks of a sequence stay, beginning with the first.
    - ``PATH.kernel``: the side of a convolution's kernel, whose centre stays.

    Args:
        network: any module that takes one tensor and returns one in evaluation mode, with float32 parameters; it is
            copied. Of a compiled or data-parallel module, the module inside is used.
        input_shape: the shape of one input without the batch.
        widths: shares of channels that can stay.
        granularity: numbers of channels are multiples of it, where a layer has twice as many or more.
        depths: the smallest share of the blocks of a sequence that stay.
        include: patterns (``layer1.*``) of names of decisions; the others are left out.
        exclude: patterns of names of decisions that are left out.
        importance: which channels stay; see `automl_nas_elastic.importance.orders`.
        gradients: for ``taylor``, what `automl_nas_elastic.loss_products` returns, or name of a parameter -> gradient
            of the loss.
        weights: ``own``: networks have the network's weights; ``fresh``: new weights, drawn for their own size by the
            ``reset_parameters`` of each layer (other parameters keep the network's).

    Raises:
        SpaceError: the network contains choices, does not run on inputs of this shape, does not return one tensor, its
            parameters cannot be sliced, or nothing can vary.
        ConfigurationError: a setting is out of its range, or the network is not a module.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        input_shape: Sequence[int],
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        granularity: int = 8,
        depths: float = 0.5,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        importance: Importance = "l1",
        gradients: Mapping[str, Tensor] | None = None,
        weights: Weights = "own",
    ) -> None:
        network, input_shape = usable(network), checked_shape(input_shape)
        self._settings: dict[str, Any] = {
            "input_shape": input_shape,
            "widths": tuple(widths),
            "granularity": granularity,
            "depths": depths,
            "include": tuple(include),
            "exclude": tuple(exclude),
            "importance": importance,
            "gradients": gradients,
            "weights": weights,
        }
        _check(widths, granularity, depths, importance, gradients)
        _refuse_choices(network)
        self._input_shape = input_shape
        self._fresh = weights == "fresh"
        self._network = copy.deepcopy(network).cpu().train()
        trace = traced(self._network, self._input_shape)
        steps = Steps(tuple(widths), granularity, depths)
        findings = runnable_findings(self._network, trace, steps, include, exclude)
        if not findings.options:
            reasons = dict.fromkeys(f"{each.where}: {each.reason}" for each in findings.fixed)
            raise SpaceError(
                f"nothing can vary in {type(network).__name__}"
                + (f": {'; '.join([*reasons][:3])}" if reasons else "; do include and exclude leave a decision?")
                + ("; a branch in a module of its own fixes only what that module touches" if "" in trace.reads else "")
            )
        self._fixed = tuple(findings.fixed)
        self._options = tuple(findings.options)
        self._planner = Planner(findings.options, orders(self._network, findings.options, importance, gradients or {}))
        atoms = [option.atom for option in findings.options if isinstance(option, Width)]
        self._narrowing = Narrowing(self._network, trace, atoms)
        self._meta = on_meta(self._network)
        self._decisions: dict[str, Decision] = {each.name: each.decision for each in findings.options}

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self._network, self._settings)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, in the order of the modules."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._input_shape

    @property
    def own_weights(self) -> Mapping[str, Tensor]:
        """The network's tensors, which also decide which channels stay, and the gradients for ``taylor``."""
        gradients = {f"gradient of {name}": tensor for name, tensor in (self._settings["gradients"] or {}).items()}
        return {**dict(self._network.named_parameters()), **dict(self._network.named_buffers()), **gradients}

    @property
    def options(self) -> tuple[Option, ...]:
        """What varies."""
        return self._options

    @property
    def fixed(self) -> tuple[Fixed, ...]:
        """What cannot vary, with the reasons."""
        return self._fixed

    @property
    def weighable(self) -> frozenset[str]:
        """Empty: options differ in shape, so they take values only."""
        return frozenset()

    @property
    def largest(self) -> Architecture:
        """The architecture of the whole network."""
        return Architecture({name: decision.options[-1] for name, decision in self._decisions.items()})

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a narrower network, in the network's own classes, with its weights or fresh ones."""
        plan = self._planner.plan(self.validate(architecture))
        on_meta = torch.get_default_device().type == "meta"
        network = self._narrowing.extract(self._meta if on_meta else self._network, plan).train()
        if self._fresh and not on_meta:
            _reset(network)
        return network

    def build_supernet(self) -> ElasticSupernet:
        """Return the supernet: the whole network, with its own weights or fresh ones."""
        network = copy.deepcopy(self._network)
        if self._fresh:
            _reset(network)
        return ElasticSupernet(network, self._narrowing, self._planner)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set decisions about blocks that are left out to their first value."""
        values = dict(self.validate(architecture))
        skipped = self._planner.plan(values).skipped
        if skipped:
            for option in self._options:
                if all(any(path == b or path.startswith(f"{b}.") for b in skipped) for path in option.paths):
                    values[option.name] = option.decision.options[0]
        return Architecture(values)


def from_model(
    *,
    model: str,
    input_shape: tuple[int, ...],
    num_classes: int | None = None,
    arguments: dict[str, Any] = {},  # noqa: B006 - read only
    checkpoint: str | None = None,
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0),
    granularity: int = 8,
    depths: float = 0.5,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
    importance: Importance = "l1",
    gradients: str | None = None,
    weights: Weights = "own",
    seed: int,
) -> ElasticSpace:
    """Return the space of the networks that a model contains; see `ElasticSpace`.

    Args:
        model: name of a classification model of torchvision, ``timm/NAME``, or ``package.module:Object`` for a class, a
            function or a module.
        input_shape: the shape of one input without the batch.
        num_classes: number of outputs of a model of torchvision or timm.
        arguments: of the model's class or function, such as ``{weights: DEFAULT}``.
        checkpoint: the model's weights, a safetensors file, whose path should be absolute; null: those that its class
            or function gives it. (``initial_weights`` of a space are loaded into its supernet, after the important
            channels were chosen.)
        widths: shares of channels that can stay.
        granularity: numbers of channels are multiples of it, where a layer has twice as many or more.
        depths: the smallest share of the blocks of a sequence that stay.
        include: patterns (``layer1.*``) of names of decisions; the others are left out.
        exclude: patterns of names of decisions that are left out.
        importance: which channels stay. ``l1``: those with the largest absolute weights; ``bn_scale``: those with the
            largest scale of batch normalisation; ``taylor``: those whose removal changes the loss most, to first order.
        gradients: for ``taylor``, a safetensors file of what `automl_nas_elastic.loss_products` returns, whose path
            should be absolute; `compress` writes it.
        weights: ``own``: networks have the model's weights; ``fresh``: new weights, drawn by the ``reset_parameters``
            of each layer.
        seed: of the weights of a model whose class or function draws them.

    Raises:
        ConfigurationError: there is no such model, a setting is out of its range, or the weights do not fit.
        SpaceError: the model does not run on inputs of this shape, or nothing can vary.
    """
    with Runtime(device="cpu").seeded(seed, "model"):
        network = load_model(model, arguments, num_classes)
    if checkpoint is not None:
        InitialWeights(checkpoint).load_into(network, "checkpoint")
    return ElasticSpace(
        network,
        input_shape=input_shape,
        widths=widths,
        granularity=granularity,
        depths=depths,
        include=include,
        exclude=exclude,
        importance=importance,
        gradients=None if gradients is None else _read(gradients),
        weights=weights,
    )


def _read(file: str) -> dict[str, Tensor]:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(file)
    except Exception as error:  # of the operating system, or of the library for a file of another format
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"cannot read {file} as safetensors: {reason}", path="gradients") from error


def _refuse_choices(network: nn.Module) -> None:
    for path, module in network.named_modules():
        if isinstance(module, ChoiceModule):
            raise SpaceError(
                f"the network contains choices already ({type(module).__name__} at '{path or '(root)'}'), so it is not "
                "one network; choose first, with build or extract of its ModuleSpace, or search widths and choices "
                "together: elastic layers beside them in the ModuleSpace (automl_nas.space.replace puts both into a "
                "network)"
            )


def _check(
    widths: Sequence[float], granularity: int, depths: float, importance: str, gradients: Mapping[str, Tensor] | None
) -> None:
    if not widths or min(widths) <= 0 or max(widths) > 1:
        raise ConfigurationError(f"must be shares above 0 and at most 1, not {list(widths)}", path="widths")
    if granularity < 1:
        raise ConfigurationError(f"must be at least 1, not {granularity}", path="granularity")
    if not 0 <= depths <= 1:
        raise ConfigurationError(f"must be between 0 and 1, not {depths}", path="depths")
    if (importance == "taylor") != (gradients is not None):
        raise ConfigurationError(
            "importance taylor needs gradients (`compress` computes them), and other importances have none",
            path="importance",
        )


def _reset(network: nn.Module) -> None:
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()


def _rebuilt(network: nn.Module, settings: Mapping[str, Any]) -> ElasticSpace:
    return ElasticSpace(network, **settings)
