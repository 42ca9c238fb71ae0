"""Each proxy against a closed form on a tiny network; contracts; bad input."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from automl_nas import TensorTask, search
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.evaluator import Evaluator, Request, State
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task
from automl_nas.space import ModuleSpace, OneOf
from automl_nas.space.space import SearchSpace
from automl_nas.testing.costs import CostModelContract
from automl_nas.testing.evaluators import EvaluatorContract
from automl_nas.testing.toys import ToySpace, ToyTask
from automl_nas_proxies.cost import ZeroCostScore
from automl_nas_proxies.evaluator import ZeroCost
from automl_nas_proxies.measuring import PROXIES, first_batch
from automl_nas_proxies.outputs import epe_nas, jacov, nwot, zen
from automl_nas_proxies.probe import Probe
from automl_nas_proxies.weights import fisher, grad_norm, grasp, l2_norm, plain, snip, synflow

RUNTIME = Runtime(device="cpu")


def square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error: its Hessian in the outputs is the identity, divided by the batch."""
    return 0.5 * (outputs - targets).square().sum(1).mean()


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


W = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
X = np.array([[1.0, 0.5, -1.0], [2.0, -1.0, 0.0], [0.0, 1.0, 1.0], [-1.0, 2.0, 0.5]])
Y = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 2.0], [0.5, 0.5]])


@pytest.fixture
def probe() -> Probe:
    return Probe(linear(W.tolist()), torch.from_numpy(X), torch.from_numpy(Y), square)


def test_proxies_of_a_linear_layer_are_those_of_least_squares(probe: Probe) -> None:
    """L = |X W' - Y|^2 / 2n: the gradient is E'X / n with E = X W' - Y, and the Hessian of each row of W is X'X / n."""
    error = X @ W.T - Y
    gradient, hessian = error.T @ X / 4, X.T @ X / 4
    assert plain(probe) == pytest.approx((W * gradient).sum())
    assert snip(probe) == pytest.approx(np.abs(W * gradient).sum())
    assert grad_norm(probe) == pytest.approx(np.linalg.norm(gradient))
    assert l2_norm(probe) == pytest.approx(np.linalg.norm(W))
    assert grasp(probe) == pytest.approx(-(W * (gradient @ hessian)).sum())
    outputs = X @ W.T
    # Each of the two outputs has three weights.
    assert fisher(probe) == pytest.approx(3 * 0.5 * ((outputs * error / 4) ** 2).mean(0).sum())
    # An input of ones: R is the sum of |W|, and so is the sum of |W| dR/d|W|.
    assert synflow(probe) == pytest.approx(math.log1p(np.abs(W).sum()))


def test_norms_are_summed_over_layers_and_shared_weights_count_once() -> None:
    layer = linear([[3.0, 4.0], [0.0, 0.0]])
    network = nn.Sequential(layer, linear([[1.0, 0.0], [0.0, 1.0]]), layer)
    assert l2_norm(Probe(network, torch.ones(1, 2, dtype=torch.float64))) == pytest.approx(5 + math.sqrt(2))


def test_synflow_is_the_sum_over_layers_of_the_product_of_absolute_weights() -> None:
    """Without biases each layer's sum is R = 1'|V||W|1 (Tanaka et al. 2020, theorem 1), whatever normalisation does."""
    first, last = linear(W.tolist()), linear([[2.0, -1.0]])
    network = nn.Sequential(first, nn.BatchNorm1d(2).double(), nn.ReLU(), last)
    before = [parameter.clone() for parameter in network.parameters()]
    value = synflow(Probe(network, torch.from_numpy(X)))
    assert value == pytest.approx(math.log1p(2 * (np.array([[2.0, 1.0]]) @ np.abs(W)).sum()))
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


