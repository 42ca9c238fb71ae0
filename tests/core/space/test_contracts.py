"""The contracts of `automl_nas.testing.spaces`, for each kind of choice and for their mixtures."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.dag.module import Dag
from automl_nas.space.modules.elastic_layers.convolution import ElasticConv2d
from automl_nas.space.modules.elastic_layers.linear import ElasticLinear
from automl_nas.space.modules.elastic_layers.normalisation import ElasticBatchNorm2d
from automl_nas.space.modules.repeat import Repeat
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.space import SupernetSpace
from automl_nas.testing.supernets import SupernetContract


def unit(width: int, kernel: int) -> nn.Module:
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


def head(width: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, 5)


class TestSequenceOfChoices(SupernetContract):
    """Choices in nested sequentials: as many segments as choices."""

    def make_space(self) -> ModuleSpace:
        def make() -> nn.Module:
            stem = nn.Conv2d(2, 6, 3, padding=1)
            first = nn.Sequential(
                *(OneOf({"k1": unit(6, 1), "k3": unit(6, 3), "skip": nn.Identity()}) for _ in range(2))
            )
            return nn.Sequential(stem, first, OneOf([unit(6, 1), unit(6, 5)]), *head(6))

        return ModuleSpace(make, input_shape=(2, 6, 6))

    def test_segments(self) -> None:
        assert self.make_space().segments() == (("1.0",), ("1.1",), ("2",))


class Net(nn.Module):
    """Not a Sequential; nested choices, tied choices, a module used twice, a choice without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        inner = OneOf({"relu": nn.ReLU(), "elu": nn.ELU()}, name="activation")
        self.blocks = nn.ModuleList(
            [
                OneOf({"plain": unit(4, 3), "nested": nn.Sequential(unit(4, 1), inner)}),
                OneOf({"relu": nn.ReLU(), "elu": nn.ELU()}, name="activation"),
            ]
        )
        self.shared = OneOf({"a": unit(4, 1), "b": unit(4, 3)})
        self.again = self.shared
        self.head = nn.Sequential(*head(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.again(self.shared(x)))


class TestNestedTiedAndShared(SupernetContract):
    def make_space(self) -> ModuleSpace:
        return ModuleSpace(Net, input_shape=(2, 5, 5))


def dag(width: int, *, projected: bool, shortcut: bool, name: str | None = None, fixed: tuple[str, ...] = ()) -> Dag:
    nodes = {"a": unit(width, 1), "b": unit(width, 3), "c": OneOf({"k3": unit(width, 3), "k1": unit(width, 1)})}
    edges = {"a": ["input"], "b": ["input"], "c": ["input", "a", "b"], "output": ["a", "b", "c"]}
    return Dag(
        nodes,
        edges,
        nn.Conv2d(3 * width, width, 1) if projected else None,
        after=nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()) if projected else None,
        shortcut=nn.Identity() if shortcut else None,
        name=name,
        fixed=fixed,
    )


class TestDags(SupernetContract):
    """Two tied graphs with projection and shortcut, and one that only adds and may return zeros."""

    samples = 8

    def make_space(self) -> ModuleSpace:
        def make() -> nn.Module:
            tied = (dag(4, projected=True, shortcut=True, name="block") for _ in range(2))
            last = dag(4, projected=False, shortcut=False, fixed=("a", "c"))
            return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *tied, last, *head(4))

        return ModuleSpace(make, input_shape=(2, 6, 6))


class TestDagWithoutShortcut(SupernetContract):
    """A projection to another width, which returns zeros if everything is pruned; the Dag is the root's first child."""

    samples = 8

    def make_space(self) -> ModuleSpace:
        def make() -> nn.Module:
            nodes = {"a": unit(3, 1), "b": unit(3, 3)}
            edges = {"a": ["input"], "b": ["input", "a"], "output": ["input", "a", "b"]}
            return nn.Sequential(Dag(nodes, edges, nn.Conv2d(9, 5, 1, bias=False)), *head(5))

        return ModuleSpace(make, input_shape=(3, 4, 4))


class ElasticNet(nn.Module):
    """Tied widths around a residual, a depthwise convolution, a choice of an elastic branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ElasticConv2d(2, [4, 6, 8], 3, padding=1, name="width"), ElasticBatchNorm2d(8), nn.ReLU()
        )
        branch = nn.Sequential(
            ElasticConv2d(8, [3, 9], 1, bias=False),
            ElasticBatchNorm2d(9),
            ElasticConv2d(9, 9, 3, padding=1, groups=9),
            ElasticBatchNorm2d(9, affine=False),
            nn.ReLU(),
            ElasticConv2d(9, [4, 6, 8], 1, name="width"),
        )
        self.block = OneOf({"branch": branch, "skip": nn.Identity()})
        self.last = ElasticConv2d(8, 7, 3, stride=2)
        self.head = ElasticLinear(8 * 4, 5)
        self.other = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block(x)
        side = self.other(self.last(x).mean((2, 3)))
        return side + self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


class TestElastic(SupernetContract):
    samples = 6

    def make_space(self) -> ModuleSpace:
        return ModuleSpace(ElasticNet, input_shape=(2, 6, 6))

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        assert isinstance(space, ModuleSpace)
        assert space.weighable == {"block"}
        return space.weighable


class TestRepeat(SupernetContract):
    """Depth with choices and widths inside, a Repeat inside a Repeat, and a depth of zero."""

    def make_space(self) -> ModuleSpace:
        def stage(position: int) -> nn.Module:
            narrow = ElasticConv2d(4, [2, 4], 3, padding=1)
            return nn.Sequential(
                narrow,
                ElasticBatchNorm2d(4),
                OneOf([nn.ReLU(), nn.ELU()]),
                ElasticConv2d(4, 4, 1),
                Repeat(unit(4, 3), 0, 2),
            )

        def make() -> nn.Module:
            return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), Repeat(stage, 1, 2), *head(4))

        return ModuleSpace(make, input_shape=(2, 5, 5))
