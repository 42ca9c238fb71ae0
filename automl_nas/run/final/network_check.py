"""The checks of the final stage's initial weights and teacher, before a run."""

from __future__ import annotations

import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.task import Task
from automl_nas.evaluation.training.distillation import check_teacher
from automl_nas.evaluation.training.initial_weights import check_initial_weights
from automl_nas.run.configuration.final_section import OF_SPACE, FinalSettings
from automl_nas.run.final.teacher import PATH, check_classes, load_teacher
from automl_nas.space.covering import allowed, cover_options
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem


def check_final_networks(settings: FinalSettings, task: Task, space: SearchSpace, problem: Problem) -> None:
    """Load the initial weights into networks that cover the options; compare the teacher's outputs with a network's.

    Networks draw from the global generators.

    Raises:
        ConfigurationError: the weights do not fit a network, or networks cannot learn from the teacher.
    """
    initial, distill = settings.initial_weights, settings.distill
    if initial is None and distill is None:
        return
    if initial is not None:
        check_initial_weights(space, initial, "final.initial_weights")
    if distill is None:
        return
    own = distill.teacher in OF_SPACE
    if own and not problem.cost_models:
        raise ConfigurationError("the largest network is that of the largest cost, and the problem has none", path=PATH)
    inputs, _ = next(iter(task.batches(settings.split, 0, 0)))
    covering = list(allowed(cover_options(space.decisions, 2), space.exclusions))
    with torch.no_grad():
        outputs = space.build(covering[0]).eval()(inputs[:2])
        teacher = space.build(covering[-1]) if own else load_teacher(distill)
        try:
            taught = teacher.eval()(inputs[:2])
        except Exception as error:  # the teacher's code, for inputs of another shape
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigurationError(f"the teacher does not accept samples of the task: {reason}", path=PATH) from error
    check_teacher(outputs, taught, PATH)
    if not own:
        check_classes(distill, task.class_names)