class ByFunction(nn.Module):
    """Layer normalisation by the function of torch, in a class that is no layer of torch."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[1:])


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm1d(8),
        lambda: nn.LayerNorm((8, 16)),
        lambda: nn.GroupNorm(2, 8),
        lambda: nn.InstanceNorm1d(8, affine=True),
        lambda: nn.RMSNorm((8, 16)),
        lambda: nn.LocalResponseNorm(2),
        lambda: ByFunction(),
    ],
    ids=["batch", "layer", "group", "instance", "rms", "local", "function"],
)
def test_synflow_is_that_of_the_network_without_normalisation(norm: Callable[[], nn.Module]) -> None:
    """The same weights with nothing between the layers: equal, and so more blocks have more flow."""

    def chain(blocks: int, between: Callable[[], nn.Module]) -> nn.Module:
        torch.manual_seed(0)
        parts = [nn.Conv1d(3, 8, 3, padding=1)]
        parts += [nn.Sequential(between(), nn.Conv1d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(blocks)]
        return nn.Sequential(*parts, between(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4))

    values = [synflow(Probe(chain(blocks, norm), torch.zeros(2, 3, 16))) for blocks in (1, 2, 4)]
    bare = [synflow(Probe(chain(blocks, nn.Identity), torch.zeros(2, 3, 16))) for blocks in (1, 2, 4)]
    assert values == pytest.approx(bare)
    assert values == sorted(values)


def test_synflow_of_networks_of_the_spaces_ignores_the_scales_of_their_normalisation() -> None:
    """Scales of 2 and shifts of 3 change nothing where normalisation is left out, wrapped or not."""
    from automl_nas_spaces.convnext import convnext
    from automl_nas_spaces.sequences import signal_cnn
    from automl_nas_spaces.vit import vit

    spaces = (
        signal_cnn(input_shape=(2, 16), widths=(4,), repeats=(1,), strides=(2,)),
        convnext(input_shape=(3, 32, 32), num_classes=2),
        vit(input_shape=(3, 16, 16), patch=8, embeddings=(32,), heads=(2,), ratios=(2.0,), depth=(2, 3), head_width=16),
    )
    for space in spaces:
        torch.manual_seed(0)
        network = space.build(space.sample(random.Random(1)))
        inputs = torch.zeros(1, *space.input_shape)
        before = synflow(Probe(network, inputs))
        changed = 0
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._NormBase):
                    module.weight.fill_(2.0)
                    module.bias.fill_(3.0)
                    changed += 1
        assert changed
        assert synflow(Probe(network, inputs)) == before


@pytest.mark.parametrize("kind", ["softmax", "function", "module"])
def test_synflow_of_attention_is_that_of_its_values(kind: str) -> None:
    """Positions of ones are equal, so their mean is any of them: R = n 1'|P||V|1, for each of V and P.

    Queries and keys pass nothing on, however large their weights are. The packed projection of a
    ``nn.MultiheadAttention`` is no linear layer of its own, so only P counts there.
    """

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.MultiheadAttention(3, 1, bias=False, batch_first=True)
            self.query, self.key, self.value = (nn.Linear(3, 3, bias=False) for _ in range(3))
            with torch.no_grad():
                self.layer.in_proj_weight[:6] *= 1e15
                for mine, part in zip(
                    (self.query, self.key, self.value), self.layer.in_proj_weight.chunk(3), strict=True
                ):
                    mine.weight.copy_(part)

        def forward(self, x: Tensor) -> Tensor:
            if kind == "module":
                outputs: Tensor = self.layer(x, x, x)[0]
                return outputs
            query, key, value = self.query(x), self.key(x), self.value(x)
            if kind == "softmax":
                mixed = (query @ key.transpose(1, 2)).softmax(-1) @ value
            else:
                mixed = nn.functional.scaled_dot_product_attention(query, key, value)
            outputs = self.layer.out_proj(mixed)
            return outputs

    network = Attention()
    project, values = (layer.weight.detach().double().abs() for layer in (network.layer.out_proj, network.value))
    flow = 5 * float((project @ values).sum())
    value = synflow(Probe(network, torch.zeros(1, 5, 3)))
    assert value == pytest.approx(math.log1p(flow * (1 if kind == "module" else 2)))


class Classifier(nn.Module):
    """Tokens -> vectors -> a hidden layer for each position -> the mean -> outputs; without a table for vectors."""

    def __init__(self, vocabulary: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.table = nn.Identity() if vocabulary is None else nn.Embedding(vocabulary, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.last(torch.relu(self.hidden(self.table(x))).mean(1))
        return outputs


class OneHot(nn.Module):
    """Tokens without a table."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.last(nn.functional.one_hot(tokens, 5).float().mean(1))
        return outputs


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_synflow_of_tokens_is_that_of_vectors_of_ones(dtype: torch.dtype) -> None:
    """Behind the table the network is one of vectors. A cost does not know of tokens: its inputs are floating."""
    value = synflow(Probe(Classifier(7), torch.zeros(2, 6, dtype=dtype)))
    assert value == synflow(Probe(Classifier(None), torch.zeros(2, 6, 3)))
    with pytest.raises(ConfigurationError, match=r"no nn\.Embedding or nn\.EmbeddingBag reads them"):
        synflow(Probe(OneHot(), torch.zeros(2, 6, dtype=dtype)))


