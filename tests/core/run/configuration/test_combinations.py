"""Options that do not fit together are named before a run begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path

import pytest
from torch import nn

import automl_nas
from automl_nas.errors import ConfigurationError
from automl_nas.run.configuration.combinations import check_combinations
from automl_nas.space import Architecture, Choice, Decision, ElasticConv2d, ModuleSpace, OneOf, SearchSpace
from automl_nas.testing import ToyTask


def head(channels: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)


def conv(channels: int, out: int) -> nn.Module:
    return nn.Conv2d(channels, out, 3, padding=1)


def untied(name: str | None = None) -> nn.Module:
    return nn.Sequential(
        OneOf({"narrow": conv(1, 4), "wide": conv(1, 8)}, name=name),
        OneOf({"relu": nn.ReLU(), "none": nn.Identity()}),
        OneOf({"narrow": conv(4, 2), "wide": conv(8, 2)}, name=name),
        *head(2),
    )


def between() -> nn.Module:
    """Between the two decisions that must agree is a choice with choices inside."""
    inner = [nn.Sequential(OneOf([nn.ReLU(), nn.Tanh()]), OneOf([nn.ReLU(), nn.Tanh()])) for _ in range(2)]
    return nn.Sequential(
        OneOf({"narrow": conv(1, 4), "wide": conv(1, 8)}),
        OneOf({"a": inner[0], "b": inner[1]}),
        OneOf({"narrow": conv(4, 2), "wide": conv(8, 2)}),
        *head(2),
    )


def module_space(factory: Callable[[], nn.Module], shape: tuple[int, ...] = (1, 4, 4)) -> ModuleSpace:
    return ModuleSpace(factory, input_shape=shape)


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 128, 128)], ids=["real", "meta"])
def test_untied_widths(shape: tuple[int, ...]) -> None:
    message = (
        r"space: the options 'narrow' of '0' and 'wide' of '2' do not fit together: '2' \(Conv2d\) raises: Given "
        r"groups=1, weight of size \[2, 8, 3, 3\].*the same name.*check_networks: 0"
    )
    with pytest.raises(ConfigurationError, match=message):
        check_combinations(module_space(untied, shape), 64, "space")


def test_tied_widths_fit() -> None:
    check_combinations(module_space(lambda: untied("width")), 64, "space")


def test_decisions_between_them() -> None:
    with pytest.raises(ConfigurationError, match=r"'narrow' of '0' and 'wide' of '2' do not fit together"):
        check_combinations(module_space(between), 64, "space")


def test_an_option_that_fits_to_no_other() -> None:
    def factory() -> nn.Module:
        return nn.Sequential(
            OneOf({"a": conv(1, 4), "b": conv(1, 4)}),
            OneOf({"a": conv(4, 4), "wrong": conv(5, 4), "c": conv(4, 4)}),
            *head(4),
        )

    with pytest.raises(
        ConfigurationError, match=r"the option 'wrong' of '1' does not run: '1' \(Conv2d\) raises: Given"
    ):
        check_combinations(module_space(factory), 64, "space")


def test_elastic_widths_fit() -> None:
    def factory() -> nn.Module:
        return nn.Sequential(
            ElasticConv2d(1, (2, 4, 8), 3, padding=1), nn.ReLU(), ElasticConv2d(8, 4, 3, padding=1), *head(4)
        )

    check_combinations(module_space(factory), 64, "space")


class Pairs(SearchSpace):
    """A space whose networks do not run for one pair of options of six decisions."""

    def __init__(self, first: int, second: int) -> None:
        self._bad = (f"d{first}", f"d{second}")
        self.built = 0

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return {f"d{position}": Choice((0, 1, 2)) for position in range(6)}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (1, 4, 4)

    def build(self, architecture: Architecture) -> nn.Module:
        self.built += 1
        first, second = (architecture[name] for name in self._bad)
        channels = 2 if (first, second) == (1, 2) else 1
        return nn.Sequential(conv(channels, 4), *head(4))


@pytest.mark.parametrize(("first", "second"), list(combinations(range(6), 2)))
def test_every_pair_of_decisions_is_found_and_named(first: int, second: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"options 1 of 'd{first}' and 2 of 'd{second}' do not fit together"):
        check_combinations(Pairs(first, second), 64, "space")


def test_the_number_of_networks_is_bounded() -> None:
    space = Pairs(0, 1)
    check_combinations(space, 3, "space")  # the first options, the second and the third
    assert space.built == 3


def test_tokens_are_whole_numbers() -> None:
    def factory() -> nn.Module:
        return nn.Sequential(
            nn.Embedding(8, 4),
            OneOf({"narrow": nn.Linear(4, 4), "wide": nn.Linear(4, 8)}),
            OneOf({"narrow": nn.Linear(4, 2), "wide": nn.Linear(8, 2)}),
        )

    class Tokens(SearchSpace):
        """The networks of a `ModuleSpace`, which itself tries floating inputs only."""

        decisions = {"a": Choice(("narrow", "wide")), "b": Choice(("narrow", "wide"))}  # noqa: RUF012
        input_shape = (5,)

        def build(self, architecture: Architecture) -> nn.Module:
            network = factory()
            assert isinstance(network, nn.Sequential)
            for position, name in enumerate(("a", "b"), start=1):
                width = 4 if architecture[name] == "narrow" else 8
                network[position] = nn.Linear(4, width) if position == 1 else nn.Linear(width, 2)
            return network

    with pytest.raises(ConfigurationError, match="'narrow' of 'a' and 'wide' of 'b' do not fit together"):
        check_combinations(Tokens(), 64, "space")


def test_nothing_is_written_and_nothing_is_trained(tmp_path: Path) -> None:
    task = ToyTask()
    with pytest.raises(ConfigurationError, match="do not fit together"):
        automl_nas.search(space=module_space(untied, tuple(task.input_shape)), task=task, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_global_random_numbers_are_as_before() -> None:
    import torch

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    check_combinations(module_space(lambda: untied("width")), 64, "space")
    assert torch.equal(before, torch.random.get_rng_state())
