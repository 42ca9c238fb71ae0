"""What varies in models of torchvision, and whether the networks of their spaces are what they should be.

For each model: the largest network and the model have the same outputs bit for bit; for random architectures, the
extracted network and the supernet have the same outputs bit for bit, and our counts of multiply-adds and parameters
are those of torch's flop counter and of the extracted network's tensors (both sides are printed). With ``--export``, a
random network is written as ONNX and pt2, and run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from automl_nas.space import Architecture
from automl_nas_costs.models import Flops, Params
from automl_nas_elastic import ElasticSpace
from automl_nas_elastic.models import load_model

MODELS = (
    "resnet18 resnet50 resnext50_32x4d wide_resnet50_2 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large "
    "efficientnet_b0 efficientnet_v2_s regnet_y_400mf densenet121 vgg16_bn squeezenet1_1 shufflenet_v2_x1_0 mnasnet1_0 "
    "googlenet convnext_tiny vit_b_16 swin_t maxvit_t alexnet inception_v3"
)
KINDS = ("width", "heads", "groups", "depth", "kernel")


def torch_count(network: nn.Module, shape: Sequence[int]) -> int:
    """Return multiply-adds by torch's counter, which knows the products of unfused attention only."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(torch.empty(1, *shape, device="meta"))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    return counter.get_total_flops() // 2


def exported(network: nn.Module, x: Tensor) -> str:
    """Write a network in both formats and compare their outputs with its own."""
    import onnxruntime

    expected = network(x)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(network, (x,), file, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(file)
        (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        program = torch.export.export(network, (x,))
        torch.export.save(program, Path(folder) / "model.pt2")
        again = torch.export.load(Path(folder) / "model.pt2").module()(x)
    scale = expected.abs().max()
    onnx = float((torch.from_numpy(output) - expected).abs().max() / scale)
    pt2 = float((again - expected).abs().max() / scale)
    return f"onnx {onnx:.0e}, pt2 {pt2:.0e}"


def as_trained(model: nn.Module, shape: Sequence[int]) -> nn.Module:
    """Give a new model outputs that depend on all of it.

    Some heads begin with zeros, and untrained normalisation makes the outputs of deep models vanish; then every
    comparison of outputs would succeed.
    """
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the statistics of the pass
    model.train()(torch.randn(4, *shape))
    return model.eval()


def row(name: str, size: int, count: int, export: bool) -> str:
    torch.manual_seed(0)
    size = 299 if name == "inception_v3" and size == 224 else size
    shape = (3, size, size)
    model = as_trained(load_model(name, {}, None), shape)
    begun = time.process_time()
    space = ElasticSpace(model, input_shape=shape)
    seconds = time.process_time() - begun
    supernet = space.build_supernet().eval()
    x = torch.randn(1, *shape)
    flops, params = Flops(space), Params(space)
    expected = model(x)
    assert expected.std() > 1e-3, f"the outputs of {name} are nearly equal, {expected.std():.1e}"
    same = torch.equal(supernet(x, space.largest), expected)
    equal = counted = 0
    extraction, ours, theirs = [], 0, 0
    rng = random.Random(0)
    chosen: Architecture = space.largest
    for _ in range(count):
        chosen = space.sample(rng)
        begun = time.process_time()
        network = supernet.extract(chosen)
        extraction.append(time.process_time() - begun)
        equal += torch.equal(network(x), supernet(x, chosen))
        with torch.device("meta"):
            plain = space.build(chosen)
        ours, theirs = int(flops.estimate(chosen)), torch_count(plain, shape)
        own = sum(parameter.numel() for parameter in network.parameters())
        counted += ours == theirs and int(params.estimate(chosen)) == own
    kinds = Counter(next(kind for kind in KINDS if kind in o.name.rpartition(".")[2]) for o in space.options)
    cells = [name, *(str(kinds[kind]) for kind in KINDS), "yes" if same else "NO", f"{equal}/{count}"]
    cells += [
        f"{counted}/{count}",
        f"{ours:,} / {theirs:,}",
        f"{seconds:.1f}",
        f"{statistics.median(extraction) * 1e3:.0f}",
    ]
    if export:
        cells.append(exported(supernet.extract(chosen).eval(), x))
    reasons = Counter(each.reason for each in space.fixed if not each.reason.startswith(("an input", "an output")))
    text = f"| {' | '.join(cells)} |"
    for reason, times in reasons.most_common():
        text += f"\n<!-- {name}, fixed {times} times: {reason} -->"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS.split())
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--architectures", type=int, default=20, help="random networks of each model")
    parser.add_argument("--export", action="store_true", help="write one of them as ONNX and pt2")
    arguments = parser.parse_args()
    titles = ["model", *KINDS, "largest is the model", "extracted = supernet", "counts equal"]
    titles += ["multiply-adds of the last: ours / torch's", "s to convert", "ms to extract"]
    titles += ["largest difference"] * arguments.export
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    with torch.no_grad():
        for name in arguments.models:
            print(row(name, arguments.size, arguments.architectures, arguments.export), flush=True)


if __name__ == "__main__":
    main()