@pytest.mark.parametrize("positions", [(5,), (2, 3)])
def test_fisher_of_a_linear_layer_at_each_position_is_that_of_a_convolution(positions: tuple[int, ...]) -> None:
    """A convolution with kernel 1 is the same layer; and written out: sums over positions of activation times slope."""

    class Pooled(nn.Module):
        def __init__(self, layer: nn.Module, last: nn.Module) -> None:
            super().__init__()
            self.layer, self.last = layer, last

        def forward(self, x: Tensor) -> Tensor:
            if isinstance(self.layer, nn.Linear):
                hidden = self.layer(x).flatten(1, -2).relu().mean(1)
            else:
                hidden = self.layer(x.movedim(-1, 1)).flatten(2).relu().mean(2)
            outputs: Tensor = self.last(hidden)
            return outputs

    torch.manual_seed(0)
    layer, last = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()
    convolution = (nn.Conv1d if len(positions) == 1 else nn.Conv2d)(4, 6, 1).double()
    with torch.no_grad():
        convolution.weight.copy_(layer.weight.view_as(convolution.weight))
        convolution.bias.copy_(layer.bias)  # type: ignore[union-attr]
    inputs, targets = torch.randn(8, *positions, 4, dtype=torch.float64), torch.arange(8) % 3
    loss = nn.functional.cross_entropy
    value = fisher(Probe(Pooled(layer, last), inputs, targets, loss))
    assert value == pytest.approx(fisher(Probe(Pooled(convolution, last), inputs, targets, loss)))
    a = layer(inputs).flatten(1, -2).detach().numpy()
    outputs = last(layer(inputs).flatten(1, -2).relu().mean(1)).detach()
    slope = (outputs.softmax(1) - torch.eye(3)[targets]).numpy() / 8
    hidden = np.einsum("nk,kc,nxc->nxc", slope, last.weight.detach().numpy(), (a > 0) / a.shape[1])
    expected = 4 * 0.5 * ((a * hidden).sum(1) ** 2).mean(0).sum()
    expected += 6 * 0.5 * ((outputs.numpy() * slope) ** 2).mean(0).sum()
    assert value == pytest.approx(expected)


def test_grasp_of_attention_by_the_function_is_that_of_attention_written_out() -> None:
    class Attention(nn.Module):
        def __init__(self, fused: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.packed, self.last = nn.Linear(4, 12), nn.Linear(4, 3)
            self.fused = fused

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = self.packed(x).unsqueeze(1).chunk(3, -1)
            if self.fused:
                mixed = nn.functional.scaled_dot_product_attention(query, key, value)
            else:
                mixed = (query @ key.transpose(-2, -1) / 2).softmax(-1) @ value
            outputs: Tensor = self.last(mixed.squeeze(1).mean(1))
            return outputs

    inputs, targets = torch.randn(8, 5, 4), torch.arange(8) % 3
    fused, written = (
        grasp(Probe(Attention(each), inputs, targets, nn.functional.cross_entropy)) for each in (True, False)
    )
    assert fused == pytest.approx(written, rel=1e-4)


@pytest.mark.parametrize("function", [False, True])
def test_nwot_counts_units_that_agree(function: bool) -> None:
    """Codes of four inputs in three units; K is written out pair by pair. In-place and functional ReLUs count, too."""

    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x)

    network = Functional() if function else nn.ReLU(inplace=True)
    inputs = np.array([[1.0, 0.5, -1.0], [2.0, -1.0, 0.0], [-3.0, 1.0, 1.0], [1.0, 2.0, 0.5]])
    codes = inputs > 0
    kernel = [[float((one == other).sum()) for other in codes] for one in codes]
    expected = np.linalg.slogdet(np.array(kernel))
    assert expected.sign > 0
    assert nwot(Probe(network, torch.from_numpy(inputs.copy()))) == pytest.approx(expected.logabsdet)
    same = torch.from_numpy(np.repeat(X[:1], 2, axis=0))
    assert nwot(Probe(network, same)) == -math.inf


