"""Networks with fewer channels, blocks and smaller kernels: a network's own modules with slices of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from automl_nas.channels.attributes import followed_attributes, normal
from automl_nas.channels.axis import Axis, positions, signature, size_of
from automl_nas.channels.trace import Trace
from automl_nas.space.modules.copying import deep_copy


@dataclass
class Plan:
    """What a narrower network keeps.

    Attributes:
        indices: atom -> indices, ascending; atoms that keep all are left out.
        sizes: atom -> number of these indices.
        keys: atom -> these indices as bytes, by which slices are cached.
        skipped: paths of blocks that are left out.
        kernels: path of a convolution -> length of its kernel's sides.
    """

    indices: dict[Axis, NDArray[np.int64]] = field(default_factory=dict)
    sizes: dict[Axis, int] = field(default_factory=dict)
    keys: dict[Axis, bytes] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    kernels: dict[str, int] = field(default_factory=dict)

    def keep(self, atom: Axis, indices: NDArray[np.int64]) -> None:
        """Keep some elements of an atom.

        Args:
            atom: that becomes smaller.
            indices: of the elements that stay, in any order.
        """
        self.indices[atom] = np.sort(indices)
        self.sizes[atom] = len(indices)
        self.keys[atom] = self.indices[atom].tobytes()


@dataclass(frozen=True)
class Sliced:
    """A buffer of a view that is a slice of the supernet's: what to do after a forward pass in training mode."""

    module: nn.Module
    name: str
    whole: Tensor
    indices: tuple[Tensor, ...]

    def write_back(self) -> None:
        """Copy the slice into the supernet's buffer."""
        own = self.module._buffers[self.name]
        if self.module.training and own is not None:
            self.whole[self.indices] = own.detach()


@final
class Narrowing:
    """Makes narrower networks of one network.

    Args:
        network: the whole network, or one of the same structure.
        trace: of its run.
        atoms: the axes of which a plan may keep some elements.
    """

    def __init__(self, network: nn.Module, trace: Trace, atoms: Iterable[Axis]) -> None:
        varying = set(atoms)
        self._tensors: dict[tuple[str, str], list[tuple[int, Axis]]] = {}
        for key, axes in trace.tensors.items():
            own = [(dim, axis) for dim, axis in enumerate(axes) if not varying.isdisjoint(axis.atoms())]
            if own:
                self._tensors[key] = own
        self._attributes: dict[str, list[tuple[str, Axis | list[Axis]]]] = {}
        for path, named in followed_attributes(network, trace).items():
            follows = [(n, a) for n, a in named.items() if any(not varying.isdisjoint(x.atoms()) for x in _listed(a))]
            if follows:
                self._attributes[path] = follows
        self._places = _places(network, self._tensors)
        self._indices: dict[Any, Tensor | None] = {}
        self._signatures = {id(axis): signature(axis) for own in self._tensors.values() for _, axis in own}

    def view(self, network: nn.Module, plan: Plan) -> tuple[nn.Module, list[Sliced]]:
        """Return a network whose weights are slices of the whole network's, and the slices of its buffers."""
        sliced: list[Sliced] = []
        copied = _Copies(self, plan, sliced, lambda tensor: tensor).network(network)
        return copied, sliced

    def extract(self, network: nn.Module, plan: Plan) -> nn.Module:
        """Return a network with weights of its own."""
        with torch.no_grad():
            copies = _Copies(self, plan, [], _own)
            narrow = copies.network(network)
            # What was sliced is already a copy.
            return deep_copy(narrow, copies.own())

    def tensor_changes(self, path: str, plan: Plan) -> Iterable[tuple[str, list[tuple[int, Axis]]]]:
        """Yield name and axes of the tensors of a module that a plan makes smaller."""
        for name, key in self._places.get(path, ()):
            own = [(dim, axis) for dim, axis in self._tensors[key] if any(atom in plan.sizes for atom in axis.atoms())]
            if own:
                yield name, own

    def attribute_changes(self, path: str, plan: Plan) -> Iterable[tuple[str, object]]:
        """Yield attribute and its new value."""
        for name, axis in self._attributes.get(path, ()):
            if isinstance(axis, Axis):
                yield name, size_of(axis, plan.sizes)
            else:
                yield name, tuple(size_of(each, plan.sizes) for each in axis)

    def indices(self, axis: Axis, plan: Plan, device: torch.device) -> Tensor:
        """Return the indices of an axis that stay."""
        values = tuple((id(atom), plan.keys.get(atom)) for atom in axis.atoms())
        key = self._signatures[id(axis)], values, device
        cached = self._indices.get(key)
        if cached is None:
            own = positions(axis, plan.indices)
            assert own is not None
            cached = self._indices[key] = torch.from_numpy(own).to(device)
        return cached


