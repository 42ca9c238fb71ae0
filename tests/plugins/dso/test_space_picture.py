"""Pictures of blocks: well-formed, every live edge once, nothing dead, boxes that do not touch."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import torch

from automl_nas.space import Architecture, Weighted
from automl_nas.streams import stream
from automl_nas_dso.picture import block_picture, pictures
from automl_nas_dso.picture.layered_layout import PORT, arrange
from automl_nas_dso.space import DsoSpace

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def space() -> DsoSpace:
    return DsoSpace(width=2, blocks=(1, 1), input_shape=(1, 4, 4), gate_reductions=True)


def sparse(space: DsoSpace, share: float, number: int = 0) -> Architecture:
    rng = stream(number, "picture")
    return Architecture(
        {
            name: tuple(option for option in decision.options if rng.random() < share) or decision.options[:minimum]
            for name, decision in space.decisions.items()
            for minimum in (int("reduction" in name),)
        }
    )


def weighted(architecture: Architecture) -> dict[str, Weighted]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: Weighted(value, torch.randn(len(value), generator=generator))
        for name, value in architecture.items()
        if isinstance(value, tuple)
    }


def drawn(svg: str) -> dict[tuple[str, str], ET.Element]:
    paths_by_edge = {}
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if path.get("class") == "edge":
            key = path.attrib["data-source"], path.attrib["data-target"]
            assert key not in paths_by_edge
            paths_by_edge[key] = path
    return paths_by_edge


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.4, 1.0])
def test_every_live_edge_once_with_its_lambda(space: DsoSpace, share: float) -> None:
    architecture = sparse(space, share)
    selection: dict[str, Any] = weighted(architecture)
    svgs = pictures(space, selection)
    assert list(svgs) == ["block", "reduction"]
    for name, block in (("block", space.blocks[0]), ("reduction", space.blocks[1])):
        live = block.live(architecture)
        edges = drawn(svgs[name])
        assert set(edges) == {(source, target) for target, sources in live.items() for source in sources}
        root = ET.fromstring(svgs[name])
        boxes = {group.get("data-name") for group in root.iter(f"{SVG}g") if group.get("class") == "node"}
        assert boxes == {"input", "output", *live}
        texts = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "lambda"]
        gated = {key: path for key, path in edges.items() if key[1] in block.decisions}
        assert len(texts) == len(gated)
        for (source, target), path in gated.items():
            lambdas = selection[block.decisions[target]]
            value = lambdas.tensor[lambdas.options.index(source)].item()
            assert float(path.attrib["data-lambda"]) == pytest.approx(value, rel=1e-5)
            assert ("stroke-dasharray" in path.attrib) == (value < 0)
        assert (">shortcut<" in svgs[name]) == (name == "block")


def test_a_wider_line_is_a_larger_lambda(space: DsoSpace) -> None:
    block = space.blocks[0]
    edges = drawn(block_picture(block, weighted(sparse(space, 0.3)), title="<&>"))
    by_size = sorted(edges.values(), key=lambda path: abs(float(path.attrib["data-lambda"])))
    widths = [float(path.attrib["stroke-width"]) for path in by_size]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_an_architecture_has_no_lambda(space: DsoSpace) -> None:
    svg = pictures(space, sparse(space, 0.4))["block"]
    assert drawn(svg)
    assert "data-lambda" not in svg
    assert not [text for text in ET.fromstring(svg).iter(f"{SVG}text") if text.get("class") == "lambda"]


def test_one_picture_for_each_block_that_may_differ() -> None:
    full = DsoSpace(width=2, blocks=(1, 2), input_shape=(1, 4, 4), sharing="full", levels=1)
    svgs = pictures(full, full.sample(stream(0, "full")))
    assert list(svgs) == ["stage1.block1", "stage2.block1", "stage2.block2"]
    assert all(f">{name}</text>" in svg for name, svg in svgs.items())


@pytest.mark.parametrize("number", range(4))
def test_boxes_and_lanes_do_not_overlap(space: DsoSpace, number: int) -> None:
    """Neither do the numbers beside two edges into the same box; everything lies inside of the picture."""
    block = space.blocks[0]
    live = block.live(sparse(space, 0.25, number))
    drawing = arrange(block, live)
    for items in drawing.columns:
        for upper, lower in itertools.pairwise(items):
            gap = drawing.middle[lower] - drawing.middle[upper]
            assert gap > (drawing.tall[upper] + drawing.tall[lower]) / 2
        for item in items:
            assert drawing.middle[item] - drawing.tall[item] / 2 >= 0
            assert drawing.middle[item] + drawing.tall[item] / 2 <= drawing.height + 1e-9
    for target, sources in live.items():
        ports = sorted(drawing.ports(target).values())
        assert len(ports) == len(sources)
        assert all(b - a == pytest.approx(PORT) for a, b in itertools.pairwise(ports))
        half = drawing.tall[drawing.box(target)] / 2
        assert all(abs(port - drawing.middle[drawing.box(target)]) < half for port in ports)