def test_jacov_and_epe_nas_from_the_correlations_of_numpy() -> None:
    """Outputs are sums of squares, so the gradient of input i is 2 x_i, and correlations are those of the inputs."""

    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().sum(1, keepdim=True)

    correlations = np.corrcoef(X)
    eigenvalues = np.clip(np.linalg.eigvalsh(correlations), 0, None) + 1e-5
    labels = torch.tensor([0, 1, 0, 1])
    probe = Probe(Squares(), torch.from_numpy(X), labels, square)
    # The smallest eigenvalues are zero up to rounding, so 1 / (0 + 1e-5) is right to about 1e-10.
    assert jacov(probe) == pytest.approx(-(np.log(eigenvalues) + 1 / eigenvalues).sum(), rel=1e-6)
    groups = [np.corrcoef(X[[0, 2]]), np.corrcoef(X[[1, 3]])]
    assert epe_nas(probe) == pytest.approx(sum(abs(np.log(np.abs(group) + 1e-5).sum()) for group in groups))
    assert math.isnan(jacov(Probe(linear([[0.0, 0.0, 0.0]]), torch.from_numpy(X))))


def test_epe_nas_of_many_classes() -> None:
    """Above 100 classes: mean over pairs of differences (Lopes et al., equation 5); here 101 classes of two inputs."""

    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().sum(1, keepdim=True)

    inputs = np.random.default_rng(0).normal(size=(202, 4))
    labels = torch.arange(101).repeat(2)
    sums = [np.log(np.abs(np.corrcoef(inputs[[c, c + 101]])) + 1e-5).sum() / 2 for c in range(101)]
    expected = np.abs(np.subtract.outer(sums, sums)).sum() / 101
    assert epe_nas(Probe(Squares(), torch.from_numpy(inputs), labels, square)) == pytest.approx(expected)


def test_zen_undoes_normalisation() -> None:
    """For f = BN(A x) with batch statistics, |f(x) - f(x + a e)| times the deviation is |A a e|: as without BN.

    The scale is the root of the running variance, which is 0.81 + 0.19 var after two passes
    with the same variance to 1 %: 64 for the first layer, 1 for the second.

    A 1x1 convolution with weights from N(0, 1): each of 16 x 16 outputs changes by 0.01 N(0, |w|^2), and for 64 inputs
    |w| is 8 within 1 / sqrt(128) or 9 %; E|N(0, s^2)| = s sqrt(2 / pi). The mean over 16 channels is within 2.2 %, so
    0.07 are three deviations. The layer's scale is the root mean square of 16 deviations, which exceeds their mean by
    half of 0.09^2, or 0.4 %.
    """

    def score(*after: nn.Module) -> float:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(64, 16, 1, bias=False), *after)
        return zen(Probe(network, torch.zeros(100, 64, 4, 4)))

    bare = score()
    assert bare == pytest.approx(math.log(256 * 0.01 * 8 * math.sqrt(2 / math.pi)), abs=0.07)
    # The batch of 100 has 16 positions: the unbiased variance is 1 / 1600 higher than that which the layer divides by.
    once = bare + 0.5 * math.log(0.81 / 64 + 0.19)
    assert score(nn.BatchNorm2d(16)) == pytest.approx(once, abs=0.02)
    assert score(nn.BatchNorm2d(16), nn.BatchNorm2d(16)) == pytest.approx(once, abs=0.02)
    classes = score(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3, bias=False))
    assert classes == pytest.approx(bare, abs=0.07)  # features before the pooling; other draws, which come later
    assert zen(Probe(nn.Sequential(nn.Conv2d(2, 1, 1), nn.Threshold(1e9, 0.0)), torch.zeros(2, 2, 2, 2))) == -math.inf


