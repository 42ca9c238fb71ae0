"""The layers of a drawing: each convolution and linear layer once, however its weights are used."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas_report.network_drawing import _run_once


class Rounded(nn.Module):
    """Computes with rounded weights of its child, as quantised layers do; the child is not called."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer.weight.round(), self.layer.bias)

    def extra_repr(self) -> str:
        return "rounded"


def test_a_layer_whose_owner_computes_with_its_weights() -> None:
    network = nn.Sequential(Rounded(nn.Linear(3, 4)), nn.Sequential(nn.Linear(4, 5)), nn.ReLU())
    layers = _run_once(network.eval(), (3,))
    assert [(layer.name, layer.kind, layer.parameters) for layer in layers] == [
        ("0.layer", "linear", 16),
        ("1.0", "linear", 25),
        ("2", "other", 0),
    ]
    assert layers[0].description == "Linear 3 → 4 (rounded)"
    assert layers[0].shape == "4"


def test_layers_that_are_used_twice_are_drawn_twice_and_counted_once() -> None:
    rounded = Rounded(nn.Linear(3, 3))
    layers = _run_once(nn.Sequential(rounded, rounded).eval(), (3,))
    assert [(layer.name, layer.parameters) for layer in layers] == [("0.layer", 12), ("0.layer", 0)]
