"""Contracts of components that are named: what ``automl-nas check`` runs, here and in the second process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from automl_nas.cli.references import import_from_command_line
from automl_nas.errors import ConfigurationError, PluginError, did_you_mean
from automl_nas.plugin import Component, Registry, Signature, import_reference
from automl_nas.plugin.component import unfit
from automl_nas.plugin.kinds import KINDS, kind_of, produced_class

if TYPE_CHECKING:
    from automl_nas.plugin import PluginManager
    from automl_nas.space import SearchSpace
    from automl_nas.testing import AskTellContract, Contract

COMMANDS, PLUGINS = "commands", "plugins"


@dataclass(frozen=True)
class Target:
    """Something with a contract. It is plain data: the second process makes the same contract from it.

    Attributes:
        kind: one of `KINDS`, `COMMANDS` or `PLUGINS`.
        name: the registered name, ``module:Class``, or the module of a plugin.
        settings: of the component, as in a configuration.
        space: the space of the checks: a registered name or ``module:function``; empty: a built-in one.
        declared: attributes of the contract class.
    """

    kind: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    space: str = ""
    declared: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        nouns = {COMMANDS: "command", PLUGINS: "plugin module"}
        return f"{nouns.get(self.kind) or KINDS[self.kind].noun} '{self.name}'"


def targets(name: str, kind: str | None, manager: PluginManager) -> list[Target]:
    """Return what a name means: a component, ``module:Class``, a command, a plugin or a distribution.

    Args:
        name: as the user wrote it.
        kind: only components of this kind; None: of all kinds.
        manager: has loaded the plugins.

    Raises:
        ConfigurationError: nothing has this name.
        PluginError: it is broken.
    """
    if ":" in name:
        produced = produced_class(import_from_command_line(name, "NAME", trust=True))
        produced_kind = None if produced is None else kind_of(produced)
        if produced_kind is None:
            raise ConfigurationError(
                f"{name} is not a component: it must be a class derived from {', '.join(_bases())}, or a function that "
                "is annotated to return one",
                path="NAME",
            )
        return [Target(produced_kind, name)]
    components = [c for c in manager.registry if c.name == name and kind in (None, c.kind)]
    if components:
        return [Target(c.kind, c.name) for c in components]
    plugins = [plugin for plugin in manager.plugins if name in (plugin.source.plugin, plugin.source.distribution)]
    every = [
        target
        for plugin in plugins
        for target in (
            Target(PLUGINS, plugin.source.module),
            *(Target(c.kind, c.name) for c in plugin.components),
            *(Target(COMMANDS, command) for command in plugin.commands),
        )
    ]
    every += [Target(COMMANDS, name) for plugin in manager.plugins if name in plugin.commands and not plugins]
    every = [target for target in every if kind in (None, target.kind)]
    if every:
        return every
    for failure in manager.broken:
        if name in (failure.source.plugin, failure.source.distribution):
            raise PluginError(str(failure))
    names = [c.name for c in manager.registry] + [plugin.source.plugin for plugin in manager.plugins]
    raise ConfigurationError(
        f"unknown component, command, plugin or distribution '{name}'{did_you_mean(name, names)}", path="NAME"
    )


def _bases() -> list[str]:
    return [kind.base_name for kind in KINDS.values()]


def contract_for(
    kind: str, name: str, settings: Mapping[str, Any], space: str, declared: Mapping[str, Any]
) -> Contract:
    """Return a new contract of a target; its arguments are the attributes of `Target`, as JSON.

    Raises:
        ConfigurationError: a setting is invalid, or the component needs something that the checks do not supply.
    """
    contract_class = _class(Target(kind, name, settings, space, declared))
    contract: Contract = contract_class()
    return contract


def _class(target: Target) -> type[Contract]:
    import automl_nas.testing as testing
    from automl_nas.run import complete_manager
    from automl_nas.testing import Origin

    manager = complete_manager()
    methods: dict[str, Any]
    if target.kind == PLUGINS:
        base: Any = testing.PluginContract
        methods = {"module": target.name}
    elif target.kind == COMMANDS:
        command = next(p.commands[target.name] for p in manager.plugins if target.name in p.commands)
        base, methods = testing.CommandContract, {"make": lambda self: command}
    else:
        base, methods = _component(_Maker(target, manager.registry))
    unknown = [name for name in target.declared if not hasattr(base, name)]
    if unknown:
        public = [name for name in dir(base) if not name.startswith(("_", "test_"))]
        raise ConfigurationError(
            f"{base.__name__} has no attribute '{unknown[0]}'{did_you_mean(unknown[0], public)}", path="--declare"
        )
    arguments = (target.kind, target.name, dict(target.settings), target.space, dict(target.declared))
    origin = Origin(f"{__name__}:contract_for", arguments)
    result: type[Contract] = type(
        f"Checked{base.__name__}", (base,), {**methods, **target.declared, "origin": lambda self: origin}
    )
    return result


class _Maker:
    """Constructs a component with what a run would supply, at toy size."""

    def __init__(self, target: Target, registry: Registry) -> None:
        self.target, self._registry = target, registry
        if ":" in target.name:
            self.factory: Callable[..., Any] = import_reference(target.name)
            reason = unfit(self.factory, KINDS[target.kind])
            if reason:
                raise PluginError(f"{target.name} {reason}")
            self._signature = Signature.of(self.factory, name=target.name)
        else:
            component: Component = registry.get(target.kind, target.name)
            self.factory, self._signature = component.load(), component.signature()
        self._signature.validate(target.settings, "--set", registry=registry)

    @property
    def produced(self) -> type:
        """The class of the component."""
        produced = produced_class(self.factory)
        assert produced is not None
        return produced

    def make(self, *collaborators: object, seed: int = 0) -> Any:
        """Return a new component.

        Args:
            collaborators: those that the contract supplies; they come before those at toy size.
            seed: for components that take one.
        """
        from automl_nas.evaluation import Runtime
        from automl_nas.testing import ToyTask

        more = (Runtime(device="cpu"), ToyTask())
        return self._signature.construct(
            self.factory, self.target.settings, [*collaborators, *more], seed, registry=self._registry
        )

    def space(self, *, skip: bool = False) -> SearchSpace:
        """Return the space of the checks: that of ``--space``, or a built-in one with a supernet.

        Args:
            skip: whether networks of the built-in one differ in their number of layers.
        """
        from automl_nas.testing import toy_supernet_space

        if not self.target.space:
            return toy_supernet_space(skip=skip)
        maker = _Maker(Target("spaces", self.target.space), self._registry)
        space: SearchSpace = maker.make()
        return space


def _component(maker: _Maker) -> tuple[Any, dict[str, Any]]:
    """Return the contract class of a component and the methods that the contract asks for."""
    import automl_nas.testing as testing
    from automl_nas.space import SupernetSpace
    from automl_nas.strategy import AskTellStrategy

    kind, make = maker.target.kind, maker.make
    if kind == "spaces":
        is_supernet = issubclass(maker.produced, SupernetSpace)
        base: Any = testing.SupernetContract if is_supernet else testing.SearchSpaceContract
        return base, {"make_space": lambda self: make()}
    if kind == "strategies" and issubclass(maker.produced, AskTellStrategy):
        # In a clause and not before: whatever the strategy does is then observed.
        return testing.AskTellContract, {
            "make": lambda self, space, problem, seed: make(space, problem, seed=seed),
            "trials": property(cache(_trials)),
        }
    if kind == "strategies":
        return testing.StrategyContract, _stepping(maker)
    if kind == "evaluators":
        return testing.EvaluatorContract, {
            "make_space": lambda self: maker.space(),
            "make_task": lambda self: testing.ToyTask(),
            "make_evaluator": lambda self, space: make(space, _weights(space)),
        }
    if kind == "pruners":
        return testing.PrunerContract, {"make": lambda self, problem: make(problem)}
    if kind == "cost_models":
        return testing.CostModelContract, {
            "make_space": lambda self: maker.space(skip=True),  # a cost may be the number of layers
            "make": lambda self, space: make(space),
        }
    if kind == "tasks":
        return testing.TaskContract, {"make_task": lambda self: make()}
    if kind == "exporters":
        return testing.ExporterContract, {"make": lambda self: make()}
    if kind == "executors":
        return testing.ExecutorContract, {"make": lambda self, folder: make(), "stops": _stops(make())}
    return testing.ObserverContract, {"make": lambda self, space, folder: make(space)}


def _trials(contract: AskTellContract) -> int:
    """Return the number of trials of most clauses: as many with results as without.

    A strategy that proposes a whole population before it needs a result learns only from then on.
    """
    from automl_nas.testing import AskTellContract

    space, count = contract.space(), 0
    strategy = contract.make(space, contract.problem(space), 1)
    while count < contract.search_length and (proposals := strategy.ask(1)):
        count += len(proposals)
    # One that needs no result at all is not asked for more.
    needed = 2 * count if count < contract.search_length else 0
    return max(AskTellContract.trials, needed)


def _stepping(maker: _Maker) -> dict[str, Any]:
    from automl_nas.evaluation import TabulatedCost
    from automl_nas.strategy import Problem
    from automl_nas.testing import MemoryArtifacts, SimulatedServices, ToyCost, finished

    space = maker.space()
    problem = Problem({"accuracy": "maximize"}, costs={"toy_cost": TabulatedCost(ToyCost(space), space)})

    def services(self: object) -> SimulatedServices:
        # Without an evaluator: what such a strategy proposes at its end is not measured.
        return SimulatedServices(
            lambda number, proposal: finished(problem, number, proposal, {"accuracy": 0.5}), problem=problem
        )

    return {
        "make": lambda self, seed: maker.make(space, problem, MemoryArtifacts(), seed=seed),
        "services": services,
    }


def _weights(space: SearchSpace) -> Any:
    """Return artifacts with fresh weights of the supernet of a space under the usual name of its stage."""
    import torch

    from automl_nas.space import SupernetSpace
    from automl_nas.testing import MemoryArtifacts

    if not isinstance(space, SupernetSpace):
        return MemoryArtifacts()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return MemoryArtifacts({"supernet": space.build_supernet().state_dict()})


def _stops(executor: Any) -> bool:
    """Whether an executor accepts a timeout."""
    from automl_nas.testing import ToyEvaluator, ToySpace

    try:
        executor.open(partial(ToyEvaluator, ToySpace()), _ignore, 60.0)
    except ConfigurationError:
        return False
    finally:
        executor.close()
    return True


def _ignore(numbers: object) -> None:
    """Do nothing."""
