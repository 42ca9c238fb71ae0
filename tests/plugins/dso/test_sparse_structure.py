"""Sparse structure selection on torchvision's networks and small ones: the parts, training, folding, cutting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.fit import Fit
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.streams import stream_seed
from automl_nas.testing.states import same, stored
from automl_nas.testing.toys import ToyTask
from automl_nas.torchvision_import import import_torchvision
from automl_nas_dso.optimiser import APGNAG
from automl_nas_dso.sparse_structure.selection import SparseSelection, find


def models() -> Any:
    return import_torchvision("torchvision.models")


def randomised(network: nn.Module) -> nn.Module:
    """Give batch normalisation statistics, scales and shifts that differ between channels."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
            for tensor in (module.bias, module.running_mean):
                tensor.data.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
    return network.eval()


@cache
def torchvision_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    small = {"resnext": {"layers": [1, 1, 1, 1], "groups": 4, "width_per_group": 4}}
    if name == "resnext":
        network = models().resnet.ResNet(models().resnet.Bottleneck, num_classes=5, **small["resnext"])
    else:
        network = getattr(models(), name)(num_classes=5)
    return randomised(network)


def image(batch: int = 2, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(3))


def kill(selection: SparseSelection, keep: Callable[[int], float]) -> None:
    """Set the scales by hand."""
    with torch.no_grad():
        selection.values.copy_(torch.tensor([keep(place) for place in range(len(selection.values))]))


@pytest.mark.parametrize(
    ("name", "kind", "parts", "scales"),
    [
        # By the papers' tables: 8 and 16 residual branches; one inner layer of a basic block, two of a bottleneck, the
        # four residual sums, and the stem where only convolutions read it; of the 11 layers of VGG-11 all but the last.
        ("resnet18", "blocks", 8, 8),
        ("resnet50", "blocks", 16, 16),
        ("resnet18", "neurons", 8 + 4, (2 + 1) * (64 + 128 + 256 + 512)),
        ("resnet50", "neurons", 33 + 4, 64 + 2 * (3 * 64 + 4 * 128 + 6 * 256 + 3 * 512) + 256 + 512 + 1024 + 2048),
        ("resnext", "groups", 4, 16),
        ("vgg11_bn", "neurons", 10, 64 + 128 + 2 * 256 + 4 * 512 + 2 * 4096),
        # The first block has no expansion; 10 of 17 blocks have a shortcut.
        ("mobilenet_v2", "blocks", 10, 10),
    ],
)
def test_what_can_be_cut_off_torchvisions_networks(name: str, kind: Any, parts: int, scales: int) -> None:
    if name == "vgg11_bn":
        with torch.device("meta"):  # half a gigabyte
            network = models().vgg11_bn()
    else:
        network = torchvision_network(name)
    candidates = find(network, kind, (3, 224, 224))
    assert (len(candidates), sum(part.count for part in candidates)) == (parts, scales)


