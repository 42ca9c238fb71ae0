"""`replace`: choices in place of named submodules of any network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

from torch import nn

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.decisions import plain_options
from automl_nas.space.modules.choice import OneOf, check_module
from automl_nas.space.modules.fresh_copies import copy_of, drawn_anew


class Keep(Enum):
    """The type of `KEEP`."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP
"""The option of `replace` that is the replaced module itself, with its weights."""

Function: TypeAlias = Callable[[nn.Module], nn.Module]
Option: TypeAlias = nn.Module | Function | Keep
Options: TypeAlias = Sequence[Option] | Mapping[Any, Option] | nn.Module | Function


def replace(network: nn.Module, places: Mapping[str, Options], *, tied: Mapping[str, str] | None = None) -> nn.Module:
    """Return a copy of a network with choices in place of some of its submodules.

    The network is not changed. The copy has its weights, so ``lambda: replace(trained, ...)`` is a space that begins
    with trained weights, and ``lambda: replace(Net(), ...)`` one with fresh ones. Under ``torch.device("meta")`` the
    copy has no data.

    Args:
        network: any module.
        places: pattern -> what takes the place of each submodule whose path matches. In a pattern the parts between
            dots are compared with the parts of a path as file names are: ``*`` is any text without a dot, ``?`` one
            character, ``[ab]`` one of several; a part ``**`` is any number of parts, also none. So ``layer*.*.conv1``
            is ``layer1.0.conv1`` and not ``layer1.0.branch.conv1``, and ``**.relu`` is every submodule of the name
            ``relu``.

            A sequence or mapping of options becomes a `OneOf`. An option is `KEEP`; a module, which is copied for each
            place, with weights drawn anew; or a function that takes a copy of the replaced module and returns a
            module. An option that is an activation does not work in place, so that options can be weighted. A single
            function takes the replaced module itself and returns what takes its place, such as a `Repeat`, a `Dag`, an
            elastic layer or a module without a choice; a single module is copied as an option is.
        tied: pattern of options -> name of the one decision that all places of the pattern share. Other places are
            decided one by one; the name of a decision is its path.

    Raises:
        SpaceError: no path or the root matches a pattern, a place is inside another one or matches two patterns, the
            network uses the submodule at a second place, too, or an option is wrong.

    Example::

        def network():
            wide = lambda conv: nn.Conv2d(conv.in_channels, conv.out_channels, 5, conv.stride, 2, bias=False)
            return replace(resnet18(num_classes=10), {"layer*.*.conv[12]": {"3x3": KEEP, "5x5": wide}})


        space = ModuleSpace(network, input_shape=(3, 32, 32))
    """
    check_module("the network of replace", network)
    tied = tied or {}
    for pattern in tied:
        if pattern not in places:
            raise SpaceError(f"tied names the pattern '{pattern}', which places does not have")
        if not isinstance(places[pattern], Sequence | Mapping | nn.ModuleList | nn.ModuleDict):
            raise SpaceError(
                f"tied names the pattern '{pattern}', which has no list or mapping of options; the function gives its "
                f"choice a name: OneOf(..., name='{tied[pattern]}')"
            )
    matched = _matched(network, places)
    result = copy_of(network)
    for path, pattern in matched.items():
        parent_path, _, name = path.rpartition(".")
        parent = result.get_submodule(parent_path)
        original = parent.get_submodule(name)
        new = _replacement(original, places[pattern], tied.get(pattern), f"'{path}' (pattern '{pattern}')")
        if new is not original:
            _adapt(new, original, result)
        parent._modules[name] = new
    return result


