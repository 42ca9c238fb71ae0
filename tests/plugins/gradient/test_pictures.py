"""Pictures of derived cells."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import automl_nas_gradient
from automl_nas_gradient.space import PUBLISHED, DartsSpace
from automl_nas_gradient.space.picture import cell_pictures


def test_pictures_show_every_edge() -> None:
    """The SVG is XML, and names each state and operation once for each edge."""
    for genotype in PUBLISHED.values():
        for plan, text in zip((genotype.normal, genotype.reduce), cell_pictures(genotype).values(), strict=True):
            root = ElementTree.fromstring(text)
            labels = Counter(element.text for element in root.iter("{http://www.w3.org/2000/svg}text"))
            operations = Counter(name for node in plan.nodes for name, _ in node)
            assert all(labels[name] == count for name, count in operations.items())
            assert all(labels[f"node {node}"] == 1 for node in range(2, 2 + len(plan.nodes)))
            paths = list(root.iter("{http://www.w3.org/2000/svg}path"))
            assert len(paths) == operations.total() + len(plan.output)


def test_the_result_of_a_run_is_drawn(tmp_path: Path) -> None:
    space = DartsSpace()
    trial = SimpleNamespace(architecture=space.architecture(PUBLISHED["DARTS_V2"]))
    run = SimpleNamespace(directory=tmp_path, config={"space": {"name": "darts_cells"}})
    automl_nas_gradient.search_finished(run, SimpleNamespace(best=trial))  # type: ignore[arg-type]
    files = sorted(path.name for path in (tmp_path / "cells").iterdir())
    assert files == ["normal.svg", "reduce.svg"]
    other = SimpleNamespace(directory=tmp_path / "other", config={"space": {"name": "nasbench201"}})
    automl_nas_gradient.search_finished(other, SimpleNamespace(best=trial))  # type: ignore[arg-type]
    automl_nas_gradient.search_finished(run, SimpleNamespace(best=None))  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()
