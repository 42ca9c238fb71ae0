from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.plugin import Signature, from_config, join
from automl_nas.plugin.settings import Setting, describe
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.testing import ToySpace, ToyTask

if TYPE_CHECKING:
    from decimal import Decimal

# Imported at run time: annotations of constructors are resolved.
from automl_nas.evaluation.task import Task


@dataclass(frozen=True)
class Inner:
    """Inner settings.

    Attributes:
        low: the lower end,
            in units.
    """

    low: int = 0

    def __post_init__(self) -> None:
        if self.low < 0:
            raise ConfigurationError("must not be negative", path="low")


@dataclass(frozen=True)
class Outer:
    inner: Inner
    weights: tuple[float, ...] = (1.0,)


class Everything:
    """Has a setting of every type.

    Args:
        space: a collaborator.
        count: how many: at least
            one.
        rate: a number.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        *,
        count: int,
        rate: float = 1,
        flag: bool = False,
        text: str = "x",
        mode: Literal["sgd", "adamw"] = "sgd",
        number: Literal[1, 2] = 1,
        maybe: float | None = None,
        either: int | str = 3,
        shape: tuple[int, ...] = (1, 2),
        pair: tuple[int, str] = (1, "a"),
        items: list[float] = [0.5],  # noqa: B006 - never changed
        sequence: Sequence[int] = (),
        table: dict[str, list[int]] = {},  # noqa: B006 - never changed
        mapping: Mapping[str, bool] = {},
        recipe: Recipe = Recipe(epochs=3),  # noqa: B008 - frozen
        outer: Outer | None = None,
        anything: object = None,
        copy: int = 1,
        seed: int,
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if count < 1:
            raise ConfigurationError("must be at least 1", path="count")
        if flag:
            raise ConfigurationError("no batch fits", path="task.batch_size")


def test_a_signature_has_collaborators_and_settings() -> None:
    signature = Signature.of(Everything)
    assert [(c.name, c.type, c.optional) for c in signature.collaborators] == [
        ("space", SearchSpace, False),
        ("task", Task, True),
    ]
    assert signature.takes_seed
    settings = {setting.name: setting for setting in signature.settings}
    assert "seed" not in settings
    assert [name for name, setting in settings.items() if setting.required] == ["count"]
    assert settings["count"].description == "how many: at least one."
    assert settings["mode"].annotation == "Literal['sgd', 'adamw']"
    assert settings["maybe"].annotation == "float | None"
    assert settings["pair"].annotation == "tuple[int, str]"
    assert settings["shape"].default == [1, 2]
    assert settings["recipe"].default["epochs"] == 3
    assert [field.name for field in settings["outer"].fields] == ["inner", "weights"]
    assert settings["outer"].fields[0].required
    assert settings["outer"].fields[0].fields[0].description == "the lower end, in units."
    assert settings["count"].fields == ()


def test_validation_fills_in_defaults_as_json_and_is_idempotent() -> None:
    signature = Signature.of(Everything)
    resolved = signature.validate({"count": 4, "rate": 2, "outer": {"inner": {}}})
    assert json.loads(json.dumps(resolved)) == resolved
    assert list(resolved) == [setting.name for setting in signature.settings]
    assert resolved["rate"] == 2.0
    assert isinstance(resolved["rate"], float)
    assert resolved["recipe"]["epochs"] == 3
    assert resolved["outer"] == {"inner": {"low": 0}, "weights": [1.0]}
    assert signature.validate(resolved) == resolved


class AuthorsDefaults:
    """Has defaults that differ from those of the dataclasses, also one level deeper and in a union."""

    def __init__(
        self,
        *,
        train: Recipe = Recipe(epochs=240, nesterov=True, schedule="constant"),  # noqa: B008 - frozen
        outer: Outer = Outer(Inner(7), (2.0, 3.0)),
        either: Inner | Outer | None = Outer(Inner(5)),
        empty: Recipe | None = None,
    ) -> None:
        self.given = dict(locals())


def test_what_is_written_of_a_nested_setting_is_merged_over_the_authors_default() -> None:
    signature = Signature.of(AuthorsDefaults)
    written = {
        "train": {"epochs": 24},
        "outer": {"weights": [1]},
        "either": {"weights": [4]},
        "empty": {"nesterov": True},
    }
    given = signature.construct(AuthorsDefaults, written).given
    assert given["train"] == Recipe(epochs=24, nesterov=True, schedule="constant")
    assert given["outer"] == Outer(Inner(7), (1.0,))
    assert given["either"] == Outer(Inner(5), (4.0,))
    assert given["empty"] == Recipe(nesterov=True)
    resolved = signature.validate(written)
    assert resolved["train"] == {**signature.validate({})["train"], "epochs": 24}
    assert signature.validate(resolved) == resolved
    # One level deeper; the other dataclass of the union; null; and a whole value written in Python.
    assert signature.validate({"outer": {"inner": {}}})["outer"] == {"inner": {"low": 7}, "weights": [2.0, 3.0]}
    assert signature.validate({"either": {"low": 3}})["either"] == {"low": 3}
    assert signature.validate({"either": None})["either"] is None
    assert signature.construct(AuthorsDefaults, {"train": Recipe(epochs=2)}).given["train"] == Recipe(epochs=2)


def test_a_mistake_in_a_nested_setting_with_a_default_has_its_place() -> None:
    signature = Signature.of(AuthorsDefaults)
    for settings, path in (
        ({"train": {"epoch": 3}}, "train.epoch"),
        ({"outer": {"inner": {"low": -1}}}, "outer.inner.low"),
    ):
        with pytest.raises(ConfigurationError) as error:
            signature.validate(settings)
        assert error.value.path == path


def test_the_fields_of_a_nested_setting_show_the_authors_default() -> None:
    def shown(settings: Sequence[Setting]) -> dict[str, Any]:
        return {s.name: shown(s.fields) if s.fields else s.default for s in settings}

    settings = [s for s in Signature.of(AuthorsDefaults).settings if s.name in ("train", "outer")]
    assert shown(settings) == {s.name: s.default for s in settings}
    (empty,) = (s for s in Signature.of(AuthorsDefaults).settings if s.name == "empty")
    assert shown(empty.fields)["epochs"] == Recipe().epochs


def test_constructors_receive_the_annotated_types() -> None:
    signature = Signature.of(Everything)
    space, task = ToySpace(), ToyTask()
    settings = {"count": 4, "shape": [3, 4], "outer": {"inner": {"low": 5}, "weights": [1, 2]}, "sequence": [7]}
    made = signature.construct(Everything, signature.validate(settings), [task, space], 11).given
    assert made["space"] is space
    assert made["task"] is task
    assert made["seed"] == 11
    assert made["shape"] == (3, 4)
    assert made["pair"] == (1, "a")
    assert made["items"] == [0.5]
    assert made["outer"] == Outer(Inner(5), (1.0, 2.0))
    assert made["recipe"] == Recipe(epochs=3)
    # Instances of settings dataclasses are taken as they are written in Python.
    recipe = Recipe(epochs=9)
    assert signature.construct(Everything, {"count": 1, "recipe": recipe}, [space]).given["recipe"] == recipe
    assert signature.validate({"count": 1, "recipe": recipe})["recipe"]["epochs"] == 9


def test_construction_does_not_share_defaults() -> None:
    signature = Signature.of(Everything)
    first = signature.construct(Everything, {"count": 1}, [ToySpace()]).given
    first["items"].append(1.0)
    first["table"]["a"] = [1]
    second = signature.construct(Everything, {"count": 1}, [ToySpace()]).given
    assert second["items"] == [0.5]
    assert second["table"] == {}


WRONG = {
    "unknown": ({"cuont": 3}, "cuont", "'Everything' has no setting 'cuont'; did you mean 'count'?"),
    "missing": ({}, "count", "this setting is required"),
    "bool for int": ({"count": True}, "count", "must be a whole number, not true"),
    "text for int": ({"count": "3"}, "count", "must be a whole number, not '3'; remove the quotes"),
    "float for int": ({"count": 3.0}, "count", "must be a whole number, not 3.0"),
    "null for int": ({"count": None}, "count", "must be a whole number, not null"),
    "bool for float": ({"count": 1, "rate": True}, "rate", "must be a number, not true"),
    "text for float": ({"count": 1, "rate": "1e-3"}, "rate", "must be a number, not '1e-3'; remove the quotes"),
    "nan": ({"count": 1, "rate": float("nan")}, "rate", "must be a finite number, not nan"),
    "int for bool": ({"count": 1, "flag": 1}, "flag", "must be true or false, not 1"),
    "yes for bool": ({"count": 1, "flag": "yes"}, "flag", "write true or false, without quotes"),
    "int for text": ({"count": 1, "text": 3}, "text", "must be a string, not 3"),
    "option": ({"count": 1, "mode": "sdg"}, "mode", "must be 'sgd' or 'adamw', not 'sdg'; did you mean 'sgd'?"),
    "far option": ({"count": 1, "mode": "zzz"}, "mode", "must be 'sgd' or 'adamw', not 'zzz'"),
    "bool for option 1": ({"count": 1, "number": True}, "number", "must be 1 or 2, not true"),
    "float for option 1": ({"count": 1, "number": 1.0}, "number", "must be 1 or 2, not 1.0"),
    "optional": ({"count": 1, "maybe": "a"}, "maybe", "must be a number, not 'a'"),
    "union": ({"count": 1, "either": 1.5}, "either", "must be a whole number or a string, not 1.5"),
    "element": ({"count": 1, "shape": [1, 2.5]}, "shape[1]", "must be a whole number, not 2.5"),
    "no list": ({"count": 1, "shape": 3}, "shape", "must be a list, not 3"),
    "text is no list": ({"count": 1, "items": "ab"}, "items", "must be a list, not 'ab'"),
    "short": ({"count": 1, "pair": [1]}, "pair", "must be a list of length 2, not one of length 1"),
    "long": ({"count": 1, "pair": [1, "a", 2]}, "pair", "must be a list of length 2, not one of length 3"),
    "place in pair": ({"count": 1, "pair": [1, 2]}, "pair[1]", "must be a string, not 2"),
    "nested list": ({"count": 1, "table": {"a": [1, "x"]}}, "table.a[1]", "must be a whole number, not 'x'"),
    "no mapping": ({"count": 1, "table": [1]}, "table", "must be a mapping, not a list"),
    "dataclass field": ({"count": 1, "recipe": {"epochs": "3"}}, "recipe.epochs", "must be a whole number, not '3'"),
    "dataclass typo": ({"count": 1, "recipe": {"epoch": 3}}, "recipe.epoch", "did you mean 'epochs'?"),
    "dataclass refuses": ({"count": 1, "recipe": {"epochs": 0}}, "recipe.epochs", "epochs must be"),
    "no dataclass": ({"count": 1, "recipe": 3}, "recipe", "must be a mapping, not 3"),
    "deep typo": ({"count": 1, "outer": {"inner": {"lwo": 1}}}, "outer.inner.lwo", "did you mean 'low'?"),
    "deep refusal": ({"count": 1, "outer": {"inner": {"low": -1}}}, "outer.inner.low", "must not be negative"),
    "deep missing": ({"count": 1, "outer": {}}, "outer.inner", "this setting is required"),
    "deep element": ({"count": 1, "outer": {"inner": {}, "weights": [1, "x"]}}, "outer.weights[1]", "must be a number"),
    "no json": ({"count": 1, "anything": object()}, "anything", "JSON"),
    "seed": ({"count": 1, "seed": 3}, "seed", "the run supplies the seed"),
}


@pytest.mark.parametrize(("settings", "where", "message"), WRONG.values(), ids=WRONG.keys())
def test_errors_name_place_and_reason(settings: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Signature.of(Everything).validate(settings, "stages[0].strategy")
    assert caught.value.path == f"stages[0].strategy.{where}"
    assert message in caught.value.message


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_text_that_is_no_number_without_quotes_either(text: str) -> None:
    """YAML reads these without quotes as text, too."""
    with pytest.raises(ConfigurationError) as caught:
        Signature.of(Everything).validate({"count": 1, "rate": text}, "stage")
    assert caught.value.message == f"must be a number, not '{text}'"


def test_settings_that_are_not_a_mapping() -> None:
    with pytest.raises(ConfigurationError, match=r"^space: .*must be a mapping"):
        Signature.of(ToySpace).validate([1], "space")  # type: ignore[arg-type]


def test_an_error_of_the_constructor_is_located_unless_it_names_another_setting() -> None:
    signature = Signature.of(Everything)
    with pytest.raises(ConfigurationError, match=r"^stages\[1\].strategy.count: must be at least 1$"):
        signature.construct(Everything, {"count": 0}, [ToySpace()], path="stages[1].strategy")
    with pytest.raises(ConfigurationError, match=r"^task.batch_size: no batch fits$"):
        signature.construct(Everything, {"count": 1, "flag": True}, [ToySpace()], path="stages[1].strategy")


class NeedsSupernet:
    def __init__(self, space: SupernetSpace, *, steps: int = 1) -> None: ...


def test_a_collaborator_that_is_missing_or_of_another_type() -> None:
    signature = Signature.of(NeedsSupernet, name="single_path")
    with pytest.raises(
        ConfigurationError, match=r"'single_path' needs a SupernetSpace; ToySpace is not one .*build_supernet"
    ):
        signature.construct(NeedsSupernet, {}, [ToySpace()])
    with pytest.raises(ConfigurationError, match="'single_path' needs a SupernetSpace, which this run does not supply"):
        signature.construct(NeedsSupernet, {}, [ToyTask()])


def make_space(*, blocks: int = 2) -> SearchSpace:
    return ToySpace(blocks=blocks)


class Plain:
    """Needs nothing."""


def test_functions_and_classes_without_a_constructor_are_components_too() -> None:
    signature = Signature.of(make_space)
    assert len(signature.construct(make_space, {"blocks": 3}).decisions) == 3
    assert Signature.of(Plain) == Signature("Plain", (), (), False)
    assert isinstance(Signature.of(Plain).construct(Plain, {}), Plain)
    with pytest.raises(ConfigurationError, match="'Plain' has no setting 'x'; it has no settings"):
        Signature.of(Plain).validate({"x": 1})


@dataclass
class Thawed:
    low: int = 0


class Bad:
    """Constructors that are no schema."""

    def var_args(*steps: int) -> None: ...
    def var_keywords(**steps: int) -> None: ...
    def no_annotation(*, steps=3) -> None: ...  # type: ignore[no-untyped-def]
    def unresolvable(*, steps: Decimal) -> None: ...
    def setting_before_star(steps: int) -> None: ...  # noqa: N805
    def unknown_collaborator(box: Plain) -> None: ...  # noqa: N805
    def optional_without_none(space: SearchSpace | None) -> None: ...  # noqa: N805
    def text_seed(*, seed: str) -> None: ...
    def called_name(*, name: str) -> None: ...
    def bare_list(*, steps: list) -> None: ...  # type: ignore[type-arg]
    def odd_type(*, steps: complex = 1j) -> None: ...
    def int_keys(*, steps: dict[int, int]) -> None: ...
    def odd_element(*, steps: list[complex]) -> None: ...
    def thawed(*, steps: Thawed) -> None: ...
    def wrong_default(*, steps: int = "three") -> None: ...  # type: ignore[assignment]
    def bad_component_default(*, space: SearchSpace = ToySpace()) -> None: ...  # noqa: B008


MESSAGES = {
    "var_args": "takes *steps: ",
    "var_keywords": "takes **steps: ",
    "no_annotation": "the parameter 'steps' of no_annotation has no annotation",
    "unresolvable": "cannot be resolved: name 'Decimal' is not defined; import their types at run time",
    "setting_before_star": "is before '*'",
    "unknown_collaborator": "SearchSpace, Problem, Task, Runtime, Artifacts",
    "optional_without_none": "must have the default None",
    "text_seed": "must be annotated int",
    "called_name": "has a setting 'name'",
    "bare_list": "the setting 'steps' of bare_list has the type list, which a configuration cannot hold",
    "odd_type": "has the type complex",
    "int_keys": "has the type dict[int, int]",
    "odd_element": "has the type complex",
    "thawed": "the dataclass Thawed must be frozen",
    "wrong_default": "the default of the setting 'steps' of wrong_default is invalid: must be a whole number",
    "bad_component_default": "the default of the setting 'space' of bad_component_default is invalid",
}


@pytest.mark.parametrize(("name", "message"), MESSAGES.items())
def test_verify_refuses_invalid_constructors(name: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        Signature.of(getattr(Bad, name)).verify()
    assert message in str(caught.value)


def test_verify_accepts_required_settings() -> None:
    Signature.of(Everything).verify()


def test_a_name_is_a_component_without_settings() -> None:
    assert from_config("evolution") == {"name": "evolution"}
    given = {"name": "evolution", "population": 3}
    copy = from_config(given)
    assert copy == given
    assert copy is not given
    for wrong, path in ((3, "space"), (None, "space"), ({}, "space.name"), ({"name": 3}, "space.name")):
        with pytest.raises(ConfigurationError) as caught:
            from_config(wrong, path="space")  # type: ignore[arg-type]
        assert caught.value.path == path


def test_paths_are_written_as_in_the_configuration() -> None:
    assert join("stages", 0, "strategy", "", "recipe", "epochs") == "stages[0].strategy.recipe.epochs"
    assert join("", "seed") == "seed"
    assert join("shape", 1, 2) == "shape[1][2]"
    assert join("stages", "[0].name") == "stages[0].name"


def test_types_as_short_strings() -> None:
    assert describe(dict[str, list[float]]) == "dict[str, list[float]]"
    assert describe(tuple[int, ...] | None) == "tuple[int, ...] | None"
    assert describe(Any) == "Any"
