"""The options of `OneOf` and `ElasticConv2d`: their names, and what cannot be an option."""

from __future__ import annotations

import json
import random
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, ElasticConv2d, ModuleSpace, OneOf


class Activation(StrEnum):
    RELU = "relu"
    TANH = "tanh"


def conv() -> nn.Module:
    return nn.Conv2d(3, 3, 1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (None, r"option 0 of the OneOf 'stem' must be a module, not None; for no layer use nn.Identity\(\)"),
        ((nn.ReLU(), nn.Tanh()), r"is a tuple; .*nn.Sequential"),
        (nn.ModuleList([nn.ReLU()]), r"is a ModuleList; .*nn.Sequential"),
        (nn.ModuleDict({"a": nn.ReLU()}), "is a ModuleDict, which has no forward"),
        (nn.ReLU, r"is the class ReLU; make a module of it: ReLU\(...\)"),
        (torch.relu, "a builtin_function_or_method; an option is an nn.Module"),
    ],
)
def test_what_is_no_module_is_refused(option: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        OneOf([option, conv()], name="stem")


def test_options_that_are_no_sequence_are_refused() -> None:
    with pytest.raises(SpaceError, match="a mapping or a sequence of modules"):
        OneOf(conv())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [float("nan"), float("inf"), ("a", "b")])
def test_names_that_json_cannot_hold_are_refused(name: Any) -> None:
    with pytest.raises(SpaceError, match="option 1 of the OneOf 'stem' cannot be recorded"):
        OneOf({"a": conv(), name: conv()}, name="stem")


@pytest.mark.parametrize("options", [("x0.5", "x1.0"), (0.25, 0.5), (np.float64(0.25), np.float64(0.5))])
def test_names_with_a_dot_work(options: tuple[Any, Any]) -> None:
    space = ModuleSpace(
        lambda: nn.Sequential(OneOf({name: conv() for name in options}, name="scale")), input_shape=(3, 4, 4)
    )
    x = torch.randn(2, 3, 4, 4)
    supernet = space.build_supernet()
    for name in options:
        architecture = space.validate({"scale": name})
        assert json.loads(architecture.key) == {"scale": name}
        torch.testing.assert_close(supernet.extract(architecture)(x), supernet(x, architecture), rtol=0, atol=0)
    weights = {"scale": torch.tensor([0.25, 0.75])}
    torch.testing.assert_close(supernet.extract(weights)(x), supernet(x, weights))
    supernet.restrict({"scale": (options[1],)})
    assert list(supernet.decisions["scale"].options) == [options[1]]


def test_enums_and_a_module_dict_name_options() -> None:
    one = OneOf({Activation.RELU: nn.ReLU(), Activation.TANH: nn.Tanh()})
    assert [type(option) for option in one.decisions()[""].options] == [str, str]
    two = OneOf(nn.ModuleDict({"relu": nn.ReLU(), "tanh": nn.Tanh()}))  # type: ignore[arg-type]
    assert one.decisions() == two.decisions()


def test_widths_of_numpy_become_plain() -> None:
    plain = ModuleSpace(lambda: nn.Sequential(ElasticConv2d(3, (4, 8), 1, name="width")), input_shape=(3, 4, 4))
    numpy = ModuleSpace(
        lambda: nn.Sequential(ElasticConv2d(3, np.array([4, 8]), 1, name="width")),  # type: ignore[arg-type]
        input_shape=(3, 4, 4),
    )
    assert plain.decisions == numpy.decisions
    assert type(numpy.sample(random.Random(0))["width"]) is int
    assert numpy.build(Architecture({"width": 4}))(torch.zeros(1, 3, 4, 4)).shape[1] == 4
    assert ElasticConv2d(3, np.int64(8), 1).decisions() == {}  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="output widths of an ElasticConv2d are whole numbers"):
        ElasticConv2d(3, (4.5, 8), 1)  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="option 1 of an ElasticConv2d cannot be recorded"):
        ElasticConv2d(3, {0.5: 4, float("nan"): 8}, 1)