class _Copies:
    """Copies the modules that a plan changes; the others are shared."""

    def __init__(
        self, narrowing: Narrowing, plan: Plan, sliced: list[Sliced], finish: Callable[[Tensor], Tensor]
    ) -> None:
        self._narrowing, self._plan, self._sliced, self._finish = narrowing, plan, sliced, finish
        self._modules: dict[int, nn.Module] = {}
        self._tensors: dict[int, Tensor] = {}

    def network(self, network: nn.Module) -> nn.Module:
        return self._copy("", network)

    def own(self) -> dict[int, Any]:
        """Return a memo for ``copy.deepcopy`` in which the slices are their own copies."""
        return {id(tensor): tensor for tensor in self._tensors.values()}

    def _copy(self, path: str, module: nn.Module) -> nn.Module:
        done = self._modules.get(id(module))
        if done is not None:
            return done
        plan, children, changed = self._plan, dict[str, nn.Module | None](), False
        for name, child in module._modules.items():
            if child is None:
                children[name] = None
                continue
            own = f"{path}.{name}" if path else name
            if own in plan.skipped:
                changed = True
                if not _can_lack(module, name, path, plan.skipped):
                    children[name] = nn.Identity().train(child.training)
                continue
            children[name] = copied = self._copy(own, child)
            changed |= copied is not child
        tensors = list(self._narrowing.tensor_changes(path, plan))
        attributes = [
            (name, value)
            for name, value in self._narrowing.attribute_changes(path, plan)
            if normal(getattr(module, name)) != value
        ]
        side = plan.kernels.get(path)
        if changed or tensors or attributes or side is not None:
            module = self._changed(module, children, tensors, attributes, side)
        self._modules[id(module)] = module
        return module

    def _changed(
        self,
        module: nn.Module,
        children: Mapping[str, nn.Module | None],
        tensors: Sequence[tuple[str, list[tuple[int, Axis]]]],
        attributes: Sequence[tuple[str, object]],
        side: int | None,
    ) -> nn.Module:
        twin: nn.Module = object.__new__(type(module))
        own = twin.__dict__
        own.update(module.__dict__)
        own["_modules"], own["_parameters"] = dict(children), module._parameters.copy()
        own["_buffers"] = module._buffers.copy()
        for name, value in module.__dict__.items():
            if (
                type(value) is dict
                and name not in _TENSORS
                and all(isinstance(each, Tensor) for each in value.values())
            ):
                own[name] = {}  # a cache of tensors that were computed from weights of another size
        for name, value in attributes:
            own[name] = value
        for name, axes in tensors:
            is_buffer = name in module._buffers
            whole = module._buffers[name] if is_buffer else module._parameters[name]
            assert whole is not None
            tensor, indices = whole, []
            for dim, axis in axes:
                index = self._narrowing.indices(axis, self._plan, whole.device)
                indices.append((dim, index))
                tensor = tensor.index_select(dim, index)
            tensor = self._same_object(whole, tensor)
            own["_buffers" if is_buffer else "_parameters"][name] = tensor
            if is_buffer:
                self._sliced.append(Sliced(twin, name, whole, _grid(whole, indices)))
        if isinstance(twin, nn.RNNBase):
            own["_flat_weights"] = [own["_parameters"][name] for name in twin._flat_weights_names]
        if side is not None:
            self._tensors[id(own["_parameters"]["weight"])] = _crop(twin, side, self._finish)
        return twin

    def _same_object(self, whole: Tensor, narrow: Tensor) -> Tensor:
        """Return the tensor of a view; modules that share a tensor share its slice."""
        cached = self._tensors.get(id(whole))
        if cached is None:
            cached = self._finish(narrow) if isinstance(whole, nn.Parameter) else narrow
            _mark(cached, whole)
            self._tensors[id(whole)] = cached
        return cached


