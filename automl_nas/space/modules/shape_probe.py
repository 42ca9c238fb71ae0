"""Running a blueprint to find shapes, and what does not fit, before any real work starts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Value
from automl_nas.space.decisions import Decision, Ordinal, Subset
from automl_nas.space.modules.choice import ChoiceModule, ResolvedChoice
from automl_nas.space.modules.resolution import Shapes, Structure

# Two, so that nothing mistakes the batch for a dimension to squeeze.
_BATCH = 2


def check_extremes(blueprint: Structure, input_shape: tuple[int, ...], instance: Callable[[], Structure]) -> None:
    """Run the smallest and the largest network once: on meta tensors where widths are searched, else really.

    The first meta pass of a process imports torch's compiler, which takes longer than a small batch through a real
    network; a space with elastic layers needs such passes anyway.

    Args:
        blueprint: the structure on meta tensors.
        input_shape: the shape of one input without the batch.
        instance: makes the structure with real tensors.

    Raises:
        SpaceError: a module does not accept what reaches it; its path, and its own message.
    """
    on_meta = _has_widths(blueprint)
    real: Structure | None = None
    for size, position in (("smallest", 0), ("largest", -1)):
        taken = {
            name: ResolvedChoice(_as_tuple(_extreme(each, position))) for name, each in blueprint.decisions.items()
        }
        # Code that reads values cannot run on meta tensors: then a real network decides.
        if not (on_meta and _runs_on_meta(blueprint, taken, input_shape)):
            if real is None:
                with torch.random.fork_rng(devices=[]):
                    real = instance()
            _check_real(real, taken, input_shape, size)


def _runs_on_meta(blueprint: Structure, taken: Mapping[str, ResolvedChoice], input_shape: tuple[int, ...]) -> bool:
    try:
        _run(blueprint.view(blueprint.root, taken), input_shape)
    except SpaceError:
        raise
    except Exception:
        return False
    return True


def _check_real(real: Structure, taken: Mapping[str, ResolvedChoice], input_shape: tuple[int, ...], size: str) -> None:
    network = real.view(real.root, taken)
    with _last_entered(network) as last:
        try:
            _run(network, input_shape)
        except SpaceError:
            raise
        except Exception as error:
            raise SpaceError(
                f"the {size} network does not run on an input of shape {input_shape}: {last()} says: "
                f"{str(error).splitlines()[0]}{_hint(real)}"
            ) from error


def input_shapes(blueprint: Structure, input_shape: tuple[int, ...], taken: Mapping[str, ResolvedChoice]) -> Shapes:
    """Return the shape, batch included, of what reaches each choice module that is called under a selection."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, ChoiceModule)
        shapes[module.path] = tuple(inputs[0].shape)

    device = _device(blueprint.root)
    plain = {
        name: each
        if each.weights is None
        else ResolvedChoice(each.options, torch.ones(len(each.options), device=device))
        for name, each in taken.items()
    }
    # The views of layers that follow their input are shallow copies: they share the hooks of the original.
    handles = [module.register_forward_pre_hook(record) for module in blueprint.names]
    try:
        _run(blueprint.view(blueprint.root, plain), input_shape)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def weighable(blueprint: Structure, input_shape: tuple[int, ...]) -> frozenset[str]:
    """Return the decisions that can be weighted: those for which the network runs with all options at once."""
    device = _device(blueprint.root)
    plain = {name: ResolvedChoice(_as_tuple(_extreme(decision, 0))) for name, decision in blueprint.decisions.items()}

    def runs(names: frozenset[str]) -> bool:
        weighted = {
            name: ResolvedChoice(
                blueprint.decisions[name].options, torch.ones(len(blueprint.decisions[name].options), device=device)
            )
            for name in names
        }
        try:
            _run(blueprint.view(blueprint.root, {**plain, **weighted}), input_shape)
        except Exception:
            return False
        return True

    everything = frozenset(plain)
    return everything if runs(everything) else frozenset(name for name in plain if runs(frozenset([name])))


def _as_tuple(value: Value) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _extreme(decision: Decision, position: int) -> Value:
    return decision.options[: decision.largest] if isinstance(decision, Subset) else decision.options[position]


def _hint(blueprint: Structure) -> str:
    widths = _has_widths(blueprint)
    return "; a layer behind a searched width must be elastic, so that it follows its input" if widths else ""


def _has_widths(blueprint: Structure) -> bool:
    return any(isinstance(decision, Ordinal) for decision in blueprint.decisions.values())


def _device(root: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*root.parameters(), *root.buffers())), torch.device("cpu"))


def _dtype(root: nn.Module) -> torch.dtype:
    return next((p.dtype for p in root.parameters() if p.is_floating_point()), torch.get_default_dtype())


def _run(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(_BATCH, *input_shape, device=_device(network), dtype=_dtype(network)))
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _last_entered(network: nn.Module) -> Iterator[Callable[[], str]]:
    """Give a function that names the module which was entered and not left."""
    entered: list[tuple[str, str]] = []
    handles = []
    for path, module in network.named_modules():
        label = (path or "(root)", type(module).__name__)
        handles.append(module.register_forward_pre_hook(lambda _m, _x, label=label: entered.append(label)))
        handles.append(module.register_forward_hook(lambda _m, _x, _y: entered.pop() and None))
    try:
        yield lambda: "'{}' ({})".format(*entered[-1]) if entered else "it"
    finally:
        for handle in handles:
            handle.remove()
