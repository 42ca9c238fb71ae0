from __future__ import annotations

from pathlib import Path

import pytest

from automl_nas.cli.overrides import Configuration, Override
from automl_nas.errors import ConfigurationError

TEXT = """\
seed: 1
space: toy
stages:
  - name: supernet
    strategy: single_path
  - name: search
    strategy: {name: evolution, population: 5}
final:
  export: [safetensors, onnx]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", ["seed"], 7),
        ("space.blocks=2", ["space"], {"name": "toy", "blocks": 2}),
        ("stages.search.strategy.population=9", ["stages", 1, "strategy"], {"name": "evolution", "population": 9}),
        ("stages.1.batch=2", ["stages", 1, "batch"], 2),
        ("stages[0].strategy.split=train", ["stages", 0, "strategy"], {"name": "single_path", "split": "train"}),
        ("stages.search.budget.trials=10", ["stages", 1, "budget"], {"trials": 10}),
        ("stages.search.strategy={name: aging}", ["stages", 1, "strategy"], {"name": "aging"}),
        ("final=null", ["final"], None),
        ("final.export.onnx.opset=18", ["final", "export"], ["safetensors", {"name": "onnx", "opset": 18}]),
        ("final.export.0=pt2", ["final", "export"], ["pt2", "onnx"]),
        ("final.train.learning_rate=1e-3", ["final", "train", "learning_rate"], 0.001),  # a text in YAML 1.1
        ("problem.constraints.flops=<= 330M", ["problem", "constraints", "flops"], "<= 330M"),
        ("space.word=no", ["space", "word"], "no"),  # false in YAML 1.1
        ("space.text=a=b", ["space", "text"], "a=b"),
    ],
)
def test_an_override_sets_only_one_value(config: Path, override: str, path: list[str | int], value: object) -> None:
    before, after = Configuration.read(config).value, Configuration.read(config, [override]).value
    here = after
    for part in path:
        here = here[part]  # type: ignore[index]
    assert here == value
    assert {key: after[key] for key in after if key != path[0]} == {
        key: before[key] for key in before if key != path[0]
    }


def test_later_overrides_see_earlier_ones(config: Path) -> None:
    given = Configuration.read(config, ["space={name: other}", "space.blocks=2", "space.blocks=3"])
    assert given.value["space"] == {"name": "other", "blocks": 3}


def test_the_default_stages_can_be_changed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text("space: toy\n")
    stages = Configuration.read(path, ["stages.search.budget.trials=4"]).value["stages"]
    assert [(stage["name"], stage.get("budget")) for stage in stages] == [("supernet", None), ("search", {"trials": 4})]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed", "write key=value"),
        ("=3", "write key=value"),
        ("a..b=3", "write key=value"),
        ("seed=[1", "not valid YAML"),
        ("stages.serch.batch=1", "'stages' has no item 'serch' (it has 2); did you mean 'search'?"),
        ("stages.2.batch=1", "'stages' has no item '2'"),
        ("seed.x=1", "'seed' is 1, which has no settings"),
    ],
)
def test_a_key_that_does_not_exist_is_refused(config: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Configuration.read(config, [override])
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"--set {override}")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("stages[1].strategy.population", "a.yaml:7"),
        ("stages[1].strategy.tpo_k", "a.yaml:7"),
        ("stages[1].batch", "--set stages.search.batch=2"),
        ("space.blocks", "--set space={name: toy, blocks: 0}"),
        ("sead", "a.yaml:1"),
    ],
)
def test_an_error_is_located_where_its_setting_was_written(config: Path, path: str, place: str) -> None:
    given = Configuration.read(config, ["stages.search.batch=2", "space={name: toy, blocks: 0}"])
    error = given.locate(ConfigurationError("is wrong", path=path))
    assert error.source.endswith(place)
    assert (error.path, error.message) == (path, "is wrong")


def test_an_error_with_a_place_is_not_changed(config: Path) -> None:
    error = ConfigurationError("is wrong", path="seed", source="elsewhere:3")
    assert Configuration.read(config).locate(error) is error


def test_a_list_is_not_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ConfigurationError, match="mapping of settings"):
        Configuration.read(path)


def test_an_override_has_its_option() -> None:
    assert Override.parse("a.b[0]=x").parts == ("a", "b", "0")
