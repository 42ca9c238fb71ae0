"""The DARTS cell space: its contract, and sizes and derived cells computed with the authors' code."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.training.auxiliary_heads import training_form
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.streams import stream
from automl_nas.testing.supernets import SupernetContract
from automl_nas_gradient.deriving import Deriver, DeriveSettings
from automl_nas_gradient.space import PUBLISHED, DartsSpace, Genotype, Layout, darts_network
from automl_nas_gradient.space.operations import FactorizedReduce, operation, shuffled
from automl_nas_gradient.space.supernet import KINDS, NODES, inputs_name, operation_name
from automl_nas_gradient.strategy.darts import Darts
from automl_nas_gradient.strategy.gdas import Gdas

SMALL: dict[str, Any] = {"channels": 4, "layers": 3, "input_shape": (3, 8, 8), "num_classes": 3}


class TestContract(SupernetContract):
    samples = 2

    def make_space(self) -> DartsSpace:
        return DartsSpace(**SMALL)


class TestPartialContract(TestContract):
    samples = 1

    def make_space(self) -> DartsSpace:
        return DartsSpace(partial=2, variant="final", **SMALL)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count convolutions and linear layers of one image, on meta tensors, from the shapes of their outputs."""
    total = 0

    def count(module: nn.Module, args: Any, output: Tensor) -> None:
        nonlocal total
        weights = module.weight[0].numel()  # type: ignore[index,union-attr]
        total += output.numel() * weights

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network.eval()(torch.empty(1, *shape, device="meta"))
    return total


def layout(**changes: Any) -> Layout:
    settings = {"num_classes": 10, "input_shape": (3, 32, 32), "channels": 36, "layers": 20, **changes}
    return Layout(**settings)


IMAGENET: dict[str, Any] = {
    "num_classes": 1000,
    "input_shape": (3, 224, 224),
    "channels": 48,
    "layers": 14,
    "stem": "imagenet",
}
SIZES = {
    "DARTS_V1": (3169414, 3645840, 500987520, 4510432, 5771208, 505864704),
    "DARTS_V2": (3349342, 3825768, 528359040, 4718752, 5979528, 529911552),
    "NASNet": (3830950, 4288944, 603452448, 5564320, 6800520, 604031616),
    "AmoebaNet": (3145078, 3603072, 488931552, 4627360, 5863560, 526746624),
    "PC_DARTS_cifar": (3634678, 4111104, 556670592, 5270560, 6531336, 571137408),
    "PC_DARTS_image": (3721510, 4197936, 570466944, 5342464, 6603240, 581627328),
    "DrNAS_cifar10": (4099294, 4575720, 635135616, 5738464, 6999240, 633832320),
    "DrNAS_imagenet": (4048750, 4525176, 617938560, 5726368, 6987144, 624405504),
}
"""Parameters, with the auxiliary head, multiply-adds; for CIFAR-10 (C = 36, L = 20) and ImageNet (C = 48, L = 14)."""


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("large", [False, True], ids=["cifar", "imagenet"])
def test_sizes_of_published_cells(name: str, large: bool) -> None:
    sizes = layout(auxiliary=True, **(IMAGENET if large else {}))
    with torch.device("meta"):
        network = darts_network(PUBLISHED[name], sizes)
        trained = training_form(network)
    expected = SIZES[name][3:] if large else SIZES[name][:3]
    assert (parameters(network), parameters(trained), multiply_adds(network, sizes.input_shape)) == expected


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("DARTS_V1", {"channels": 4, "layers": 5}, (10910, 2255488)),
        ("DARTS_V2", {"channels": 4, "layers": 5}, (11554, 2369152)),
        ("DARTS_V2", {"channels": 4, "layers": 5, "input_shape": (3, 16, 16)}, (11554, 592768)),
        ("DARTS_V1", {"channels": 16, "layers": 8}, (232890, 41355776)),
        ("DARTS_V2", {"channels": 16, "layers": 8}, (246106, 43444736)),
    ],
)
def test_sizes_of_small_networks(name: str, changes: dict[str, Any], expected: tuple[int, int]) -> None:
    sizes = layout(**changes)
    with torch.device("meta"):
        network = darts_network(PUBLISHED[name], sizes)
    assert (parameters(network), multiply_adds(network, sizes.input_shape)) == expected