class TestZeroCost(EvaluatorContract):
    samples = 2

    def make_space(self) -> SearchSpace:
        return ToySpace(blocks=2)

    def make_task(self) -> Task:
        return ToyTask()

    def make_evaluator(self, space: SearchSpace) -> Evaluator:
        return ZeroCost(space, ToyTask(), RUNTIME, proxies=("synflow", "snip", "grasp", "l2_norm"), images=8)


class TestZeroCostScore(CostModelContract):
    samples: int = 3
    other_dtype: ClassVar[bool] = False  # fresh weights are drawn in the default dtype
    metric: ClassVar[str] = "zero_cost_score"

    def make_space(self) -> SearchSpace:
        return ToySpace(blocks=2)

    def make(self, space: SearchSpace) -> CostModel:
        return ZeroCostScore(space, proxy="synflow")


def test_all_proxies_of_a_cell_are_finite_and_repeat() -> None:
    from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
    from automl_nas_vision.digits import Digits

    task = Digits(batch_size=16)
    space = NASBench201(channels=4, cells=1, input_shape=(1, 8, 8))
    names = tuple(PROXIES)

    def values(number: int, seed: int, draws: int = 1) -> dict[str, float]:
        evaluator = ZeroCost(space, task, RUNTIME, proxies=names, images=20, draws=draws)  # type: ignore[arg-type]
        (outcome,) = evaluator.evaluate([Request(number, space.architecture("334131"), seed=seed)])
        return dict(outcome.metrics)

    first = values(0, 0)
    assert set(first) == set(PROXIES)
    assert values(7, 5) == first, "neither the number nor the seed of a trial has an influence"
    assert values(0, 0, draws=2) != first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proxies": ()}, "at least one proxy"),
        ({"proxies": ("snip",), "images": 1}, "images must be at least 2"),
        ({"proxies": ("snip",), "draws": 0}, "draws must be at least 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ZeroCost(ToySpace(), ToyTask(), RUNTIME, **settings)  # type: ignore[arg-type]


def test_proxies_that_do_not_fit_say_so(probe: Probe) -> None:
    with pytest.raises(ConfigurationError, match="the targets of this task are no classes"):
        epe_nas(probe)
    with pytest.raises(ConfigurationError, match="needs targets"):
        snip(Probe(linear(W.tolist()), torch.from_numpy(X)))
    tokens = Probe(nn.Embedding(3, 2), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match="inputs of this task are integers"):
        jacov(tokens)
    with pytest.raises(ConfigurationError, match="inputs of this task are integers"):
        zen(tokens)
    with pytest.raises(ConfigurationError, match="fewer than 1000000"):
        ZeroCost(ToySpace(), ToyTask(), RUNTIME, proxies=("snip",), images=10**6)
    with pytest.raises(ConfigurationError, match="fewer than 1000000"):
        first_batch(ToyTask(), 10**6, 0)


def test_nwot_without_units_is_the_least_score(probe: Probe) -> None:
    """With no units K is zero: its determinant is 0. As a cost, where no value is negative, that is 0."""
    from automl_nas_spaces.mlp import mlp

    assert nwot(probe) == -math.inf
    settings: dict[str, Any] = {"input_shape": (5,), "num_classes": 1, "width": (8,), "hidden_widths": (8, 16)}
    space = mlp(**settings, activations=("relu", "tanh"), blocks=2, min_blocks=2)
    names = {name: space.sample(random.Random(0)).replace({"activation": name}) for name in ("relu", "tanh")}
    cost = ZeroCostScore(space, proxy="nwot", images=8)
    assert cost.estimate(names["relu"]) > 0
    assert cost.estimate(names["tanh"]) == 0
    assert not cost.remarks(names["relu"])
    assert "no activation of the ReLU kind" in cost.remarks(names["tanh"])[0]
    evaluator = ZeroCost(space, TASKS["regression"](), RUNTIME, proxies=("nwot",), images=8)
    relu, tanh = evaluator.evaluate([Request(0, names["relu"], seed=0), Request(1, names["tanh"], seed=0)])
    assert relu.metrics["nwot"] > 0
    assert tanh.state is State.FAILED
    assert "no activation of the ReLU kind" in tanh.error
    with pytest.raises(ConfigurationError, match="proxy: none of 20 random networks"):
        ZeroCostScore(mlp(**settings, activations=("tanh",)), proxy="nwot")


class Codes(nn.Module):
    """Each of four tokens has a unit of its own; the tokens that it sees are kept."""

    seen: ClassVar[list[Tensor]] = []

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 4)
        with torch.no_grad():
            self.table.weight.copy_(2 * torch.eye(4) - 1)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = torch.relu(self.table(tokens)).flatten(1)
        self.seen.append(tokens)
        return vectors