@pytest.mark.parametrize(
    ("name", "kind", "keep"),
    [
        ("resnet18", "blocks", lambda place: [0.0, 0.7, 0.0, 1.3, 0.0, 0.4, 0.9, 0.0][place]),
        ("resnet18", "blocks", lambda place: 0.0),
        ("resnet18", "blocks", lambda place: 0.5),
        ("resnet18", "neurons", lambda place: 0.0 if place % 3 else 0.5 + place % 5),
        ("resnet18", "neurons", lambda place: 0.0),
        ("resnext", "groups", lambda place: [0.3, 0.0, 0.0, 2.0][place % 4]),
        ("mobilenet_v2", "groups", lambda place: 0.0 if place % 2 else 1.5),
    ],
)
def test_the_plain_network_computes_the_same(name: str, kind: Any, keep: Callable[[int], float]) -> None:
    network = copy.deepcopy(torchvision_network(name))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    selection = SparseSelection(network, input_shape=(3, 32, 32), kind=kind, gamma=0.1)
    assert torch.equal(network(image()), torchvision_network(name)(image())), "1 changes nothing"
    kill(selection, keep)
    expected = network(image()).detach()
    plain = selection.finish(image())
    # Folded scales round each weight once; logits of order 1 to 100 behind some 20 layers.
    torch.testing.assert_close(plain(image()), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    size, whole = (sum(p.numel() for p in net.parameters()) for net in (plain, network))
    dead = any(keep(place) == 0 for place in range(8))
    assert (size < whole) is dead
    # The network itself is as it was.
    assert torch.equal(network(image()), expected)
    assert same(dict(network.state_dict()), before)
    selection.remove()
    assert torch.equal(network(image()), torchvision_network(name)(image()))
    assert all(p.requires_grad for net in (network, plain) for p in net.parameters())


def test_the_plain_network_trains_and_exports(tmp_path: Path) -> None:
    network = copy.deepcopy(torchvision_network("resnet18"))
    selection = SparseSelection(network.train(), input_shape=(3, 32, 32), kind="blocks", gamma=0.1)
    kill(selection, lambda place: 0.0 if place % 2 else 0.8)
    plain = selection.finish()
    homes = {type(module).__module__.partition(".")[0] for module in plain.modules()}
    assert homes <= {"torch", "torchvision"}
    assert all(module.training for module in plain.modules())
    plain(image()).sum().backward()
    assert all(p.grad is not None for p in plain.parameters())
    program = torch.export.export(plain.eval(), (image(),))
    torch.export.save(program, tmp_path / "network.pt2")
    again = torch.export.load(tmp_path / "network.pt2").module()
    # The same operators in the same order.
    torch.testing.assert_close(again(image()), plain(image()), rtol=1e-5, atol=1e-5)


class Residual(nn.Module):
    """A small network with what the large ones do not have: no affine scales, a final branch that is a convolution."""

    def __init__(self, affine: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        after = [nn.BatchNorm2d(6, affine=affine)] if norm else []
        self.branch = nn.Sequential(
            nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 1), *after
        )
        self.other = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 1))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.branch(x)
        x = F.relu(self.other(x).add(x))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"norm": False}])
@pytest.mark.parametrize("scales", [(0.5, 2.0), (0.0, 2.0), (0.5, 0.0)])
def test_scales_are_folded_into_what_is_there(settings: dict[str, bool], scales: tuple[float, float]) -> None:
    torch.manual_seed(0)
    network = randomised_small(Residual(**settings))
    selection = SparseSelection(network, input_shape=(1, 5, 5), gamma=0.1)
    kill(selection, lambda place: scales[place])
    x = torch.randn(4, 1, 5, 5)
    plain = selection.finish(x)
    torch.testing.assert_close(plain(x), network(x), rtol=1e-5, atol=1e-6)


