"""The plugin's components are schemas that the framework can read."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import automl_nas_oneshot
from automl_nas.plugin.signature import Signature


@pytest.fixture
def registered() -> dict[str, str]:
    targets: dict[str, str] = {}

    def register(name: str, target: str, *, summary: str) -> None:
        assert summary
        targets[name] = target

    automl_nas_oneshot.register_strategies(register)
    automl_nas_oneshot.register_evaluators(register)
    return targets


def test_names_and_settings(registered: dict[str, str]) -> None:
    settings = {}
    for name, target in registered.items():
        module, _, attribute = target.partition(":")
        signature = Signature.of(getattr(import_module(module), attribute))
        defaults = signature.validate({"stages": ["search"]} if name == "rerank" else {}, name)
        settings[name] = set(defaults)
        assert all(setting.description for setting in signature.settings), "every setting is described"
    supernet_weights = {"weights", "recalibration_images", "split", "cache_megabytes", "together", "share_megabytes"}
    supernet_weights |= {"finetune_steps", "finetune_rate", "fidelity"}
    assert settings == {
        "single_path": {
            "train",
            "paths",
            "iterations_per_step",
            "split",
            "max_draws",
            "bins",
            "widen_epochs",
            "sandwich_paths",
            "distill",
            "teacher",
            "initial_weights",
            "ema",
            "swa_epochs",
        },
        "rerank": {"stages", "top_k", "by", "fidelity"},
        **dict.fromkeys(("supernet_weights", "inherited"), supernet_weights),
        "supernet_effects": supernet_weights - {"finetune_steps", "finetune_rate", "fidelity"}
        | {"networks", "own_weight"},
        "train": {
            "train",
            "data",
            "split",
            "report_epochs",
            "checkpoint_seconds",
            "iterations_per_chunk",
            "initial_weights",
            "together",
        },
    }


@pytest.mark.process
def test_importing_the_plugin_does_not_import_torch() -> None:
    code = "import sys, automl_nas_oneshot, automl_nas.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
