"""What a run has before its stages are resolved; handed to everything that resolves or checks a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl_nas.evaluation.task import Task
from automl_nas.run.configuration.components import Components
from automl_nas.space.space import SearchSpace


@dataclass(frozen=True)
class RunContext:
    """The parts of a run that its problem, its stages and its final stage are resolved with.

    Attributes:
        components: resolves and constructs components.
        seed: of the run.
        checked: whether the configuration has passed its checks before; those that build networks, compute extremes of
            costs or call checkers are then left out.
        task: what networks learn; None if the run has no task.
        space: the search space.
        final_space: the space of the delivered networks, with the same decisions; `space` unless configured.
        initial_weights: the default of every setting ``initial_weights`` of stages; None: fresh weights.
    """

    components: Components
    seed: int
    checked: bool
    task: Task | None
    space: SearchSpace
    final_space: SearchSpace
    initial_weights: Mapping[str, Any] | None = None

    def collaborators(self, *others: object) -> list[object]:
        """Return the space, the task if there is one, and the others: what constructors may ask for by type."""
        return [part for part in (self.space, self.task, *others) if part is not None]