def randomised_small(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def test_some_parts_may_be_left_alone() -> None:
    selection = SparseSelection(Residual(), input_shape=(1, 5, 5), kind="neurons", only=["branch.1"], gamma=0.1)
    assert [part.path for part in selection.parts] == ["branch.1"]
    with pytest.raises(SpaceError, match=r"'branch\.2' is not among the neurons .* did you mean 'branch\.1'"):
        SparseSelection(Residual(), input_shape=(1, 5, 5), kind="neurons", only=["branch.2"], gamma=0.1)


RECIPE = Recipe(epochs=6, learning_rate=0.05, schedule="constant", weight_decay=0.0)


def fit(network: nn.Module, selection: SparseSelection) -> Fit:
    task = ToyTask(train=64, num_classes=3)
    return Fit(network, task, Runtime(device="cpu"), RECIPE, seed=3, forward=selection.forward)


def test_training_by_fit_is_that_of_a_loop_of_ones_own() -> None:
    torch.manual_seed(0)
    network = Residual()
    twin = copy.deepcopy(network)
    selection = SparseSelection(network, input_shape=(1, 4, 4), gamma=0.3)
    training = fit(network, selection)
    training.advance(1000)
    selection.step()

    # The objective written out: branches multiplied in the forward pass, no hooks.
    scales = [nn.Parameter(torch.ones(())) for _ in range(2)]

    def forward(x: Tensor) -> Tensor:
        x = twin.stem(x)
        x = x + scales[0] * twin.branch(x)
        x = F.relu(scales[1] * twin.other(x) + x)
        return twin.head(x.mean((2, 3)))  # type: ignore[no-any-return]

    weights = [p for name, p in twin.named_parameters() if name != "branch.4.weight"]
    sgd, apg = torch.optim.SGD(weights, lr=0.05, momentum=0.9), APGNAG(scales, 0.1, gamma=0.3, nonnegative="prox")
    task, count = ToyTask(train=64, num_classes=3), 0
    for epoch in range(6):
        for inputs, targets in task.batches("train", epoch, stream_seed(3, "data")):
            for optimiser in (sgd, apg):
                optimiser.zero_grad()
            F.cross_entropy(forward(inputs.to(memory_format=torch.channels_last)), targets).backward()
            sgd.step()
            apg.step()
            count += 1
    assert count == training.iterations == 24
    # The same products; convolutions may add up in another order.
    torch.testing.assert_close(
        selection.values.detach(), torch.stack([s.detach() for s in scales]), rtol=1e-4, atol=1e-5
    )
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_training_resumes_bit_for_bit() -> None:
    def run(stop: int | None) -> tuple[dict[str, Tensor], Tensor]:
        torch.manual_seed(0)
        network = Residual()
        selection = SparseSelection(network, input_shape=(1, 4, 4), kind="neurons", gamma=0.3)
        training = fit(network, selection)
        if stop is not None:
            training.advance(stop)
            state = stored({"fit": training.state_dict(), "selection": selection.state_dict()})
            network = Residual()
            selection = SparseSelection(network, input_shape=(1, 4, 4), kind="neurons", gamma=0.9)
            training = fit(network, selection)
            training.load_state_dict(state["fit"])
            selection.load_state_dict(state["selection"])
        training.advance(1000)
        selection.step()
        return dict(network.state_dict()), selection.values.detach()

    whole = run(None)
    assert bool((whole[1] == 0).any())
    for stop in (1, 7):
        assert same(run(stop), whole)


def test_a_useless_branch_goes_and_a_useful_one_stays() -> None:
    """A branch that only adds noise is cut off; one without which the targets cannot be met stays."""
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.useful, self.noise = nn.Linear(4, 4), nn.Linear(4, 4)
            self.noise.weight.requires_grad_(False)
            self.noise.bias.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.useful(x)
            return x + self.noise(x)  # type: ignore[no-any-return]

    network = Two()
    selection = SparseSelection(network, input_shape=(4,), gamma=0.02, lr=0.05)
    sgd = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.05)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    x = torch.randn(64, 4)
    for _ in range(400):
        sgd.zero_grad()
        selection.zero_grad()
        F.mse_loss(network(x), x @ turn).backward()
        sgd.step()
        selection.step()
    assert {path: bool(live) for path, live in selection.live().items()} == {"useful": True, "noise": False}
    plain = selection.finish(x)
    assert {name for name, _ in plain.named_parameters()} == {"useful.weight", "useful.bias"}


class Steps(nn.Module):
    """Residual blocks behind code that branches on shapes and values, in a loop, which torch.fx cannot trace."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(width, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
            self.conv2, self.bn2 = nn.Conv2d(5, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            out += x
            return self.relu(out)  # type: ignore[no-any-return]

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList(self.Block(6) for _ in range(3))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        while x.shape[-1] > 8:
            x = F.avg_pool2d(x, 2)
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """Attention and a multilayer perceptron on tokens; channels are the last dimension."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads = heads
        self.enter, self.norm = nn.Linear(5, width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 7), nn.GELU(), nn.Dropout(0.1), nn.Linear(7, width), nn.Dropout(0.1))
        self.gated, self.head = nn.Linear(width, 2 * 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        if x.dim() != 3:
            raise ValueError("tokens have three dimensions")
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1))
        x = x + self.mlp(self.norm(x))
        left, right = self.gated(x).chunk(2, dim=-1)
        return self.head((left * torch.sigmoid(right)).mean(1))  # type: ignore[no-any-return]


