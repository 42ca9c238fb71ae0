"""The choices in a tree of modules: where they are, and how each is replaced by what a selection holds for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.copying import clone, shallow_copy
from automl_nas.space.modules.shared_weights import check_single_use

Shapes = Mapping[str, tuple[int, ...]]
"""Path of a choice module -> the shape of its input, batch included."""


class ChoiceTree:
    """The choice modules of a tree: their paths, their decisions, and the modules that contain them.

    Args:
        root: the user's module; the path of each of its choice modules is set on the choice module.

    Raises:
        SpaceError: tied choices differ.

    Attributes:
        root: the user's module.
        decisions: decision name -> decision, in the order of the modules.
        names: choice module -> key -> name of the decision.
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
            names: dict[str, str] = {}
            for key, decision in module.decisions().items():
                name = ".".join(part for part in (prefix, key) if part) or "root"
                first = owners.setdefault(name, module)
                if first is not module:
                    _check_tie(name, first, module, self.decisions[name], decision)
                self.decisions[name] = decision
                names[key] = name
            self.names[module] = names
        self.refresh()

    def refresh(self) -> None:
        """Update the tree after options were removed from its modules."""
        present = set(self.root.modules())
        self.names = {module: names for module, names in self.names.items() if module in present}
        self._to_decisions = self._paths_to([module for module, names in self.names.items() if names])
        self._to_choices = self._paths_to(list(self.names))

    def _paths_to(self, choices: Sequence[ChoiceModule]) -> dict[nn.Module, tuple[str, ...]]:
        """Return for each module that is or contains one of the choices: the names of the children that do."""
        targets: set[nn.Module] = set(choices)
        paths: dict[nn.Module, tuple[str, ...]] = {}
        visited: set[nn.Module] = set()

        def visit(module: nn.Module) -> bool:
            if module not in visited:
                visited.add(module)
                names = tuple(name for name, child in module._modules.items() if child is not None and visit(child))
                if names or module in targets:
                    paths[module] = names
            return module in paths

        visit(self.root)
        return paths

    def sharing(self) -> dict[str, Sequence[nn.Module]]:
        """Return the path of each choice whose options share weights in a supernet -> these options."""
        options = {each.path: each.sharing_options() for each in self.names}
        return {path: each for path, each in options.items() if each}

    def check_sharing(self) -> None:
        """Check that no module of options that share weights is used twice.

        Raises:
            SpaceError: one is; see `check_single_use`.
        """
        check_single_use(self.root, self.sharing())

    def decisions_in(self, module: nn.Module) -> tuple[str, ...]:
        """Return the names of all decisions made inside a module, each once, in order."""
        names: dict[str, None] = {}
        for child in module.modules():
            if isinstance(child, ChoiceModule):
                names.update(dict.fromkeys(self.names[child].values()))
        return tuple(names)

    def consecutive_parts(self) -> tuple[tuple[str, ...], ...]:
        """Return the paths of modules that run one after the other, in groups; each ends with one that has decisions.

        A network is split where it is a plain ``nn.Sequential``, also inside another one. Modules after the last
        decision are in the last group. Any other network is one group with the empty path, that of the root. A network
        that `extract` returns has modules of the same paths.
        """
        paths = list(self._unnested(self.root, ""))
        groups: list[tuple[str, ...]] = []
        pending: list[str] = []
        for path in paths:
            pending.append(path)
            if self.decisions_in(self.root.get_submodule(path)):
                groups.append(tuple(pending))
                pending = []
        if not groups:
            return (tuple(paths),)
        groups[-1] += tuple(pending)
        return tuple(groups)

    def decisions_of(self, part: Sequence[str]) -> tuple[str, ...]:
        """Return the names of all decisions made in the modules of a part, each once, in order."""
        names = (name for path in part for name in self.decisions_in(self.root.get_submodule(path)))
        return tuple(dict.fromkeys(names))

    def _unnested(self, module: nn.Module, path: str) -> Iterator[str]:
        is_plain = type(module).forward is nn.Sequential.forward
        # A hook of a container sees the input and the output of all its modules together.
        if not is_plain or module._forward_hooks or module._forward_pre_hooks or not self.decisions_in(module):
            yield path
            return
        for name, child in module._modules.items():
            if child is not None:
                yield from self._unnested(child, f"{path}.{name}" if path else name)

    def view(self, module: nn.Module, choices: Mapping[str, ResolvedChoice]) -> nn.Module:
        """Return a module that shares all tensors with ``module``, its choices replaced by what is selected."""
        return _ViewResolver(self.names, self._to_decisions, choices)(module)

    def extract(self, choices: Mapping[str, ResolvedChoice], shapes: Callable[[], Shapes], *, fresh: bool) -> nn.Module:
        """Return a stand-alone network: the root with the choices replaced, and no class of this framework inside.

        Args:
            choices: decision name -> what is selected.
            shapes: returns the input shapes for `ModuleResolver.input_shape`; called at most once, only when needed.
            fresh: the root's weights are fresh and the root is not used again, so its modules are moved instead of
                copied, and sliced layers draw new weights.
        """
        return _ExtractResolver(self.names, self._to_choices, choices, shapes, fresh)(self.root)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set decisions that make no difference to a default: those inside unselected options, dead edges of a Dag."""
        canonical: dict[str, list[Value]] = {}

        def visit(module: nn.Module) -> None:
            children: Sequence[nn.Module | None]
            if isinstance(module, ChoiceModule):
                names = self.names[module]
                values, children = module.canonical_values({key: architecture[name] for key, name in names.items()})
                for key, value in values.items():
                    canonical.setdefault(names[key], []).append(value)
            else:
                children = [module._modules[name] for name in self._to_choices[module]]
            for child in children:
                if child in self._to_choices:
                    assert child is not None
                    visit(child)

        if self.root in self._to_choices:
            visit(self.root)
        changed = {name: _merge(decision, canonical.get(name, [])) for name, decision in self.decisions.items()}
        changed = {name: value for name, value in changed.items() if value != architecture[name]}
        return architecture.replace(changed) if changed else architecture


class _ViewResolver(ModuleResolver):
    """Shares Parameters and buffers; makes shallow copies of the modules that contain a decision, and of no others."""

    fresh = False

    def __init__(
        self,
        names: Mapping[ChoiceModule, Mapping[str, str]],
        paths: Mapping[nn.Module, tuple[str, ...]],
        choices: Mapping[str, ResolvedChoice],
    ) -> None:
        self._names, self._paths, self._choices = names, paths, choices
        self._resolved: dict[nn.Module, nn.Module] = {}

    def __call__(self, module: nn.Module) -> nn.Module:
        children = self._paths.get(module)
        if children is None:
            return module
        if module in self._resolved:
            return self._resolved[module]
        twin: nn.Module
        if isinstance(module, ChoiceModule):
            twin = module.view({key: self._choices[name] for key, name in self._names[module].items()}, self)
        else:
            twin = shallow_copy(module)
            for name in children:
                child = module._modules[name]
                assert child is not None
                twin._modules[name] = self(child)
        self._resolved[module] = twin
        return twin

    def input_shape(self, choice: ChoiceModule) -> tuple[int, ...]:
        """Raise an error: the layers of a view read the shape of their input when they are called."""
        raise AssertionError("input_shape is available during extraction only")


class _ExtractResolver(ModuleResolver):
    """Copies modules, or with ``fresh`` moves them into the new network."""

    fresh = False

    def __init__(
        self,
        names: Mapping[ChoiceModule, Mapping[str, str]],
        paths: Mapping[nn.Module, tuple[str, ...]],
        choices: Mapping[str, ResolvedChoice],
        shapes: Callable[[], Shapes],
        fresh: bool,
    ) -> None:
        self._names, self._paths, self._choices, self._compute_shapes = names, paths, choices, shapes
        self.fresh = fresh
        self._shapes: Shapes | None = None
        self._memo: dict[int, Any] = {}

    def __call__(self, module: nn.Module) -> nn.Module:
        if id(module) in self._memo:
            return self._memo[id(module)]  # type: ignore[no-any-return]
        children = self._paths.get(module)
        twin: nn.Module
        if isinstance(module, ChoiceModule):
            twin = module.extract({key: self._choices[name] for key, name in self._names[module].items()}, self)
        elif children is None:
            twin = module if self.fresh else clone(module, self._memo, self)
        elif self.fresh:
            twin = module
            for name in children:
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
            self._shapes = self._compute_shapes()
        return self._shapes[choice.path]


def _merge(decision: Decision, values: Sequence[Value]) -> Value:
    if not values:
        return decision.options[: decision.min] if isinstance(decision, Subset) else decision.options[0]
    if all(value == values[0] for value in values):
        return values[0]
    # A tied Subset: an edge stays if it is live in any of the tied Dags.
    union = {option for value in values if isinstance(value, tuple) for option in value}
    return tuple(option for option in decision.options if option in union)


def _check_tie(name: str, first: ChoiceModule, second: ChoiceModule, decision: Decision, other: Decision) -> None:
    if first.decision_name is None or second.decision_name is None:
        raise SpaceError(
            f"the choices at '{first.path}' and '{second.path}' are both called '{name}'; "
            "to tie them, pass the same name to both; otherwise pass different names"
        )
    if decision != other:
        places = f"the choices at '{first.path}' and '{second.path}' are tied by the name '{name}' but differ"
        if type(decision) is not type(other):
            raise SpaceError(
                f"{places} in the kind of the decision: {type(first).__name__} makes {type(decision).__name__}"
                f"({decision.options!r}), {type(second).__name__} makes {type(other).__name__}({other.options!r}); tie "
                "choices of one kind, or use different names"
            )
        what = (decision.options, other.options) if decision.options != other.options else (decision, other)
        raise SpaceError(f"{places}: {what[0]!r} and {what[1]!r}; use the same options or different names")


def check_reachable(root: nn.Module) -> None:
    """Check that no choice is in a plain list or dict, where torch does not register it.

    Raises:
        SpaceError: a choice is in a plain container; the message contains the attribute.
    """
    registered = set(root.modules())
    for path, module in root.named_modules():
        for attribute, value in vars(module).items():
            if attribute == "_modules":
                continue
            for contained in _modules_in_container(value):
                for choice in contained.modules():
                    if isinstance(choice, ChoiceModule) and choice not in registered:
                        location = f"{path}.{attribute}" if path else attribute
                        raise SpaceError(
                            f"'{location}' contains a {type(choice).__name__} in a plain {type(value).__name__}, where "
                            "torch registers neither its weights nor its decision; use nn.ModuleList, nn.ModuleDict or "
                            "nn.Sequential"
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
