"""Decisions without networks."""

from __future__ import annotations

import pytest

from automl_nas.errors import SpaceError
from automl_nas.space import Choice, DecisionSpace, Ordinal, Subset
from automl_nas.streams import stream


def test_it_has_the_given_decisions() -> None:
    decisions = {"kind": Choice(("a", "b")), "size": Ordinal((1, 2, 4)), "edges": Subset((0, 1, 2))}
    space = DecisionSpace(decisions)
    assert list(space.decisions.items()) == list(decisions.items())
    assert space.size == 2 * 3 * 8
    assert space.input_shape == ()
    drawn = space.sample(stream(0, "decisions"))
    assert space.validate(dict(drawn)) == drawn == space.canonical(drawn)
    # The mapping is copied: a space does not change under a search.
    decisions.pop("kind")
    assert "kind" in space.decisions


def test_build_raises_an_error() -> None:
    class Table(DecisionSpace):
        pass

    space = Table({"kind": Choice(("a", "b"))})
    with pytest.raises(SpaceError, match="Table has decisions but no networks"):
        space.build(space.sample(stream(0, "decisions")))
