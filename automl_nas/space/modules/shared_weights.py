"""Options of a choice that use parts of the weights of its largest option: first channels, centres of kernels.

BigNAS (Yu et al. 2020, arXiv 2003.11142) and once-for-all (Cai et al. 2020, arXiv 1908.09791) share weights like this
among sizes of one layer; here whole modules of an equal structure do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Scalar
from automl_nas.space.modules.copying import shallow_copy

_SEPARATE = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Classes of layers whose parameters and statistics belong to one option: they fit its activations alone."""

_STACKED = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Classes whose parameters are several weights in one tensor, so that its first rows are no part of each of them."""

Index: TypeAlias = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter of a small module that is a part of the parameter of the same name in a large one.

    Attributes:
        path: of the module that has the parameter, the same in both; names of children, the outermost first.
        name: of the parameter.
        index: which elements of the large parameter; empty: all.
    """

    path: tuple[str, ...]
    name: str
    index: Index

    def whole(self, large: nn.Module) -> nn.Parameter:
        """Return the parameter of a large module."""
        parameter = _descendant(large, self.path)._parameters[self.name]
        assert parameter is not None
        return parameter

    def of(self, large: nn.Module) -> Tensor:
        """Return the part of the parameter of a large module, a view through which gradients flow."""
        parameter = self.whole(large)
        return parameter[self.index] if self.index else parameter


def owners(options: Mapping[Scalar, nn.Module]) -> tuple[dict[Scalar, Scalar], list[str]]:
    """Return option -> the option whose weights it uses, and why the others use none of the largest one.

    The option with the most parameters keeps its own, and so does each option that does not fit into a larger one.
    """
    lazy = [name for name, module in options.items() if any(is_lazy(each) for each in module.parameters())]
    reasons = [f"the shapes of {name!r} are not known before its first call" for name in lazy]
    sizes = {name: _size(module) for name, module in options.items() if name not in lazy}
    by_size = sorted((name for name, size in sizes.items() if size), key=lambda name: -sizes[name])
    result: dict[Scalar, Scalar] = {}
    keepers: list[Scalar] = []
    for name in by_size:
        misfits: list[str] = []
        for keeper in keepers:
            reason = misfit(options[name], options[keeper])
            if reason is None:
                result[name] = keeper
                break
            misfits.append(f"{name!r} does not fit into {keeper!r}: {reason}")
        else:
            keepers.append(name)
            reasons += misfits[:1]
    if len(by_size) == 1:
        reasons.append(f"{by_size[0]!r} is the only one that has weights, apart from normalisation")
    elif not by_size:
        reasons.append("none has weights, apart from normalisation")
    return result, reasons


def misfit(small: nn.Module, large: nn.Module) -> str | None:
    """Return why a module cannot use parts of the weights of another one; None: it can."""
    ours, theirs = (dict(module.named_modules(remove_duplicate=False)) for module in (small, large))
    for path, one in ours.items():
        if path not in theirs:
            return f"the other one has no module '{path}'"
        other, where = theirs[path], f"module '{path}'" if path else "it"
        if type(one) is not type(other):
            return f"{where} is a {type(one).__name__}, not a {type(other).__name__}"
        ours_here, theirs_here = _named(one), _named(other)
        if ours_here.keys() != theirs_here.keys():
            return f"{where} has the parameters {sorted(ours_here)}, not {sorted(theirs_here)}"
        if isinstance(one, _SEPARATE) or not ours_here:
            continue
        if isinstance(one, _STACKED):
            return f"{where} is a {type(one).__name__}, whose parameters are several weights in one tensor"
        for name, parameter in ours_here.items():
            full = f"{path}.{name}" if path else name
            reason = _misfit_of_shapes(tuple(parameter.shape), tuple(theirs_here[name].shape), _kernel_from(one))
            if reason is not None:
                return f"the parameter '{full}' of shape {tuple(parameter.shape)} {reason}"
    missing = [path for path in theirs if path not in ours]
    return f"it has no module '{missing[0]}'" if missing else None


def parts(small: nn.Module, large: nn.Module) -> tuple[Part, ...]:
    """Return all parameters of a module that are parts of those of another one; `misfit` must have returned None."""
    result = []
    for path, module in small.named_modules():
        if isinstance(module, _SEPARATE):
            continue
        names = tuple(path.split(".")) if path else ()
        whole = _named(_descendant(large, names))
        for name, parameter in _named(module).items():
            index = _index(tuple(parameter.shape), tuple(whole[name].shape), _kernel_from(module))
            result.append(Part(names, name, index))
    return tuple(result)


