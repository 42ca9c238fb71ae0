"""From ``automl-nas new-plugin`` to green tests: the time of each kind, beside a distribution with one empty test.

In a new environment that sees this one's packages, each kind of plugin is written, installed, listed and tested with
the commands that `new-plugin` prints, and then checked by mypy (strict) and `automl-nas check`. The other side is a
distribution by hand, with one function and one test that imports torch: what the installation and the start of pytest
cost without a contract. Both sides are done in turns, and each command is timed with its processor time.

    python benchmarks/scaffold.py [--kind strategy ...] [--isolated]

With ``--isolated`` pip installs as users do, ``pip install -e ".[test]"``: it downloads the build backend into an
environment of its own. Otherwise it uses the backend that is here, and needs no network. Set ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import argparse
import os
import resource
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from automl_nas.cli.scaffold import KINDS

GOAL = 60.0
"""Seconds from `new-plugin` to green tests, for each kind."""

PLAIN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"

[project]
name = "plain-distribution"
version = "0.1.0"
optional-dependencies = { test = ["mypy>=1.13", "pytest>=8.2"] }

[tool.hatch.build]
dev-mode-dirs = ["."]

[tool.hatch.build.targets.wheel]
packages = ["plain_distribution"]
""",
    "plain_distribution/__init__.py": "def one() -> int:\n    return 1\n",
    "tests/test_plain.py": "import torch\nfrom plain_distribution import one\n\n\n"
    "def test_one() -> None:\n    assert int(torch.tensor(one())) == 1\n",
}
"""The other side."""


@dataclass(frozen=True)
class Cost:
    """Seconds of commands, and the processor time of them and their children."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.processor + other.processor)

    def __str__(self) -> str:
        return f"{self.wall:.1f} ({self.processor:.1f})"


def used() -> float:
    """Return the processor time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Environment:
    """A new virtual environment, without packages of its own, that sees those of this interpreter."""

    def __init__(self, folder: Path, *, isolated: bool) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        self.isolated = isolated
        # `addsitedir` also reads the .pth files there, such as the one of an editable installation.
        folders = dict.fromkeys([sysconfig.get_path("purelib"), *site.getsitepackages()])
        lines = [f"import site; site.addsitedir({folder!r})\n" for folder in folders]
        script = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run([self.python, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
        Path(own, "packages_of_the_framework.pth").write_text("".join(lines), encoding="utf-8")

    def install(self, folder: Path) -> Cost:
        """Install a distribution, editable, with its tests' requirements."""
        options = [] if self.isolated else ["--no-deps", "--no-build-isolation"]
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "-q", *options]
        return self.run([*command, "-e", ".[test]"], folder)

    def module(self, *arguments: str, folder: Path) -> Cost:
        """Run a module of Python."""
        return self.run([str(self.python), "-m", *arguments], folder)

    def automl_nas(self, *arguments: str, folder: Path) -> Cost:
        """Run a command of automl-nas."""
        return self.run([str(self.python), "-c", "from automl_nas.cli import main; main()", *arguments], folder)

    def run(self, command: Sequence[str], folder: Path) -> Cost:
        """Run a command, which must succeed."""
        variables = {**os.environ, "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]])}
        begun, before = time.perf_counter(), used()
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
        cost = Cost(time.perf_counter() - begun, used() - before)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\nfailed:\n{done.stdout}{done.stderr}")
        return cost


def plain(environment: Environment, folder: Path) -> Cost:
    """Write, install and test the distribution of the other side."""
    for name, text in PLAIN.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return environment.install(folder) + environment.module("pytest", "-q", folder=folder)


def scaffold(environment: Environment, kind: str, folder: Path) -> Mapping[str, Cost]:
    """Write, install, list and test a plugin, then check it in the two other ways."""
    name = f"automl-nas-try-{kind}"
    plugin = folder / name
    return {
        "new-plugin": environment.automl_nas("new-plugin", name, "--kind", kind, folder=folder),
        "pip install": environment.install(plugin),
        "plugins": environment.automl_nas("plugins", f"try_{kind.replace('-', '_')}", folder=plugin),
        "pytest": environment.module("pytest", "-q", folder=plugin),
        "mypy": environment.module("mypy", folder=plugin),
        "check": environment.automl_nas("check", name, folder=plugin),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="one kind; default: all")
    parser.add_argument("--isolated", action="store_true", help="install as users do; needs the package index")
    settings = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = Environment(folder / "environment", isolated=settings.isolated)
        plain(environment, folder / "warm-up")  # reads the files of pip, pytest and torch once
        print("Seconds of the wall clock, and in parentheses of the processor.\n")
        steps = ("new-plugin", "pip install", "plugins", "pytest")
        print("| kind | " + " | ".join(steps) + " | to green tests | without a contract | ratio | mypy | check |")
        print("|---" * (len(steps) + 6) + "|")
        slowest = 0.0
        for kind in settings.kind or KINDS:
            other = plain(environment, folder / f"plain-{kind}")
            costs = scaffold(environment, kind, folder)
            green = sum((costs[step] for step in steps), Cost())
            slowest = max(slowest, green.wall)
            cells = [*(str(costs[step]) for step in steps), f"**{green}**", str(other)]
            cells += [f"{green.processor / other.processor:.1f}", str(costs["mypy"]), str(costs["check"])]
            print(f"| `{kind}` | " + " | ".join(cells) + " |", flush=True)
    print(f"\nslowest kind: {slowest:.1f} s, goal under {GOAL:.0f}: {'met' if slowest < GOAL else 'MISSED'}")


if __name__ == "__main__":
    main()