class Concatenated(nn.Module):
    """Channels of two layers side by side, behind which are no shifts; one of the layers is read by the other, too."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.last = nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        return self.last(torch.cat([x, F.relu(self.two(x))], 1)).flatten(1)  # type: ignore[no-any-return]


class Added(nn.Module):
    """The addition is a module without parameters, as in networks that are made for quantisation."""

    class Add(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    def __init__(self) -> None:
        super().__init__()
        self.add, self.stem, self.branch, self.head = self.Add(), nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(self.add(F.dropout(self.branch(x), training=self.training), x)))  # type: ignore[no-any-return]


def small_densenet() -> nn.Module:
    settings = {"growth_rate": 4, "block_config": (2, 3), "num_init_features": 8, "bn_size": 2, "num_classes": 5}
    return models().densenet.DenseNet(memory_efficient=True, **settings)  # type: ignore[no-any-return]


NEW: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Any, dict[str, int]]] = {
    # Inner channels of five layers, and what the stem, the transition and the layers produce. Those are read behind
    # batch normalisations of the concatenations, so the scales are there. The first normalisation of a block has the
    # channels of one part; where it has those of several, a part is named after the layer that produces its channels.
    "channels of a DenseNet": (
        small_densenet,
        (3, 32, 32),
        "neurons",
        {
            "features.denseblock1.denselayer1.norm1": 8,
            "features.denseblock2.denselayer1.norm1": 8,
            **{f"features.denseblock1.denselayer{n}.norm2": 8 for n in (1, 2)},
            **{f"features.denseblock2.denselayer{n}.norm2": 8 for n in (1, 2, 3)},
            **{f"features.denseblock1.denselayer{n}.conv2": 4 for n in (1, 2)},
            **{f"features.denseblock2.denselayer{n}.conv2": 4 for n in (1, 2, 3)},
        },
    ),
    "blocks behind code that branches": (Steps, (3, 16, 16), "blocks", {f"blocks.{n}.bn2": 1 for n in range(3)}),
    "channels behind code that branches": (
        Steps,
        (3, 16, 16),
        "neurons",
        {"stem": 6, **{f"blocks.{n}.bn1": 5 for n in range(3)}},
    ),
    "heads and channels of tokens": (Tokens, (6, 5), "neurons", {"qkv": 3, "mlp.0": 7, "gated": 8}),
    "concatenated channels": (Concatenated, (3, 6, 6), "neurons", {"one": 4, "two": 6}),
    "an addition in a module": (Added, (3,), "blocks", {"branch": 1}),
}


@pytest.mark.parametrize("name", NEW)
def test_what_a_run_finds_is_cut_as_if_it_were_zero(name: str) -> None:
    make, shape, kind, parts = NEW[name]
    torch.manual_seed(0)
    network = randomised(make()).double()
    selection = SparseSelection(network, input_shape=shape, kind=kind, gamma=0.1)
    assert {part.path: part.count for part in selection.parts} == parts
    x = torch.randn(3, *shape, dtype=torch.float64)
    assert torch.equal(network(x), copy.deepcopy(network)(x))
    for remainder in (0, 1):
        kill(selection, lambda place, remainder=remainder: 0.0 if place % 3 == remainder else 0.8)  # type: ignore[misc]
        expected = network(x).detach()
        plain = selection.finish(x)
        # Sums of up to some hundred numbers of order 1, in double precision; a wrong channel changes the first digits.
        torch.testing.assert_close(plain(x), expected, rtol=1e-9, atol=1e-12)
        size, whole = (sum(p.numel() for p in each.parameters()) for each in (plain, network))
        assert size < whole or (size == whole and bool(selection.values.all()))
        assert type(plain) is type(network) or kind == "blocks"
    selection.remove()


def test_torch_fx_cannot_trace_them() -> None:
    """The networks of the test above are such that the graph of the whole network is not to be had."""
    for make in (small_densenet, Steps, Tokens):
        with pytest.raises((torch.fx.proxy.TraceError, TypeError, ValueError)):
            torch.fx.Tracer().trace(make())


def test_only_modules_that_lose_a_branch_are_rewritten() -> None:
    torch.manual_seed(0)
    selection = SparseSelection(randomised(Steps()), input_shape=(3, 16, 16), gamma=0.1)
    kill(selection, lambda place: float(place == 1))
    plain = selection.finish(torch.randn(2, 3, 16, 16))
    assert type(plain) is Steps
    kinds = [isinstance(block, torch.fx.GraphModule) for block in plain.blocks]
    assert kinds == [True, False, True]
    assert not list(plain.blocks[0].parameters())
    assert list(plain.state_dict()) == [
        name for name in Steps().state_dict() if not name.startswith(("blocks.0", "blocks.2"))
    ]
    # Another branch of the code runs for other inputs.
    assert plain(torch.randn(2, 3, 8, 8)).shape == (2, 4)


class Shifted(nn.Module):
    """A residual sum that is read behind a shift: its channels have an influence where all layers return zeros."""

    def __init__(self, shift: float, read: bool) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.shift, self.read = shift, read

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.branch(F.relu(x))
        if self.read:
            x = x + self.shift
        return self.head(x)  # type: ignore[no-any-return]


def test_coupled_channels_need_zeros_on_the_way_to_all_readers() -> None:
    (part,) = find(Shifted(0.0, read=False), "neurons", (3,))
    assert (part.path, part.paths, part.count) == ("stem", ("stem", "branch"), 4)
    with pytest.raises(SpaceError, match="no neurons"):
        find(Shifted(0.5, read=True), "neurons", (3,))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(SpaceError, match="no blocks"):
        find(Branching(), "blocks", (2,))
    with pytest.raises(SpaceError, match="no blocks"):
        find(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "blocks", (2,))
    with pytest.raises(SpaceError, match="no groups"):
        find(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "groups", (2,))
    # A sigmoid of a channel of zeros is not zero; the last layer's outputs are read by nobody.
    with pytest.raises(SpaceError, match="no neurons"):
        find(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)), "neurons", (2,))
    with pytest.raises(SpaceError, match=r"Sequential does not run on an input of shape \(3,\)"):
        find(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "neurons", (3,))
    with pytest.raises(ConfigurationError, match="must be the sizes of one input without the batch"):
        find(nn.Linear(2, 2), "neurons", (0,))
    with pytest.raises(ConfigurationError, match="must be one of blocks, groups, neurons, not 'channels'"):
        find(nn.Linear(2, 2), "channels", (2,))  # type: ignore[arg-type]
    selection = SparseSelection(Residual(), input_shape=(1, 5, 5), gamma=0.1)
    kill(selection, lambda place: float("nan"))
    with pytest.raises(ConfigurationError, match="NaN"):
        selection.finish()


class Treacherous(nn.Module):
    """Its linear layer works on the width of the image, which happens to be the number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 4, 1), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.conv(x))).mean((2, 3))  # type: ignore[no-any-return]


def test_a_dimension_of_the_same_size_is_not_taken_for_channels() -> None:
    with pytest.raises(SpaceError, match="no neurons"):
        find(Treacherous(), "neurons", (1, 4, 4))


class Moody(nn.Module):
    """Adds something to its channels, but not for a batch of two, of which the run is made."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.two(x if len(x) == 2 else x + 1)  # type: ignore[no-any-return]


def test_a_wrong_cut_does_not_pass_the_comparison() -> None:
    torch.manual_seed(0)
    selection = SparseSelection(Moody(), input_shape=(3,), kind="neurons", gamma=0.1)
    kill(selection, lambda place: float(place % 2))
    selection.finish(torch.randn(2, 3))
    with pytest.raises(SpaceError, match="other outputs"):
        selection.finish(torch.randn(4, 3))