def remove(module: nn.Module, borrowed: Sequence[Part]) -> None:
    """Remove the parameters that are parts of others: they become None, as torch writes an absent parameter."""
    for part in borrowed:
        _descendant(module, part.path)._parameters[part.name] = None


def with_parts(module: nn.Module, large: nn.Module, borrowed: Sequence[Part]) -> nn.Module:
    """Return a module without these parameters as one that has them; it shares all other tensors and modules."""
    twins: dict[tuple[str, ...], nn.Module] = {(): shallow_copy(module)}
    for part in borrowed:
        for depth, name in enumerate(part.path):
            path = part.path[: depth + 1]
            if path not in twins:
                parent = twins[path[:-1]]
                child = parent._modules[name]
                assert child is not None
                parent._modules[name] = twins[path] = shallow_copy(child)
        # An attribute and not a Parameter, so that the view has the Parameters of the supernet and no others.
        twins[part.path].__dict__[part.name] = part.of(large)
    return twins[()]


def fill(module: nn.Module, large: nn.Module, borrowed: Sequence[Part]) -> None:
    """Give a stand-alone copy of a module without these parameters copies of them."""
    for part in borrowed:
        # The part itself requires no gradient where gradients are turned off.
        copied = nn.Parameter(part.of(large).detach().clone(), part.whole(large).requires_grad)
        _descendant(module, part.path)._parameters[part.name] = copied


def check_single_use(root: nn.Module, sharing: Mapping[str, Sequence[nn.Module]]) -> None:
    """Check that no module or parameter of an option that shares weights is in the network a second time.

    Args:
        root: the network.
        sharing: path of a choice -> its options that share weights.

    Raises:
        SpaceError: one is; the second place would have lost its weights, or its tie.
    """
    if not sharing:
        return
    places: Counter[int] = Counter()
    for module in root.modules():
        places.update(id(child) for child in module._modules.values() if child is not None)
        places.update(id(parameter) for parameter in _named(module).values())
    for path, options in sharing.items():
        for option in options:
            for inner, module in option.named_modules():
                twice = [name for name, each in _named(module).items() if places[id(each)] > 1]
                if places[id(module)] > 1 or twice:
                    what = f"the parameter '{twice[0]}' of its" if twice else "its"
                    where = f"module '{inner}'" if inner else f"option, a {type(module).__name__},"
                    raise SpaceError(
                        f"the choice '{path}' shares weights among its options, but {what} {where} is in the network a "
                        "second time; give each place a module of its own, or leave out shared=True"
                    )


def _named(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: each for name, each in module._parameters.items() if each is not None}


def _size(module: nn.Module) -> int:
    """Return the number of weights, apart from those of normalisation."""
    layers = [each for each in module.modules() if not isinstance(each, _SEPARATE)]
    return sum(parameter.numel() for layer in layers for parameter in _named(layer).values())


def _descendant(module: nn.Module, path: Sequence[str]) -> nn.Module:
    for name in path:
        child = module._modules[name]
        assert child is not None
        module = child
    return module


def _kernel_from(module: nn.Module) -> int | None:
    """Return the first dimension of the kernel in weights of a layer; None: the layer has no kernel."""
    return 2 if isinstance(module, _ConvNd) else None


def _misfit_of_shapes(small: tuple[int, ...], large: tuple[int, ...], kernel_from: int | None) -> str | None:
    if len(small) != len(large):
        return f"has other dimensions than that of shape {large}"
    if any(ours > theirs for ours, theirs in zip(small, large, strict=True)):
        return f"is larger than that of shape {large}"
    if kernel_from is not None:
        for ours, theirs in zip(small[kernel_from:], large[kernel_from:], strict=True):
            if (theirs - ours) % 2:
                return f"has no place in the centre of that of shape {large}: kernels must be both odd or both even"
    return None


def _index(small: tuple[int, ...], large: tuple[int, ...], kernel_from: int | None) -> Index:
    if small == large:
        return ()
    index = []
    for dimension, (ours, theirs) in enumerate(zip(small, large, strict=True)):
        start = (theirs - ours) // 2 if kernel_from is not None and dimension >= kernel_from else 0
        index.append(slice(start, start + ours))
    return tuple(index)