def test_sizes_of_the_cells_of_a_small_network() -> None:
    network = darts_network(PUBLISHED["DARTS_V2"], layout(channels=4, layers=5))
    assert [parameters(cell) for cell in network.cells] == [772, 256, 2088, 1088, 6352]
    assert (parameters(network.stem), parameters(network.head)) == (348, 650)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"channels": 16, "layers": 8}, (1930618, 300255744)),
        ({"channels": 4, "layers": 5}, (136182, 22884992)),
        ({"channels": 16, "layers": 8, "partial": 4}, (299578, 56596992)),
        ({"channels": 8, "layers": 5, "partial": 4}, (66586, 12907776)),
        ({"channels": 16, "layers": 8, "num_classes": 100}, (1953748, None)),
        ({"channels": 36, "layers": 20}, (19932310, None)),
    ],
)
def test_sizes_of_supernets(settings: dict[str, Any], expected: tuple[int, int | None]) -> None:
    space = DartsSpace(**settings)
    with torch.device("meta"):
        supernet = space.build_supernet()
        weights = {name: torch.ones(len(d.options)) for name, d in space.decisions.items()}

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.supernet = supernet

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.supernet(x, weights)
            return outputs

    assert parameters(supernet) == expected[0]
    if expected[1] is not None:
        assert multiply_adds(Weighted(), space.input_shape) == expected[1]


@pytest.mark.parametrize(
    ("name", "affine", "plain"),
    [
        ("none", 0, 0),
        ("max_pool_3x3", 0, 0),
        ("skip_connect", 288, 256),
        ("sep_conv_3x3", 864, 800),
        ("sep_conv_5x5", 1376, 1312),
        ("dil_conv_3x3", 432, 400),
        ("dil_conv_5x5", 688, 656),
    ],
)
def test_parameters_of_operations(name: str, affine: int, plain: int) -> None:
    """16 channels, stride 2."""
    for value, expected in ((True, affine), (False, plain)):
        module = operation(name, 16, 2, affine=value, pool_norm=True)
        assert parameters(module) == expected
        assert module(torch.randn(2, 16, 8, 8)).shape == (2, 16, 4, 4)


def test_poolings_and_the_factorised_reduction_on_numbers() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    average = operation("avg_pool_3x3", 1, 2, affine=False, pool_norm=False)(x)
    assert average.flatten().tolist() == [2.5, 4.0, 8.5, 10.0]
    once = operation("avg_pool_3x3", 1, 1, affine=False, pool_norm=False)(x)
    assert once[0, 0, 0].tolist() == [2.5, 3.0, 4.0, 4.5]
    assert operation("max_pool_3x3", 1, 2, affine=False, pool_norm=False)(x).flatten().tolist() == [5, 7, 13, 15]
    reduce = FactorizedReduce(1, 2, affine=False)
    nn.init.ones_(reduce.conv_1.weight)
    nn.init.ones_(reduce.conv_2.weight)
    reduce.norm = nn.Identity()  # type: ignore[assignment]
    assert reduce(x)[0].flatten(1).tolist() == [[0, 2, 8, 10], [5, 7, 13, 15]]
    assert shuffled(torch.arange(8.0).view(1, 8, 1, 1), 4).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def log_softmax(function: Any, none: float | None = None) -> dict[str, list[float]]:
    """Return log-probabilities of alpha = function(0), function(1), ... in 14 rows of 8, for both kinds of cells."""
    alpha = torch.tensor([[function(8 * row + column) for column in range(8)] for row in range(14)]).double()
    if none is not None:
        alpha[:, 0] = none
    rows = iter(alpha.log_softmax(1).tolist() * 2)
    scores: dict[str, list[float]] = {}
    for kind in KINDS:
        for node in NODES:
            for source in range(node):
                scores[operation_name(kind, source, node)] = next(rows)
            scores[inputs_name(kind, node)] = [0.0] * node
    return scores


