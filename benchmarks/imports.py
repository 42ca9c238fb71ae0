"""Start-up times of ``import automl_nas`` and ``automl-nas --help``, compared with an empty interpreter and torch.

Each time is that of a new process. The processes are interleaved, so that other load on the machine affects them all.
Times are medians, and ratios are medians over rounds. All files are read once before, so that disk access is not timed.

The last line is the discovery of all installed plugins and their registration, after the import of the plugin manager:
the processes with and without it are compared round by round.

    python benchmarks/imports.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

GOAL = 0.3  # seconds
PLUGINS_GOAL = 0.05

# The entry point of the command, as the installed script calls it.
HELP = "import sys; sys.argv = ['automl-nas', '--help']; from automl_nas.cli import main; main()"
CASES = {
    "python -c pass": "pass",
    "import automl_nas": "import automl_nas",
    "automl-nas --help": HELP,
    "the plugin manager": "from automl_nas.plugin import PluginManager",
    "all plugins": "from automl_nas.plugin import PluginManager; PluginManager().load()",
    "import torch": "import torch",
}
OURS = ("import automl_nas", "automl-nas --help")


def seconds(code: str) -> float:
    """Run code in a new interpreter; return the seconds that the process took."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


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
    for round_number in range(settings.rounds):
        # Alternate the order, so that a drift affects the first case as much as the last.
        names = list(CASES) if round_number % 2 == 0 else list(reversed(CASES))
        for name in names:
            times[name].append(seconds(CASES[name]))
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

    pairs = zip(times["all plugins"], times["the plugin manager"], strict=True)
    plugins = statistics.median(whole - part for whole, part in pairs)
    verdict = "met" if plugins < PLUGINS_GOAL else "MISSED"
    print(f"discovery and registration of all plugins: {plugins:.3f} s, goal under {PLUGINS_GOAL}: {verdict}")


if __name__ == "__main__":
    main()
