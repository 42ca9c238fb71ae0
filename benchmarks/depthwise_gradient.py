"""Training with depthwise convolutions on small feature maps on the CPU, with torch's gradients and with ours.

For single layers (forward and backward) of several feature maps and kernels, and for training steps of two supernets:
a network of examples/configs/quickstart.yaml that has each kind of block twice, on images of 8 x 8 points, and the
space of DSO-NAS with all edges, on images of 28 x 28 points. Both sides run in turns (AB, then BA) in processor time of
one thread. The script prints medians, and the median of the paired ratios with a bootstrap interval. How slow torch's
gradient is depends on the processor: the kernels of oneDNN for AVX-512 are others.

    python benchmarks/depthwise_gradient.py [--repetitions 21] [--batch 128]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from supernet_step import interval
from torch import Tensor, nn

from automl_nas.depthwise_gradient import use_torch_gradients
from automl_nas.evaluation import Runtime
from automl_nas.space import Architecture
from automl_nas_dso.space import DsoSpace
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

LAYERS = [(2, 3, 1), (2, 7, 1), (4, 5, 1), (4, 7, 1), (6, 7, 1), (4, 3, 2), (8, 5, 2)]
"""Points of the side of a feature map, kernel, dilation."""
CHANNELS = 32


def step_of(network: nn.Module, run: Callable[[nn.Module], Tensor]) -> Callable[[], None]:
    """Return a function that computes all gradients of a network."""

    def step() -> None:
        network.zero_grad()
        run(network).backward()  # type: ignore[no-untyped-call]

    return step


def compare(name: str, network: nn.Module, run: Callable[[nn.Module], Tensor], repetitions: int) -> None:
    """Time both sides in turns and print a row."""
    runtime = Runtime(device="cpu", threads=1)
    ours = runtime.place(network)
    theirs = copy.deepcopy(ours)
    use_torch_gradients(theirs)
    steps = [step_of(each, run) for each in (theirs, ours)]
    for step in steps:
        step()
    seconds = np.zeros((repetitions, 2))
    for number in range(repetitions):
        for side in (0, 1) if number % 2 else (1, 0):
            begun = time.process_time()
            steps[side]()
            seconds[number, side] = time.process_time() - begun
    ratios = seconds[:, 1] / seconds[:, 0]
    low, high = interval(ratios)
    before, now = 1000 * np.median(seconds, axis=0)
    print(f"| {name} | {before:.2f} | {now:.2f} | {np.median(ratios):.3f} [{low:.3f}, {high:.3f}] |", flush=True)


def loss_of(architecture: Architecture, batch: Tensor, labels: Tensor) -> Callable[[nn.Module], Tensor]:
    """Return the loss of a network with the weights of a supernet."""

    def run(network: nn.Module) -> Tensor:
        return F.cross_entropy(network(batch, architecture), labels)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--batch", type=int, default=128)
    settings = parser.parse_args()
    runtime = Runtime(device="cpu", threads=1)
    runtime.activate()
    torch.manual_seed(0)
    labels = torch.randint(10, (settings.batch,))
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, batches of {settings.batch}\n")
    print("| | torch, ms | now, ms | ratio [95 % interval] |\n|---|---|---|---|")
    for size, kernel, dilation in LAYERS:
        padding = dilation * (kernel // 2)
        layer = nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=padding, dilation=dilation, groups=CHANNELS, bias=False)
        x = runtime.tensor(torch.randn(settings.batch, CHANNELS, size, size)).requires_grad_()
        spread = f", dilation {dilation}" if dilation > 1 else ""
        name = f"{kernel} x {kernel} on {size} x {size}{spread}"
        compare(name, layer, lambda network, x=x: network(x).sum(), settings.repetitions)  # type: ignore[misc]
    shufflenet = shufflenet_v2(
        input_shape=(1, 8, 8),
        stem_channels=16,
        stem_stride=1,
        widths=(32, 64),
        repeats=(4, 4),
        strides=(1, 2),
        last_channels=128,
    )
    dso = DsoSpace(width=8, blocks=(1, 1, 1), sharing="full", stem_strides=(2, 2), input_shape=(1, 28, 28))
    blocks = list(shufflenet.decisions.items())
    every = {name: decision.options[place % decision.size] for place, (name, decision) in enumerate(blocks)}
    edges = {name: decision.options for name, decision in dso.decisions.items()}
    for name, space, values in (("ShuffleNetV2, 8 x 8", shufflenet, every), ("DSO-NAS, 28 x 28", dso, edges)):
        batch = runtime.tensor(torch.randn(settings.batch, *space.input_shape))
        loss = loss_of(space.validate(values), batch, labels)
        compare(name, space.build_supernet(), loss, settings.repetitions)


if __name__ == "__main__":
    main()
