"""Trial runs of a `ChoiceTree` on zeros: input shapes of its layers, and errors before any real work starts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Ordinal, Subset
from automl_nas.space.example_inputs import example_input, run_on_example
from automl_nas.space.exclusions import Exclusions
from automl_nas.space.meta_pass import MetaPass
from automl_nas.space.modules.choice import ChoiceModule, ResolvedChoice
from automl_nas.space.modules.choice_tree import ChoiceTree, Shapes
from automl_nas.space.modules.running import module_text, running_modules
from automl_nas.streams import stream

# Two, so that no module squeezes the batch dimension.
_BATCH = 2
_ATTEMPTS = 200  # architectures among which one is looked for that reaches a decision inside other choices


def check_extremes(
    tree: ChoiceTree, input_shape: tuple[int, ...], real_tree: Callable[[], ChoiceTree], exclusions: Exclusions
) -> None:
    """Run the smallest and the largest network once: on meta tensors if widths are searched, else on real ones.

    The first forward pass on meta tensors in a process imports torch's compiler, which takes longer than running a
    small batch through a real network. A space with elastic layers needs meta passes anyway.

    Args:
        tree: the choices on meta tensors.
        input_shape: the shape of one input without the batch.
        real_tree: builds the choices on real tensors.
        exclusions: of the space. If the smallest or the largest network is excluded, one near it is run.

    Raises:
        SpaceError: a module does not accept its input; the message contains its path and its own message.
    """
    on_meta = _has_widths(tree)
    real: ChoiceTree | None = None
    for size, position in (("smallest", 0), ("largest", -1)):
        choices = {name: ResolvedChoice(_as_tuple(value)) for name, value in _end(tree, position, exclusions).items()}
        # Code that reads values cannot run on meta tensors: then a real network is run.
        if not (on_meta and _runs_on_meta(tree, choices, input_shape)):
            if real is None:
                with torch.random.fork_rng(devices=[]):
                    real = real_tree()
            _check_real(real, choices, input_shape, size)


def _runs_on_meta(tree: ChoiceTree, choices: Mapping[str, ResolvedChoice], input_shape: tuple[int, ...]) -> bool:
    try:
        _run(tree.view(tree.root, choices), input_shape)
    except SpaceError:
        raise
    except Exception:
        return False
    return True


def _check_real(
    real: ChoiceTree, choices: Mapping[str, ResolvedChoice], input_shape: tuple[int, ...], size: str
) -> None:
    network = real.view(real.root, choices)
    with running_modules(network) as running:
        try:
            _run(network, input_shape)
        except SpaceError:
            raise
        except Exception as error:
            raise SpaceError(
                f"the {size} network does not run on an input of shape {input_shape}: {module_text(running)} raises: "
                f"{str(error).splitlines()[0]}{_hint(real)}"
            ) from error


def input_shapes(tree: ChoiceTree, input_shape: tuple[int, ...], choices: Mapping[str, ResolvedChoice]) -> Shapes:
    """Return the input shape, batch included, of each choice module that is called under a selection."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, ChoiceModule)
        shapes[module.path] = tuple(inputs[0].shape)

    device = _device(tree.root)
    on_device = {
        name: choice
        if choice.weights is None
        else ResolvedChoice(choice.options, torch.ones(len(choice.options), device=device))
        for name, choice in choices.items()
    }
    # The views of layers that follow their input are shallow copies: they share the hooks of the original.
    handles = [module.register_forward_pre_hook(record) for module in tree.names]
    try:
        _run(tree.view(tree.root, on_device), input_shape)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def weighable(tree: ChoiceTree, input_shape: tuple[int, ...], exclusions: Exclusions) -> frozenset[str]:
    """Return the decisions that can be weighted: those for which the network runs with all options at once."""
    device = _device(tree.root)

    def runs_with(names: frozenset[str], architecture: Architecture) -> bool:
        unweighted = {name: ResolvedChoice(_as_tuple(value)) for name, value in architecture.items()}
        weighted = {
            name: ResolvedChoice(
                tree.decisions[name].options, torch.ones(len(tree.decisions[name].options), device=device)
            )
            for name in names
        }
        try:
            _run(tree.view(tree.root, {**unweighted, **weighted}), input_shape)
        except Exception:
            return False
        return True

    names = frozenset(tree.decisions)
    if runs_with(names, _end(tree, 0, exclusions)):
        return names
    return frozenset(name for name in names if runs_with(frozenset([name]), _reaching(tree, name, exclusions)))


def _reaching(tree: ChoiceTree, name: str, exclusions: Exclusions) -> Architecture:
    """Return an architecture in which a decision makes a difference; the smallest one if none is found."""
    ends = [_end(tree, 0, exclusions), _end(tree, -1, exclusions)]
    last = _extreme(tree.decisions[name], -1)
    rng = stream(0, "reaching", 0)
    for attempt in range(_ATTEMPTS):
        architecture = ends[attempt] if attempt < len(ends) else exclusions.sample(rng)
        if tree.canonical(architecture.replace({name: last}))[name] == last:
            return architecture
    return ends[0]


def _as_tuple(value: Value) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _end(tree: ChoiceTree, position: int, exclusions: Exclusions) -> Architecture:
    """Return the smallest (position 0) or the largest (-1) architecture, or one near it if it is excluded."""
    end = Architecture({name: _extreme(decision, position) for name, decision in tree.decisions.items()})
    return exclusions.nearest(end) or exclusions.sample(stream(0, "extremes", position + 1))


def _extreme(decision: Decision, position: int) -> Value:
    return decision.options[: decision.largest] if isinstance(decision, Subset) else decision.options[position]


def _hint(tree: ChoiceTree) -> str:
    widths = _has_widths(tree)
    return "; a layer after one of searched width must be elastic, so that it follows its input" if widths else ""


def _has_widths(tree: ChoiceTree) -> bool:
    return any(isinstance(decision, Ordinal) for decision in tree.decisions.values())


def _device(root: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*root.parameters(), *root.buffers())), torch.device("cpu"))


def _run(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    inputs = example_input(network, input_shape, batch=_BATCH)
    try:
        # A pass on real tensors calls torch itself: real operators are cheap.
        with torch.no_grad(), MetaPass() if inputs.is_meta else contextlib.nullcontext():
            run_on_example(network, inputs)
    finally:
        for module, mode in modes:
            module.training = mode