SHORT = {
    "avg": "avg_pool_3x3",
    "max": "max_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "dil3": "dil_conv_3x3",
}
FREE = Problem({"accuracy": "maximize"})


@pytest.mark.parametrize(
    ("function", "none", "expected"),
    [
        (math.sin, None, "avg 0 dil3 1, skip 1 sep3 0, sep3 1 avg 2, skip 1 sep3 4"),
        (math.cos, None, "sep5 1 dil3 0, skip 0 max 1, sep3 0 avg 1, skip 4 skip 0"),
        (math.sin, 5.0, "dil3 1 avg 0, max 2 skip 1, avg 2 sep3 1, sep5 0 dil3 3"),
        (lambda place: 0.0, None, "max 0 max 1, max 0 max 1, max 0 max 1, max 0 max 1"),
    ],
)
def test_derived_cells_are_those_of_the_authors_code(function: Any, none: float | None, expected: str) -> None:
    """The weight of none counts in the softmax, though it is never derived."""
    space = DartsSpace()
    derived = Deriver(space, FREE, DeriveSettings())(log_softmax(function, none))[0]
    genotype = space.genotype(derived.architecture)
    wanted = []
    for node in expected.split(", "):
        words = node.split()
        wanted.append({(SHORT[words[0]], int(words[1])), (SHORT[words[2]], int(words[3]))})
    assert [set(node) for node in genotype.normal.nodes] == wanted
    assert genotype.reduce == genotype.normal


def test_edge_weights_change_the_ranking() -> None:
    """PC-DARTS: products of both softmaxes; beta = cos(0), cos(1), ... over the 14 edges of a cell."""
    scores = log_softmax(math.sin)
    for kind in KINDS:
        start = 0
        for node in NODES:
            beta = torch.tensor([math.cos(start + source) for source in range(node)]).double()
            scores[inputs_name(kind, node)] = beta.log_softmax(0).tolist()
            start += node
    space = DartsSpace()
    cell = space.genotype(Deriver(space, FREE, DeriveSettings())(scores)[0].architecture).normal
    assert [set(node) for node in cell.nodes] == [
        {("avg_pool_3x3", 0), ("dil_conv_3x3", 1)},
        {("sep_conv_3x3", 0), ("max_pool_3x3", 2)},
        {("sep_conv_3x3", 1), ("avg_pool_3x3", 2)},
        {("sep_conv_3x3", 4), ("dil_conv_3x3", 3)},
    ]


def test_the_number_of_cells() -> None:
    assert math.prod(len(values) for values in DartsSpace().groups().values()) == 1037664180**2


class Parameters(CostModel):
    """Parameters of the built network: additive over the edges that nodes read, with their operations."""

    metric = "params"
    unit = "parameters"
    integral = True

    def __init__(self, space: DartsSpace) -> None:
        self._space, self.calls = space, 0

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        self.calls += 1
        with torch.device("meta"):
            return {"": float(parameters(self._space.build(architecture)))}


