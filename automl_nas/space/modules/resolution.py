"""Where the choices are in a tree of modules, and how something is put in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture, Scalar, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.copying import clone, shallow

Shapes = Mapping[str, tuple[int, ...]]
"""Path of a choice module -> the shape of what reaches it."""


class Structure:
    """The choice modules of a tree: their paths, their decisions, and which modules lie on the way to them.

    Args:
        root: the user's module; its choice modules learn their paths.

    Raises:
        SpaceError: tied choices that differ.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.decisions: dict[str, Decision] = {}
        self.names: dict[ChoiceModule, dict[str, str]] = {}
        owners: dict[str, ChoiceModule] = {}
        for path, module in root.named_modules():
            if not isinstance(module, ChoiceModule):
                continue
            module.path = path or "(root)"
            prefix = module.decision_name or path
            bound: dict[str, str] = {}
            for key, decision in module.decisions().items():
                name = ".".join(part for part in (prefix, key) if part) or "root"
                first = owners.setdefault(name, module)
                if first is not module:
                    _check_tie(name, first, module, self.decisions[name], decision)
                self.decisions[name] = decision
                bound[key] = name
            self.names[module] = bound
        self.refresh()

    def refresh(self) -> None:
        """Find the ways to the choices anew, after options were removed."""
        present = set(self.root.modules())
        self.names = {module: names for module, names in self.names.items() if module in present}
        self._deciding = self._ways([module for module, names in self.names.items() if names])
        self._all = self._ways(list(self.names))

    def _ways(self, choices: Sequence[ChoiceModule]) -> dict[nn.Module, tuple[str, ...]]:
        wanted: set[nn.Module] = set(choices)
        ways: dict[nn.Module, tuple[str, ...]] = {}
        done: set[nn.Module] = set()

        def visit(module: nn.Module) -> bool:
            if module not in done:
                done.add(module)
                names = tuple(name for name, child in module._modules.items() if child is not None and visit(child))
                if names or module in wanted:
                    ways[module] = names
            return module in ways

        visit(self.root)
        return ways

    def decisions_in(self, module: nn.Module) -> tuple[str, ...]:
        """Return the names of all decisions made inside a module, each once, in order."""
        found: dict[str, None] = {}
        for child in module.modules():
            if isinstance(child, ChoiceModule):
                found.update(dict.fromkeys(self.names[child].values()))
        return tuple(found)

    def view(self, module: nn.Module, taken: Mapping[str, ResolvedChoice]) -> nn.Module:
        """Return a module that shares everything, with the choices inside replaced by what is taken."""
        return _View(self.names, self._deciding, taken)(module)

    def extract(self, taken: Mapping[str, ResolvedChoice], shapes: Callable[[], Shapes], *, fresh: bool) -> nn.Module:
        """Return the root with the choices replaced, and no class of this framework inside.

        Args:
            taken: for every decision.
            shapes: what `ModuleResolver.input_shape` answers from; called at most once, and only if asked.
            fresh: the root is thrown away afterwards: nothing is copied, and sliced layers draw new weights.
        """
        return _Extraction(self.names, self._all, taken, shapes, fresh)(self.root)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set what does not matter to its default: decisions inside options not taken, dead edges of a `Dag`."""
        found: dict[str, list[Value]] = {}

        def visit(module: nn.Module) -> None:
            children: Sequence[nn.Module | None]
            if isinstance(module, ChoiceModule):
                names = self.names[module]
                values, children = module.canonical_values({key: architecture[name] for key, name in names.items()})
                for key, value in values.items():
                    found.setdefault(names[key], []).append(value)
            else:
                children = [module._modules[name] for name in self._all[module]]
            for child in children:
                if child in self._all:
                    assert child is not None
                    visit(child)

        if self.root in self._all:
            visit(self.root)
        changed = {name: _merge(decision, found.get(name, [])) for name, decision in self.decisions.items()}
        changed = {name: value for name, value in changed.items() if value != architecture[name]}
        return architecture.replaced(changed) if changed else architecture


class _View(ModuleResolver):
    """Shares Parameters and buffers; copies, shallowly, only what lies on the way to a choice."""

    fresh = False

    def __init__(
        self,
        names: Mapping[ChoiceModule, Mapping[str, str]],
        ways: Mapping[nn.Module, tuple[str, ...]],
        taken: Mapping[str, ResolvedChoice],
    ) -> None:
        self._names, self._ways, self._taken = names, ways, taken
        self._done: dict[nn.Module, nn.Module] = {}

    def __call__(self, module: nn.Module) -> nn.Module:
        ways = self._ways.get(module)
        if ways is None:
            return module
        if module in self._done:
            return self._done[module]
        twin: nn.Module
        if isinstance(module, ChoiceModule):
            twin = module.view({key: self._taken[name] for key, name in self._names[module].items()}, self)
        else:
            twin = shallow(module)
            for name in ways:
                child = module._modules[name]
                assert child is not None
                twin._modules[name] = self(child)
        self._done[module] = twin
        return twin

    def input_shape(self, choice: ChoiceModule) -> tuple[int, ...]:
        """Refuse: a view sees its input when it is called."""
        raise AssertionError("input_shape belongs to extraction")


class _Extraction(ModuleResolver):
    """Makes copies (or, for a root that is thrown away, uses what is there)."""

    fresh = False

    def __init__(
        self,
        names: Mapping[ChoiceModule, Mapping[str, str]],
        ways: Mapping[nn.Module, tuple[str, ...]],
        taken: Mapping[str, ResolvedChoice],
        shapes: Callable[[], Shapes],
        fresh: bool,
    ) -> None:
        self._names, self._ways, self._taken, self._ask = names, ways, taken, shapes
        self.fresh = fresh
        self._shapes: Shapes | None = None
        self._memo: dict[int, Any] = {}

    def __call__(self, module: nn.Module) -> nn.Module:
        if id(module) in self._memo:
            return self._memo[id(module)]  # type: ignore[no-any-return]
        ways = self._ways.get(module)
        twin: nn.Module
        if isinstance(module, ChoiceModule):
            twin = module.extract({key: self._taken[name] for key, name in self._names[module].items()}, self)
        elif ways is None:
            twin = module if self.fresh else clone(module, self._memo, self)
        elif self.fresh:
            twin = module
            for name in ways:
                child = module._modules[name]
                assert child is not None
                module._modules[name] = self(child)
        else:
            twin = clone(module, self._memo, self)
        self._memo[id(module)] = twin
        return twin

    def input_shape(self, choice: ChoiceModule) -> tuple[int, ...]:
        """See `ModuleResolver.input_shape`."""
        if self._shapes is None:
            self._shapes = self._ask()
        return self._shapes[choice.path]


def shrink(name: str, decision: Decision, kept: Sequence[Scalar]) -> Decision | None:
    """Return a decision with fewer options, in their old order; None when a `Subset` has none left.

    Raises:
        SpaceError: an unknown option, or no option left of a decision that must take one.
    """
    try:
        positions = sorted({decision.position(option) for option in kept})
    except SpaceError as error:
        raise SpaceError(f"decision '{name}': {error}") from None
    options = tuple(decision.options[position] for position in positions)
    if not options and not (isinstance(decision, Subset) and decision.min == 0):
        raise SpaceError(f"decision '{name}': at least one option must stay alive")
    if isinstance(decision, Subset):
        most = None if decision.max is None else min(decision.max, len(options))
        return Subset(options, min(decision.min, len(options)), most) if options else None
    return type(decision)(options)


def _merge(decision: Decision, values: Sequence[Value]) -> Value:
    if not values:
        return decision.options[: decision.min] if isinstance(decision, Subset) else decision.options[0]
    if all(value == values[0] for value in values):
        return values[0]
    # A tied Subset: an edge stays if it is live in any of the places.
    union = {option for value in values if isinstance(value, tuple) for option in value}
    return tuple(option for option in decision.options if option in union)


def _check_tie(name: str, first: ChoiceModule, second: ChoiceModule, one: Decision, other: Decision) -> None:
    if first.decision_name is None or second.decision_name is None:
        raise SpaceError(
            f"the choices at '{first.path}' and '{second.path}' are both called '{name}'; "
            "tied choices give the same name explicitly, others need different names"
        )
    if one != other:
        raise SpaceError(
            f"the choices at '{first.path}' and '{second.path}' are tied by the name '{name}' but differ: "
            f"{one.options!r} and {other.options!r}; give them the same options or different names"
        )


def check_reachable(root: nn.Module) -> None:
    """Look for choices in plain lists and dicts, where torch does not see them.

    Raises:
        SpaceError: there is one; the message names the attribute.
    """
    registered = set(root.modules())
    for path, module in root.named_modules():
        for attribute, value in vars(module).items():
            if attribute == "_modules":
                continue
            for held in _modules_in_container(value):
                lost = [each for each in held.modules() if isinstance(each, ChoiceModule) and each not in registered]
                if lost:
                    where = f"{path}.{attribute}" if path else attribute
                    raise SpaceError(
                        f"'{where}' holds a {type(lost[0]).__name__} in a plain {type(value).__name__}, where neither "
                        "its weights nor its decision can be found; use nn.ModuleList, nn.ModuleDict or nn.Sequential"
                    )


def _modules_in_container(value: object) -> Iterator[nn.Module]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            if isinstance(item, nn.Module):
                yield item
            elif isinstance(item, list | tuple | dict):
                yield from _modules_in_container(item)
