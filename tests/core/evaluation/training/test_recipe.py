"""What a `Recipe` accepts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.training.recipe import Recipe


def test_the_defaults_are_those_of_spos() -> None:
    recipe = Recipe()
    # Guo et al. 2020, section 4: SGD with momentum 0.9, weight decay 4e-5, linear to 0.
    assert (recipe.optimizer, recipe.momentum, recipe.nesterov) == ("sgd", 0.9, False)
    assert (recipe.weight_decay, recipe.decay, recipe.schedule) == (4e-5, "weights", "linear")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"epochs": 0}, "epochs"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"weight_decay": math.nan}, "weight_decay"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"clip_norm": math.nan}, "clip_norm"),
        ({"warmup_epochs": -1.0}, "warmup_epochs"),
        ({"epochs": 5, "warmup_epochs": 5.0}, "warmup_epochs"),
        ({"auxiliary": -0.1}, "auxiliary"),
        ({"auxiliary": math.nan}, "auxiliary"),
        ({"schedule": "cosine", "restart_epochs": 0}, "restart_epochs"),
        ({"schedule": "linear", "restart_epochs": 10}, "restart_epochs"),
        ({"schedule": "cosine", "restart_epochs": 10, "restart_factor": 0}, "restart_factor"),
        ({"schedule": "cosine", "restart_factor": 2}, "restart_factor"),
        ({"schedule": "step"}, "step_epochs"),
        ({"step_epochs": (10,)}, "step_epochs"),
        ({"schedule": "step", "step_epochs": (20, 10)}, "step_epochs"),
        ({"schedule": "step", "step_epochs": (60,)}, "step_epochs"),
        ({"schedule": "step", "step_epochs": (5,), "warmup_epochs": 5.0}, "step_epochs"),
        ({"schedule": "step", "step_epochs": (10,), "step_factor": 1.0}, "step_factor"),
        ({"accumulate": 0}, "accumulate"),
        ({"average": 1.0}, "average"),
        ({"average": math.nan}, "average"),
        ({"mixup": -0.1}, "mixup"),
        ({"cutmix": math.inf}, "cutmix"),
        ({"patience": 0}, "patience"),
    ],
)
def test_values_out_of_range_are_refused_at_once(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Recipe(**settings)
    assert caught.value.path == field


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [("optimizer", "sdg", "sgd"), ("schedule", "cosin", "cosine"), ("decay", "weight", "weights")],
)
def test_an_unknown_value_offers_the_nearest_name(field: str, wrong: str, right: str) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{right}'"):
        Recipe(**{field: wrong})  # type: ignore[arg-type]


def test_a_training_that_ends_inside_a_cycle_is_refused_with_possible_lengths() -> None:
    with pytest.raises(ConfigurationError, match="cycles end after 310 or 630") as caught:
        Recipe(epochs=600, schedule="cosine", restart_epochs=10, restart_factor=2)
    assert caught.value.path == "epochs"
    # 10 (2^6 - 1) = 630, the length of DSO-NAS's retraining.
    assert Recipe(epochs=630, schedule="cosine", restart_epochs=10, restart_factor=2).restart_epochs == 10
    assert Recipe(epochs=35, warmup_epochs=5, schedule="cosine", restart_epochs=10).warmup_epochs == 5


def test_components_refuse_settings_that_they_cannot_carry_out() -> None:
    Recipe(average=0.9).refuse("a component", "patience", "mixup")
    with pytest.raises(ConfigurationError, match="a component does not support this setting") as caught:
        Recipe(average=0.9, mixup=0.2).refuse("a component", "patience", "mixup")
    assert caught.value.path == "train.mixup"


RECIPES = [
    Recipe(epochs=40, warmup_epochs=3.0),
    Recipe(epochs=90, schedule="step", step_epochs=(30, 60, 80), warmup_epochs=2.5),
    Recipe(epochs=7, schedule="one_cycle", warmup_epochs=2),
    # 10 + 20 + 40 + 80 + 160 + 320 epochs, as DSO-NAS retrains; then with a warm-up, and cycles of equal length.
    Recipe(epochs=630, schedule="cosine", restart_epochs=10, restart_factor=2),
    Recipe(epochs=632, schedule="cosine", restart_epochs=10, restart_factor=2, warmup_epochs=2.0),
    Recipe(epochs=30, schedule="cosine", restart_epochs=10),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_shortened_recipe_is_valid_and_at_most_the_share(recipe: Recipe) -> None:
    earlier = 1
    for step in range(1, 1001):  # an invalid recipe raises when it is made
        shorter = recipe.shortened(step / 1000)
        assert 1 <= shorter.epochs <= max(1.0, recipe.epochs * step / 1000 + 1e-6)
        assert shorter.epochs >= earlier
        earlier = shorter.epochs
    assert recipe.shortened(1.0) == recipe


def test_warm_up_and_steps_keep_their_place() -> None:
    shorter = RECIPES[1].shortened(0.2)
    assert (shorter.epochs, shorter.warmup_epochs, shorter.step_epochs) == (18, 0.5, (6.0, 12.0, 16.0))


def test_cycles_become_shorter_then_fewer() -> None:
    # Six cycles of 1, 2, 4, 8, 16, 32 times the first one: 63 times; five cycles: 31 times.
    shorter = [RECIPES[3].shortened(epochs / 630) for epochs in (629, 315, 63, 62)]
    assert [(each.epochs, each.restart_epochs) for each in shorter] == [(567, 9), (315, 5), (63, 1), (62, 2)]