def test_derived_cells_meet_a_limit_and_are_the_most_probable_ones() -> None:
    """Beside 20,000 random draws; costs of single edges are computed from few networks."""
    space = DartsSpace(**SMALL)
    model = Parameters(space)
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("params", "<= 3000")], {"params": model})
    scores = log_softmax(math.sin)
    deriver = Deriver(space, problem, DeriveSettings(top=2))
    first, second = deriver(scores)
    assert model.calls < 300
    assert first.exact
    assert problem.feasible(first.architecture)
    assert problem.feasible(second.architecture)
    assert first.log_probability >= second.log_probability
    free = Deriver(space, FREE, DeriveSettings())(scores)[0]
    assert not problem.feasible(free.architecture)
    rng = stream(0, "draws")
    groups = space.groups()
    sums = deriver._items.scores(scores)
    table = deriver._limits[0].table
    best = -math.inf
    for _ in range(20_000):
        places = {name: rng.randrange(len(values)) for name, values in groups.items()}
        if table.estimate(Architecture(places)) <= 3000:
            best = max(best, sum(sums[name][place] for name, place in places.items()))
    assert first.log_probability >= best > -math.inf
    # The expectation of the same cost is that of one network if each edge has one operation or none.
    active = space.active(free.architecture)
    weights = {name: torch.ones(len(decision.options)).double() for name, decision in space.decisions.items()}
    for name, decision in space.decisions.items():
        if ">" in name:
            weights[name] = nn.functional.one_hot(
                torch.tensor(decision.position(active.get(name, "none"))), len(decision.options)
            ).double()
    expected = deriver.expectation("params")(weights)
    assert expected.item() == pytest.approx(model.estimate(free.architecture), rel=1e-9)
    assert model.calls < 400  # the table of the limit was used again


def test_genotypes_and_architectures_are_inverse() -> None:
    space = DartsSpace(**SMALL)
    for name in ("DARTS_V1", "DARTS_V2", "DrNAS_cifar10"):
        architecture = space.architecture(PUBLISHED[name])
        genotype = space.genotype(architecture)
        for cell, other in ((genotype.normal, PUBLISHED[name].normal), (genotype.reduce, PUBLISHED[name].reduce)):
            assert [set(node) for node in cell.nodes] == [set(node) for node in other.nodes]
        assert space.canonical(architecture) == architecture
    with pytest.raises(SpaceError, match="the cell 'normal' does not have the nodes 2 to 5"):
        space.architecture(PUBLISHED["NASNet"])


def test_drop_path_and_the_auxiliary_head_are_for_training() -> None:
    space = DartsSpace(variant="final", drop_path=0.5, drop_path_iterations=1, auxiliary=True, **SMALL)
    torch.manual_seed(0)
    network = training_form(space.build(space.architecture(PUBLISHED["DARTS_V2"])))
    x = torch.randn(4, 3, 8, 8)
    network(x)  # the probability of the first batch is 0
    first, second = network(x), network(x)
    assert isinstance(first, tuple)
    assert [part.shape for part in first] == [(4, 3), (4, 3)]
    assert not torch.equal(first[0], second[0])
    assert torch.equal(network.eval()(x), network(x))


@pytest.mark.parametrize("kind", [Darts, Gdas])
def test_a_search(make: Any, run: Any, kind: Any) -> None:
    from automl_nas.evaluation.training.recipe import Recipe
    from automl_nas.testing.toys import ToyTask

    space = DartsSpace(**{**SMALL, "input_shape": (1, 4, 4), "channels": 2})
    task = ToyTask(train=16, search=16, batch_size=8)
    settings = {"edge_weights": True} if kind is Darts else {}
    train = Recipe(epochs=1, learning_rate=0.05)
    proposal = run(make(kind, space=space, task=task, train=train, **settings))
    derived = space.genotype(proposal.architecture)
    assert isinstance(derived, Genotype)
    assert all(name != "none" for cell in (derived.normal, derived.reduce) for node in cell.nodes for name, _ in node)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": (3, 30, 32)}, "multiples of 4.*30x32"),
        ({"input_shape": (3, 48, 48), "stem": "imagenet"}, "multiples of 32"),
        ({"channels": 6, "partial": 4}, "a multiple of 8"),
        ({"layers": 2}, "layers must be at least 3"),
        ({"drop_path": 1.0}, "below 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        DartsSpace(**settings)
