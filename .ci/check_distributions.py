"""Check a wheel and an sdist: nothing of the source tree is missing, and the sdist builds the same wheel.

python .ci/check_distributions.py WHEEL SDIST WHEEL_BUILT_FROM_THE_SDIST
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def main(wheel_path: str, sdist_path: str, built_path: str) -> int:
    """Return 0 if everything is whole; else say what is missing, too much or different, and return 1."""
    wheel = contents(wheel_path)
    faults = [*wheel_faults(wheel), *classifier_faults(), *sdist_faults(sdist_path)]
    built = contents(built_path)
    for name in sorted(wheel.keys() | built.keys()):
        if wheel.get(name) != built.get(name):
            faults.append(f"differs in the wheel that is built from the sdist: {name}")
    print("\n".join(faults) or f"{Path(wheel_path).name}: {len(wheel)} files; {Path(sdist_path).name} builds the same")
    return bool(faults)


def contents(path: str) -> dict[str, bytes]:
    """Return name -> bytes of the files in a wheel."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def wheel_faults(wheel: dict[str, bytes]) -> Iterator[str]:
    """Every package of the tree is in the wheel, whole and typed, with its plugins, commands and licence."""
    expected: set[str] = set()
    for top in [ROOT / "automl_nas", *(file.parent for file in (ROOT / "plugins").glob("*/__init__.py"))]:
        files = [file for file in top.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        expected |= {file.relative_to(top.parent).as_posix() for file in files}
        expected.add(f"{top.name}/py.typed")
    names = {name for name in wheel if ".dist-info/" not in name}
    yield from (f"missing in the wheel: {name}" for name in sorted(expected - names))
    yield from (f"in the wheel, not in the source tree: {name}" for name in sorted(names - expected))
    info = next(text for name, text in wheel.items() if name.endswith(".dist-info/entry_points.txt"))
    announced = ConfigParser()
    announced.read_string(info.decode())
    if dict(announced["automl_nas"]) != PROJECT["entry-points"]["automl_nas"]:
        yield f"entry points of the wheel: {dict(announced['automl_nas'])}"
    if dict(announced["console_scripts"]) != PROJECT["scripts"]:
        yield f"scripts of the wheel: {dict(announced['console_scripts'])}"
    if not any(name.endswith("/LICENSE") for name in wheel):
        yield "no LICENSE in the wheel"


def sdist_faults(path: str) -> Iterator[str]:
    """The sdist has every file of the repository: sources, tests, documentation, examples, benchmarks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with tarfile.open(path) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    expected = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    yield from (f"missing in the sdist: {name}" for name in sorted(expected - names))
    yield from (f"in the sdist, not in the repository: {name}" for name in sorted(names - expected - {"PKG-INFO"}))


def classifier_faults() -> Iterator[str]:
    """The classifiers say what the other fields say. (The build refuses classifiers that do not exist.)"""
    prefix = "Programming Language :: Python :: 3."
    minors = sorted(int(item.removeprefix(prefix)) for item in PROJECT["classifiers"] if item.startswith(prefix))
    if PROJECT["requires-python"] != f">=3.{minors[0]}" or minors != list(range(minors[0], minors[-1] + 1)):
        yield f"requires-python is {PROJECT['requires-python']}, the classifiers name 3.{minors}"
    if "Typing :: Typed" not in PROJECT["classifiers"]:
        yield "no classifier 'Typing :: Typed', and all packages are typed"
    if any(item.startswith("License ::") for item in PROJECT["classifiers"]):
        yield "a classifier for the licence, which the field license states"
    alpha = PROJECT["version"].startswith("0.")
    if alpha != ("Development Status :: 3 - Alpha" in PROJECT["classifiers"]):
        yield f"the version is {PROJECT['version']}, and the development status does not fit"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