def test_the_cost_nwot_of_tokens_is_that_of_random_tokens() -> None:
    """Of four units per position, inputs with one token agree in four, those with two different ones in two."""

    def space(network: Callable[[], nn.Module]) -> ModuleSpace:
        return ModuleSpace(
            lambda: nn.Sequential(OneOf({"a": nn.Identity(), "b": nn.Identity()}, name="x"), network()),
            input_shape=(6,),
        )

    tokens = space(Codes)
    cost = ZeroCostScore(tokens, proxy="nwot", images=8)
    value = cost.estimate(tokens.sample(random.Random(0)))
    drawn = Codes.seen[-1].numpy()
    assert drawn.shape == (8, 6)
    assert set(drawn.flat) == {0, 1, 2, 3}
    kernel = 2 + 2 * (drawn[:, None] == drawn[None])
    assert value == pytest.approx(np.linalg.slogdet(kernel.sum(2)).logabsdet)
    for proxy in ("nwot", "synflow"):
        with pytest.raises(ConfigurationError, match=r"^proxy: .* no nn\.Embedding or nn\.EmbeddingBag"):
            ZeroCostScore(space(OneHot), proxy=proxy)  # type: ignore[arg-type]


def _regression() -> TensorTask:
    inputs = np.random.default_rng(0).normal(size=(80, 5)).astype("f4")
    return TensorTask(inputs, inputs[:, :1] * 2, loss="mse", batch_size=16)


def _tokens() -> TensorTask:
    tokens = np.random.default_rng(0).integers(0, 20, size=(80, 12))
    return TensorTask(tokens, np.arange(80) % 3, batch_size=16)


TASKS = {"regression": _regression, "tokens": _tokens}
MLP = {"name": "mlp", "input_shape": [5], "num_classes": 1, "width": [8], "hidden_widths": [8, 16]}
TOKEN_CNN = {"name": "token_cnn", "num_classes": 3, "vocabulary": 20, "widths": [8], "repeats": [1], "strides": [1]}


@pytest.mark.parametrize(
    ("task", "space", "settings", "message"),
    [
        ("regression", MLP, {"proxies": ["snip"], "images": 500}, r"evaluator\.images: .*fewer than 500"),
        ("regression", MLP, {"proxies": ["snip", "epe_nas"], "images": 8}, r"proxies\[1\]: epe_nas compares classes"),
        ("tokens", TOKEN_CNN, {"proxies": ["jacov"], "images": 8}, r"proxies\[0\]: jacov needs inputs that can"),
        ("tokens", TOKEN_CNN, {"proxies": ["snip", "zen"], "images": 8}, r"proxies\[1\]: zen needs inputs that can"),
    ],
)
def test_what_can_never_work_is_refused_before_the_run(
    task: str, space: dict[str, object], settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    stage = {
        "name": "search",
        "strategy": "random",
        "evaluator": {"name": "zero_cost", **settings},
        "problem": {"objectives": {"snip": "maximize"}},
        "budget": {"trials": 2},
    }
    out = tmp_path / "run"
    with pytest.raises(ConfigurationError, match=message) as caught:
        search(task=TASKS[task](), space=space, problem={"costs": []}, stages=[stage], final=None, out=out)
    assert caught.value.path.startswith("stages[0].evaluator.")
    assert not out.exists()