def _matched(network: nn.Module, patterns: Iterable[str]) -> dict[str, str]:
    """Return path of each place -> its pattern, in the order of the modules.

    Raises:
        SpaceError: see `replace`.
    """
    paths: dict[nn.Module, list[str]] = {}
    for path, module in network.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    every = [path for group in paths.values() for path in group if path]
    pattern_of: dict[str, str] = {}
    for pattern in patterns:
        if not pattern:
            raise SpaceError(
                "the empty pattern is the network itself, which has no place inside it; for a choice among networks "
                "use OneOf([...])"
            )
        matching = [path for path in every if _matches(path.split("."), pattern.split("."))]
        if not matching:
            raise SpaceError(f"the pattern '{pattern}' matches no submodule{_nearest(pattern, every)}")
        for path in matching:
            first = pattern_of.setdefault(path, pattern)
            if first != pattern:
                raise SpaceError(
                    f"the submodule '{path}' matches two patterns, '{first}' and '{pattern}'; make one narrower"
                )
    for path, pattern in pattern_of.items():
        where = f"the submodule '{path}' (pattern '{pattern}')"
        for outer in _outer(path):
            if outer in pattern_of:
                raise SpaceError(
                    f"{where} is inside '{outer}' (pattern '{pattern_of[outer]}'), which is replaced as a whole; "
                    "replace one of them, or call replace inside a function that takes the outer one"
                )
        others = [other for group in paths.values() if path in group for other in group if other != path]
        if others:
            raise SpaceError(
                f"{where} is used at '{others[0]}', too; give each place a module of its own in the network first"
            )
    return {path: pattern_of[path] for path in every if path in pattern_of}


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return _matches(path, pattern[1:]) or (bool(path) and _matches(path[1:], pattern))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _nearest(pattern: str, paths: Sequence[str]) -> str:
    """Return the end of the message: what is at the beginning of the pattern that matches, or a similar path."""
    parts = pattern.split(".")
    for count in range(len(parts) - 1, 0, -1):
        start = [path for path in paths if _matches(path.split("."), parts[:count])]
        if start:
            names = {path[len(start[0]) + 1 :].split(".")[0] for path in paths if path.startswith(f"{start[0]}.")}
            inside = f" has the submodules {', '.join(sorted(names))}" if names else " has no submodules"
            return f"; '{start[0]}' matches its beginning '{'.'.join(parts[:count])}' and{inside}"
    return did_you_mean(pattern, paths if len(parts) > 1 else {path.split(".")[0] for path in paths})


def _outer(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _replacement(original: nn.Module, options: Options, name: str | None, place: str) -> nn.Module:
    """Return what takes the place of a submodule.

    Raises:
        SpaceError: an option is wrong.
    """
    owner = f"the replacement of {place}"
    items: list[tuple[Any, Option]]
    if isinstance(options, Mapping | nn.ModuleDict):
        items = list(options.items())
    elif isinstance(options, Sequence | nn.ModuleList):
        items = list(enumerate(options))
    else:
        return _option(original, original, options, owner)
    if not items:
        raise SpaceError(f"{owner} needs at least one option")
    if sum(option is KEEP for _, option in items) > 1:
        raise SpaceError(f"{owner} has the option KEEP twice")
    names = plain_options([each for each, _ in items], owner)
    modules: dict[Any, nn.Module] = {}
    for each, (_, option) in zip(names, items, strict=True):
        copied = original if option is KEEP or isinstance(option, nn.Module) else copy_of(original)
        module = _option(original, copied, option, f"the option {each!r} of {owner}")
        if any(module is other for other in modules.values()):
            raise SpaceError(f"the option {each!r} of {owner} returned a module that another option returned before")
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
        modules[each] = module
    return OneOf(modules, name)


def _option(original: nn.Module, copied: nn.Module, option: object, owner: str) -> nn.Module:
    """Return the module of one option.

    Args:
        original: the replaced submodule.
        copied: what a function gets.
        option: what the user passed.
        owner: for the message of an error.

    Raises:
        SpaceError: the option is wrong.
    """
    if option is KEEP:
        check_module(owner, original)
        return original
    if isinstance(option, nn.Module):
        check_module(owner, option)
        return drawn_anew(option, owner, "lambda module: ...")
    if isinstance(option, type) or not callable(option):
        check_module(owner, option)
    try:
        module = option(copied)  # type: ignore[operator]
    except SpaceError:
        raise
    except Exception as error:  # of the user's function
        reason = (str(error).splitlines() or [""])[0]
        raise SpaceError(
            f"{owner} cannot be made: the function raises {type(error).__name__}: {reason}; it is called with the "
            f"{type(original).__name__} that it replaces"
        ) from error
    check_module(f"what the function returns for {owner}", module)
    return module  # type: ignore[no-any-return]


def _adapt(new: nn.Module, original: nn.Module, network: nn.Module) -> None:
    """Give a new module the training flag, device and type of what it replaces."""
    original_modules = set(original.modules())
    for module in new.modules():
        if module not in original_modules:
            module.training = original.training
    floats = [each for owner in (original, network) for each in owner.parameters() if each.is_floating_point()]
    if floats and any(
        each.device != floats[0].device or (each.is_floating_point() and each.dtype != floats[0].dtype)
        for each in new.parameters()
    ):
        new.to(floats[0].device, floats[0].dtype)
