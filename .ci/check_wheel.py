"""Check that a wheel holds every package of the source tree, whole, and announces every plugin."""

from __future__ import annotations

import sys
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(path: str) -> int:
    """Return 0 if the wheel is whole; else say what is missing or too much, and return 1."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected: set[str] = set()
    for top in [ROOT / "automl_nas", *(file.parent for file in (ROOT / "plugins").glob("*/__init__.py"))]:
        files = [file for file in top.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        expected |= {file.relative_to(top.parent).as_posix() for file in files}
        expected.add(f"{top.name}/py.typed")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        info = next(name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
        announced = ConfigParser()
        announced.read_string(wheel.read(info).decode())
        licensed = any(name.endswith("/LICENSE") for name in wheel.namelist())
    faults = [f"missing: {name}" for name in sorted(expected - names)]
    faults += [f"not in the source tree: {name}" for name in sorted(names - expected)]
    if dict(announced["automl_nas"]) != project["entry-points"]["automl_nas"]:
        faults.append(f"entry points: {dict(announced['automl_nas'])}")
    if dict(announced["console_scripts"]) != project["scripts"]:
        faults.append(f"scripts: {dict(announced['console_scripts'])}")
    if not licensed:
        faults.append("no LICENSE")
    print("\n".join(faults) or f"{Path(path).name}: {len(names)} files, {len(announced['automl_nas'])} plugins")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