_TENSORS = ("_parameters", "_buffers", "_modules")


def _mark(narrow: Tensor, whole: Tensor) -> None:
    """Set whether a slice requires gradients: torch chooses kernels, which round differently, by that."""
    if (narrow.is_leaf or not whole.requires_grad) and not torch.is_inference_mode_enabled():
        narrow.requires_grad_(whole.requires_grad)


def _own(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor.detach())


def _listed(axis: Axis | list[Axis]) -> list[Axis]:
    return [axis] if isinstance(axis, Axis) else axis


def _places(
    network: nn.Module, tensors: Mapping[tuple[str, str], object]
) -> dict[str, list[tuple[str, tuple[str, str]]]]:
    """Return path -> name of a tensor and the key in ``tensors`` of the same tensor, which modules may share."""
    keys = {}
    for path, name in tensors:
        module = network.get_submodule(path)
        keys[id(module._parameters.get(name, module._buffers.get(name)))] = (path, name)
    places: dict[str, list[tuple[str, tuple[str, str]]]] = {}
    for path, module in network.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if id(tensor) in keys:
                places.setdefault(path, []).append((name, keys[id(tensor)]))
    return places


def _can_lack(module: nn.Module, name: str, path: str, skipped: set[str]) -> bool:
    """Whether a child can be removed: from a sequence, or from the end of a list, whose items have positions."""
    if isinstance(module, nn.Sequential):
        return type(module).forward is nn.Sequential.forward
    later = list(module._modules)[list(module._modules).index(name) :]
    return isinstance(module, nn.ModuleList) and all(f"{path}.{each}".lstrip(".") in skipped for each in later)


def _grid(tensor: Tensor, indices: Sequence[tuple[int, Tensor]]) -> tuple[Tensor, ...]:
    """Return the index of a slice: one tensor for each dimension up to the last sliced one, broadcast together."""
    sliced = dict(indices)
    last = max(sliced)
    result = []
    for dim in range(last + 1):
        index = sliced.get(dim, torch.arange(tensor.shape[dim], device=tensor.device))
        result.append(index.reshape(-1, *[1] * (last - dim)))
    return tuple(result)


def _crop(module: nn.Module, side: int, finish: Callable[[Tensor], Tensor]) -> Tensor:
    """Keep the centre of a convolution's kernel, and the size of its output; return the new weight."""
    convolution: Any = module
    weight = convolution._parameters["weight"]
    border = (convolution.kernel_size[0] - side) // 2
    middle = (Ellipsis, *[slice(border, border + side)] * (weight.dim() - 2))
    own = module.__dict__
    # Contiguous, as the weight of an extracted network: kernels may round other layouts in another way.
    cropped = finish(weight[middle].contiguous())
    _mark(cropped, weight)
    own["_parameters"]["weight"] = cropped
    own["kernel_size"] = (side,) * len(convolution.kernel_size)
    own["padding"] = tuple(dilation * (side - 1) // 2 for dilation in convolution.dilation)
    own["_reversed_padding_repeated_twice"] = [each for pad in reversed(own["padding"]) for each in (pad, pad)]
    return cropped
