"""Checks before a run that the options of a space fit together: networks that cover them run on zeros."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any, final

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.space.architecture import Architecture, Scalar, Value
from automl_nas.space.covering import PAIR_OPTIONS, allowed, cover_options, cover_pairs
from automl_nas.space.example_inputs import example_input, run_on_example
from automl_nas.space.exclusions import describe_combination
from automl_nas.space.meta_pass import MetaPass
from automl_nas.space.modules.running import module_text, running_modules
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.streams import stream_seed

BATCH = 2
"""Number of inputs: with two, no module squeezes the batch dimension."""

REAL_INPUT = 3 * 64 * 64
"""Largest input for which networks compute; larger ones run on the meta device. The first pass on the meta device in a
process imports torch's compiler, which takes a second or more."""


def check_combinations(space: SearchSpace, most: int, path: str) -> None:
    """Run networks that have every option of each decision, then every pair of options of two decisions.

    They are those of `cover_options` and `cover_pairs`, up to ``most``; pairs of near decisions come first. Nothing is
    checked if none of the networks runs: then the cause is not a combination of options. Excluded combinations
    (`SearchSpace.excluded`) are left out.

    Args:
        space: a space that builds networks.
        most: the largest number of networks.
        path: of the space in the configuration.

    Raises:
        ConfigurationError: a network does not run; the message names the options that do not fit together.
    """
    rows = chain(cover_options(space.decisions, max(2, most)), cover_pairs(space.decisions))
    covering = allowed(rows, space.exclusions)
    architectures = [space.validate(architecture) for architecture in islice(covering, most)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(stream_seed(0, "combinations"))
        trial = _Trial(space)
        base = next(filter(trial.runs, architectures), None)
        if base is None:
            return
        for architecture in architectures:
            if not trial.runs(architecture):
                raise ConfigurationError(_describe(space, trial, base, architecture), path=path)


@final
class _Trial:
    """Runs networks of a space on zeros; of a `SupernetSpace`, paths of one supernet.

    Args:
        space: the space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._meta = math.prod(space.input_shape) > REAL_INPUT
        self._results: dict[Architecture, bool] = {}
        self._supernet: Any = None

    def runs(self, architecture: Architecture) -> bool:
        """Whether the network of an architecture runs."""
        canonical = self._space.canonical(architecture)  # the same function, so the same shapes
        if canonical not in self._results:
            self._results[canonical] = self._runs(canonical)
        return self._results[canonical]

    def error(self, architecture: Architecture) -> str:
        """Run a network that does not run, on real tensors; return the module that raises, and its message."""
        self._meta = False  # the messages of meta tensors leave out the shapes
        try:
            network = self._space.build(architecture).eval()
            with running_modules(network) as running:
                try:
                    run_on_example(network, self._input(network))
                except Exception as error:
                    return f"{module_text(running)} raises: {_first_line(error)}"
        except Exception as error:
            return f"building the network raises: {_first_line(error)}"
        return "the supernet does not run"

    def _runs(self, architecture: Architecture) -> bool:
        try:
            self._run(architecture)
        except Exception:
            return False
        return True

    def _run(self, architecture: Architecture) -> None:
        if not isinstance(self._space, SupernetSpace):
            network, selection = self._on_device(lambda: self._space.build(architecture)).eval(), []
        else:
            if self._supernet is None:
                self._supernet = self._on_device(self._space.build_supernet).eval()
            network, selection = self._supernet, [architecture]
        with MetaPass() if self._meta else contextlib.nullcontext():
            run_on_example(lambda inputs: network(inputs, *selection), self._input(network))

    def _input(self, network: nn.Module) -> Tensor:
        return example_input(network, self._space.input_shape, batch=BATCH, device="meta" if self._meta else "cpu")

    def _on_device(self, build: Callable[[], nn.Module]) -> nn.Module:
        if not self._meta:
            return build()
        try:
            with torch.device("meta"):
                return build()
        except Exception:  # the user's code may read values, which meta tensors do not have
            self._meta = False
            return build()


def _describe(space: SearchSpace, trial: _Trial, base: Architecture, failing: Architecture) -> str:
    """Return which options do not fit together, and the way out.

    Args:
        space: the space.
        trial: runs networks.
        base: an architecture whose network runs.
        failing: one whose network does not run.
    """
    for name in space.decisions:  # the fewest differences to the base with which the network still does not run
        changed = failing.replace({name: base[name]})
        if space.exclusions.allows(changed) and not trial.runs(changed):
            failing = changed
    blamed = [name for name in space.decisions if failing[name] != base[name]]
    partners = _partners(space, trial, failing, blamed)
    blamed = sorted([*blamed, *partners], key=list(space.decisions).index)
    combination = {name: _options(failing[name]) for name in blamed}
    options, error = describe_combination(combination), trial.error(failing)
    unchecked = "With check_networks: 0 nothing is checked, and such a candidate fails when it is evaluated"
    if len(blamed) == 1:
        return (
            f"the option {options} does not run: {error}; no other option of another decision changes that, so correct "
            f"this option, or remove it. {unchecked}"
        )
    excluded = {name: failing[name] for name in blamed}
    return (
        f"the options {options} do not fit together: {error}; choices that must agree are one decision if they have "
        "the same name (OneOf(..., name='width'), and elastic layers likewise); an elastic layer follows the width of "
        "its input; a choice inside an option of another one belongs to that option only; a combination that cannot be "
        f"avoided so can be excluded: ModuleSpace(..., exclude=[{excluded!r}]), or the property excluded of another "
        f"space. {unchecked}"
    )


def _options(value: Value) -> tuple[Scalar, ...]:
    return value if isinstance(value, tuple) else (value,)


def _partners(space: SearchSpace, trial: _Trial, failing: Architecture, blamed: Sequence[str]) -> list[str]:
    """Return the other decisions that have an option with which the network runs: their options take part, too."""
    return [
        name
        for name, decision in space.decisions.items()
        if name not in blamed
        and any(
            space.exclusions.allows(changed) and trial.runs(changed)
            for value in islice(decision.neighbours(failing[name]), PAIR_OPTIONS)
            for changed in [failing.replace({name: value})]
        )
    ]


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
