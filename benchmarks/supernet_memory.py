"""The memory of a supernet training step, compared with that of its largest networks trained alone.

SPOS trains one path in each iteration, so a step should need hardly more memory than one network (arXiv 1904.00420,
section 3). Each side runs in a process of its own, with the same batches, optimiser and memory format: the supernet
with random paths and with the candidate of that process in all blocks, and the networks that have one candidate in all
blocks. Printed is the peak of the resident set above that before the first module was made, and the ratio to the
largest network's. The goal is at most 1.1.

    python benchmarks/supernet_memory.py [--batch 32] [--size 224] [--iterations 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

CODES = range(4)


def peak() -> float:
    """Return the largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(side: str, batch: int, size: int, iterations: int) -> float:
    """Train in this process; return the MB that it took at most.

    Args:
        side: ``supernet``, or the code of the candidate in all blocks.
        batch: images in a batch.
        size: height and width of an image.
        iterations: number of iterations.
    """
    import torch
    from torch.nn import functional as F

    from automl_nas.evaluation import Recipe, Runtime, make_optimizer
    from automl_nas.streams import stream
    from automl_nas_spaces.shufflenet_v2 import from_codes, shufflenet_v2

    runtime = Runtime(device="cpu", threads=1)
    runtime.activate()
    space = shufflenet_v2(input_shape=(3, size, size))
    generator = torch.Generator().manual_seed(0)
    # Libraries allocate memory of their own at the first use of an operation.
    warm = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    warm(torch.randn(1, 3, 8, 8)).sum().backward()
    images = runtime.tensor(torch.randn(batch, 3, size, size, generator=generator))
    labels = torch.randint(1000, (batch,), generator=generator)
    before = peak()
    if side == "supernet":
        network = runtime.place(space.build_supernet())
        fixed = [(from_codes(space, [code] * 20),) for code in CODES]
        paths = [(space.sample(stream(0, "path", n)),) for n in range(iterations)] + fixed
    else:
        network = runtime.place(space.build(from_codes(space, [int(side)] * 20)))
        paths = [()] * iterations
    optimizer = make_optimizer(network, Recipe(learning_rate=0.01))
    for path in paths:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(images, *path), labels)
        loss.backward()
        optimizer.step()
    return peak() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = (options.batch, options.size, options.iterations)
    if options.side is not None:
        print(json.dumps(measure(options.side, *numbers)))
        return

    def run(side: str) -> float:
        arguments = [f"--{name}={value}" for name, value in zip(("batch", "size", "iterations"), numbers, strict=True)]
        command = [sys.executable, __file__, f"--side={side}", *arguments]
        return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    print(f"{options.size} x {options.size} images, batches of {options.batch}, 20 blocks, 1000 classes")
    print("| trained | peak, MB |\n|---|---|")
    alone = [run(str(code)) for code in CODES]
    for code, megabytes in zip(CODES, alone, strict=True):
        print(f"| candidate {code} in all blocks | {megabytes:.0f} |", flush=True)
    supernet = run("supernet")
    print(f"| supernet: random paths and those four | {supernet:.0f} |")
    print(f"\nratio to the largest network: {supernet / max(alone):.3f}")


if __name__ == "__main__":
    main()
