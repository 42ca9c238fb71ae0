"""Start-up times of ``import automl_nas`` and ``automl-nas --help``, compared with an empty interpreter and torch.

Each time is that of a new process. The processes are interleaved, so that other load on the machine affects them all.
Times are medians, and ratios are medians over rounds. All files are read once before, so that disk access is not timed.

The last lines are the discovery and registration of all installed plugins, after the import of the plugin manager,
and the same with that import, less the time of the libraries that it needs (pluggy, click, importlib.metadata and its
reading of all entry points). The processes with and without it are compared round by round, in processor time, which
depends less on other load.

    python benchmarks/imports.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

GOAL = 0.3  # seconds
PLUGINS_GOAL = 0.05

# The entry point of the command, as the installed script calls it.
HELP = "import sys; sys.argv = ['automl-nas', '--help']; from automl_nas.cli import main; main()"
LIBRARIES = """
import dataclasses, inspect, logging, click, pluggy, importlib.metadata
for entry_point in importlib.metadata.entry_points(group="automl_nas"):
    entry_point.dist.name
"""
CASES = {
    "python -c pass": "pass",
    "import automl_nas": "import automl_nas",
    "automl-nas --help": HELP,
    "libraries of the plugin manager": LIBRARIES,
    "the plugin manager": "from automl_nas.plugin import PluginManager",
    "all plugins": "from automl_nas.plugin import PluginManager; PluginManager().load()",
    "import torch": "import torch",
}
OURS = ("import automl_nas", "automl-nas --help")


def processor_seconds() -> float:
    """Return the processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(code: str) -> tuple[float, float]:
    """Run code in a new interpreter; return the seconds that the process took, and its processor time."""
    begun, before = time.perf_counter(), processor_seconds()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun, processor_seconds() - before


def imports_torch(code: str) -> bool:
    """Return whether the code imports torch."""
    watched = f"import atexit, sys\natexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n{code}"
    done = subprocess.run([sys.executable, "-c", watched], check=True, capture_output=True, text=True)
    return done.stderr.split()[-1] == "True"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    settings = parser.parse_args()
    for code in CASES.values():
        seconds(code)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    used: dict[str, list[float]] = {name: [] for name in CASES}
    for round_number in range(settings.rounds):
        # Alternate the order, so that a drift affects the first case as much as the last.
        names = list(CASES) if round_number % 2 == 0 else list(reversed(CASES))
        for name in names:
            took, processor = seconds(CASES[name])
            times[name].append(took)
            used[name].append(processor)
    print("| | median, s | least, s | / python -c pass | / import torch | torch imported |")
    print("|---|---|---|---|---|---|")
    for name, code in CASES.items():
        ratios = [
            statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))
            for other in ("python -c pass", "import torch")
        ]
        print(
            f"| {name} | {statistics.median(times[name]):.3f} | {min(times[name]):.3f} | {ratios[0]:.2f} | "
            f"{ratios[1]:.3f} "
            f"| {'yes' if imports_torch(code) else 'no'} |"
        )
    for name in OURS:
        median = statistics.median(times[name])
        print(f"{name}: {median:.3f} s, goal under {GOAL}: {'met' if median < GOAL else 'MISSED'}")

    for text, part in (
        ("discovery and registration of all plugins", "the plugin manager"),
        ("the same with the import of the plugin manager, less its libraries", "libraries of the plugin manager"),
    ):
        pairs = zip(used["all plugins"], used[part], strict=True)
        plugins = statistics.median(whole - part for whole, part in pairs)
        verdict = "met" if plugins < PLUGINS_GOAL else "MISSED"
        print(f"{text}: {plugins:.3f} s of processor time, goal under {PLUGINS_GOAL}: {verdict}")


if __name__ == "__main__":
    main()
