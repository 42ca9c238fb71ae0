from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.plugin import KINDS, PluginManager, Registry, hookimpl
from automl_nas.plugin.kinds import COLLABORATORS, derives
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.testing import ToySpace


class Blind(AskTellStrategy):
    def __init__(self, space: SearchSpace, *, population: int = 5, seed: int) -> None:
        if population < 1:
            raise ConfigurationError("must be at least 1", path="population")
        self.space, self.population, self.seed = space, population, seed

    def ask(self, n: int) -> list[Proposal]:
        return []

    def tell(self, trials: Sequence[Trial]) -> None: ...
    def search_state(self) -> dict[str, Any]:
        return {}

    def load_search_state(self, state: Mapping[str, Any]) -> None: ...


class Wrapper(Blind):
    def __init__(
        self,
        space: SearchSpace,
        *,
        inner: AskTellStrategy,
        more: list[AskTellStrategy] = [],  # noqa: B006 - never changed
        spare: Strategy | None = None,
        seed: int,
    ) -> None:
        super().__init__(space, seed=seed)
        self.inner, self.more, self.spare = inner, more, spare


class Stubborn(Strategy):
    def step(self, services: Services) -> None: ...
    @property
    def done(self) -> bool:
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def toy(*, blocks: int = 2) -> SearchSpace:
    return ToySpace(blocks=blocks)


def no_space(*, blocks: int = 2) -> int:
    return blocks


def silent(*, blocks: int = 2):  # type: ignore[no-untyped-def]
    return toy(blocks=blocks)


class Parts:
    @hookimpl
    def register_strategies(self, register: Any) -> None:
        for name, made in (("blind", Blind), ("wrapper", Wrapper), ("stubborn", Stubborn), ("toyish", ToySpace)):
            register(name, f"{__name__}:{made.__name__}")

    @hookimpl
    def register_spaces(self, register: Any) -> None:
        for name in ("toy", "no_space", "silent"):
            register(name, f"{__name__}:{name}")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    import sys

    # pytest's importlib mode gives test modules names under which they cannot always be imported again.
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or importlib.import_module(__name__))
    manager = PluginManager({})
    manager.register_module(Parts(), "parts")
    return manager.registry


def test_names_are_sorted_and_components_have_their_plugin(registry: Registry) -> None:
    assert registry.names("strategies") == ("blind", "stubborn", "toyish", "wrapper")
    assert registry.names("tasks") == ()
    assert {component.kind for component in registry} == {"strategies", "spaces"}
    assert str(registry.get("strategies", "blind")) == "strategy 'blind' of plugin 'parts' (module Parts)"


def test_nested_components_are_resolved_in_place(registry: Registry) -> None:
    spec = {
        "name": "wrapper",
        "inner": {"name": "wrapper", "inner": "blind"},
        "more": [{"name": "blind", "population": 7}],
    }
    resolved = registry.resolve("strategies", spec)
    blind = {"name": "blind", "population": 5}
    assert resolved == {
        "name": "wrapper",
        "inner": {"name": "wrapper", "inner": blind, "more": [], "spare": None},
        "more": [{"name": "blind", "population": 7}],
        "spare": None,
    }
    assert registry.resolve("strategies", resolved) == resolved
    assert spec["inner"] == {"name": "wrapper", "inner": "blind"}


def test_nested_components_get_the_same_collaborators_and_their_own_seeds(registry: Registry) -> None:
    space = ToySpace()
    spec = {"name": "wrapper", "inner": "blind", "more": ["blind", {"name": "blind", "population": 2}]}
    made = registry.construct("strategies", spec, [space], 9)
    parts = [made, made.inner, *made.more]
    assert all(part.space is space for part in parts)
    assert [part.population for part in made.more] == [5, 2]
    assert made.seed == 9
    assert len({part.seed for part in parts}) == 4
    again = registry.construct("strategies", registry.resolve("strategies", spec), [space], 9)
    assert [part.seed for part in (again, again.inner, *again.more)] == [part.seed for part in parts]


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ("blnd", "s.name", "unknown strategy 'blnd'; did you mean 'blind'?"),
        ({"name": "blind", "populaton": 3}, "s.populaton", "did you mean 'population'?"),
        ({"name": "wrapper", "inner": "blnd"}, "s.inner.name", "unknown strategy 'blnd'"),
        ({"name": "wrapper", "inner": {"name": "blind", "population": "x"}}, "s.inner.population", "a whole number"),
        ({"name": "wrapper", "inner": {"population": 3}}, "s.inner.name", "a component needs a name"),
        ({"name": "wrapper", "inner": "blind", "more": ["blind", "bilnd"]}, "s.more[1].name", "did you mean 'blind'?"),
        ({"name": "wrapper", "inner": "blind", "spare": {"name": "blind", "x": 1}}, "s.spare.x", "no setting 'x'"),
        ({"name": "wrapper"}, "s.inner", "this setting is required"),
        ({"name": "wrapper", "inner": None}, "s.inner", "must be a name or a mapping"),
    ],
)
def test_errors_in_nested_components_are_located(registry: Registry, spec: Any, path: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry.resolve("strategies", spec, path="s")
    assert caught.value.path == path
    assert message in caught.value.message


def test_a_nested_component_must_be_of_the_annotated_type(registry: Registry) -> None:
    spec = {"name": "wrapper", "inner": "stubborn"}
    with pytest.raises(ConfigurationError, match=r"^s.inner: must be of type AskTellStrategy; 'stubborn' is not$"):
        registry.resolve("strategies", spec, path="s")
    fine = registry.construct("strategies", {"name": "wrapper", "inner": "blind", "spare": "stubborn"}, [ToySpace()])
    assert isinstance(fine.spare, Stubborn)


def test_a_broken_nested_component_raises_its_own_error(registry: Registry) -> None:
    with pytest.raises(PluginError, match=r"^strategy 'toyish' of plugin 'parts' .*ToySpace does not derive from Str"):
        registry.resolve("strategies", {"name": "wrapper", "inner": "toyish"})


def test_an_error_of_a_nested_constructor_is_located(registry: Registry) -> None:
    spec = {"name": "wrapper", "inner": {"name": "blind", "population": 0}}
    with pytest.raises(ConfigurationError, match=r"^s.inner.population: must be at least 1$"):
        registry.construct("strategies", spec, [ToySpace()], path="s")


def test_spaces_may_be_annotated_functions(registry: Registry) -> None:
    assert len(registry.construct("spaces", {"name": "toy", "blocks": 3}).decisions) == 3
    with pytest.raises(PluginError, match="returns int, which is not a SearchSpace"):
        registry.get("spaces", "no_space").load()
    with pytest.raises(PluginError, match="a function with a return annotation"):
        registry.get("spaces", "silent").load()


def test_base_classes_and_collaborators_can_be_imported() -> None:
    for base in [kind.base for kind in KINDS.values()] + list(COLLABORATORS):
        module, _, name = base.partition(":")
        assert derives(getattr(importlib.import_module(module), name), base)
