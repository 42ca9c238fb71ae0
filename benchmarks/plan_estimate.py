"""The estimate of ``automl-nas plan`` against the run: prints both for each stage of each configuration.

    python benchmarks/plan_estimate.py examples/configs/quickstart.yaml examples/configs/dso_digits.yaml ...

With ``--clock cpu`` both are measured in CPU seconds of the process, which other processes on the machine change less
than the wall clock; use it with ``runtime: {threads: 1}`` and no workers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from automl_nas.run import plan_run, search
from automl_nas.run.estimate import estimate as estimate_module, stage_clock
from automl_nas.run.estimate.stage_clock import StageClock


class _CpuTime:
    """Stands for the module `time` with the CPU seconds of the process as its counter."""

    perf_counter = staticmethod(time.process_time)
    monotonic = staticmethod(time.process_time)


def main() -> None:
    """Measure each configuration and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    arguments = parser.parse_args()
    if arguments.clock == "cpu":
        for module in (stage_clock, estimate_module):
            module.time = _CpuTime  # type: ignore[attr-defined]
    counter = time.process_time if arguments.clock == "cpu" else time.perf_counter
    print(f"{'configuration':24} {'stage':12} {'estimate':>10} {'run':>10} {'ratio':>7}")
    for config in arguments.configs:
        estimate = plan_run(config)
        clock = StageClock()
        with tempfile.TemporaryDirectory() as folder:
            begun = counter()
            search(config, out=Path(folder) / "run", handlers=clock.handlers, progress="none")
            total = counter() - begun
        for predicted, stage in zip(estimate.stages, clock.stages, strict=True):
            _print(config.stem, predicted.name, predicted.seconds, stage.seconds)
        _print(config.stem, "total", estimate.seconds, total)


def _print(config: str, stage: str, estimate: float | None, actual: float) -> None:
    ratio = "" if estimate is None else f"{estimate / actual:7.2f}"
    print(f"{config:24} {stage:12} {estimate or 0:10.1f} {actual:10.1f} {ratio}", flush=True)


if __name__ == "__main__":
    main()
