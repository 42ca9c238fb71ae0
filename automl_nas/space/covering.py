"""Architectures that cover the options of a space: a few networks to describe it or to try it by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.exclusions import Exclusions

PAIR_OPTIONS = 7
"""The number of options of a decision that `cover_pairs` combines; of more options, as many evenly spaced ones."""


def cover_options(decisions: Mapping[str, Decision], most: int) -> Iterator[Architecture]:
    """Yield architectures that have every option of each decision: all first options, all second ones, ..., all last.

    A decision with fewer options keeps its last one. A `Subset` has its smallest and its largest value.

    Args:
        decisions: of the space; at least one.
        most: the largest number of architectures, at least 2. Of a decision with more options, as many evenly spaced
            ones are covered, among them the first and the last.

    Excluded combinations are not avoided; see `allowed`.
    """
    values = {name: _some_values(decision, most) for name, decision in decisions.items()}
    for position in range(max(map(len, values.values()))):
        yield Architecture({name: some[min(position, len(some) - 1)] for name, some in values.items()})


def cover_pairs(decisions: Mapping[str, Decision]) -> Iterator[Architecture]:
    """Yield architectures in which each two options of each two decisions occur together, up to `PAIR_OPTIONS` options.

    The architectures are the rows of orthogonal arrays of strength 2 (Bush 1952): p^2 rows of p + 1 columns, where p is
    the smallest prime that is at least the number of options, such as 25 rows for 4 or 5 options. Two decisions with
    different columns have each pair of their options in some row. In the first array decisions use the columns in
    turn, so that all pairs of decisions at most p positions apart are covered first; in the next one p + 1 neighbouring
    decisions have the same column, and so on: 2 arrays cover (p + 1)^2 decisions.

    Args:
        decisions: of the space; at least one.
    """
    values = {name: _some_values(decision, PAIR_OPTIONS) for name, decision in decisions.items()}
    prime = next(number for number in (2, 3, 5, 7) if number >= max(map(len, values.values())))
    apart = 1
    while apart < len(values) or apart == 1:
        for first in range(prime):
            for second in range(prime):
                row = [(first + column * second) % prime for column in range(prime)] + [second]
                columns = [position // apart % len(row) for position in range(len(values))]
                yield Architecture(
                    {
                        name: some[row[column] % len(some)]
                        for column, (name, some) in zip(columns, values.items(), strict=True)
                    }
                )
        apart *= prime + 1


def allowed(architectures: Iterable[Architecture], exclusions: Exclusions) -> Iterator[Architecture]:
    """Yield each distinct architecture that the exclusions of its space allow; of an excluded one, one near it."""
    near = architectures if not exclusions else map(exclusions.nearest, architectures)
    return iter(dict.fromkeys(architecture for architecture in near if architecture is not None))


def _some_values(decision: Decision, most: int) -> Sequence[Value]:
    options = decision.options
    if isinstance(decision, Subset):
        return [tuple(options[: decision.min]), tuple(options[: decision.largest])]
    if len(options) <= most:
        return options
    last = len(options) - 1
    return [options[round(last * place / (most - 1))] for place in range(most)]
