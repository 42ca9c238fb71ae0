"""Whole plugins that break their contract: each is a module that is written into a folder."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from automl_nas.testing import Contract, PluginContract
from broken_plugins.cases import Cases

FOLDER = Path(tempfile.gettempdir()) / f"contract-broken-plugins-{Path(__file__).stat().st_ino}"
GOOD = '''
"""A plugin."""
from automl_nas.plugin import hookimpl


@hookimpl
def register_cost_models(register):
    register("toy_cost", "automl_nas.testing.toys:ToyCost", summary="a toy")
'''


def contract(component: Any) -> type[Contract]:
    FOLDER.mkdir(exist_ok=True)
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))

    class Subject(PluginContract):
        @property
        def module(self) -> str:  # type: ignore[override]
            """Write the module, and return its name."""
            name = f"contract_plugin_{component.__name__}"
            first, _, second = component().partition(SECOND)
            for file, text in ((f"{name}.py", first), (f"{name}_parts.py", second)):
                if not (FOLDER / file).exists() or (FOLDER / file).read_text() != text:
                    (FOLDER / file).write_text(text)
                    importlib.invalidate_caches()
            return name

    return Subject


CASES = Cases("plugins", contract)


def with_component(lines: str, summary: str = "mine") -> str:
    """Return a plugin with a cost model of its own, in a second module that is not imported with the first."""
    start = GOOD.replace('"automl_nas.testing.toys:ToyCost"', '__name__ + "_parts:Mine"')
    return start.replace('"a toy"', repr(summary)) + SECOND + lines


SECOND = "\n# --- second module\n"
MINE = '''
from automl_nas.testing.toys import ToyCost
from automl_nas.space import SearchSpace


class Mine(ToyCost):
    """A cost.

    Args:
        space: the space.
        scale: a factor.
    """

    def __init__(self, space: SearchSpace, *, scale: float = 1.0) -> None:
        super().__init__(space)
'''


@CASES.keeps
def good() -> str:
    return with_component(MINE)


@CASES.breaks("it_loads_and_its_components_are_valid")
def registers_nothing() -> str:
    return '"""Nothing."""\n'


@CASES.breaks("it_loads_and_its_components_are_valid")
def wrong_reference() -> str:
    return GOOD.replace(":ToyCost", ":ToyCots")


@CASES.breaks("it_loads_and_its_components_are_valid")
def another_kind() -> str:
    return GOOD.replace(":ToyCost", ":ToySpace")


@CASES.breaks("it_can_be_loaded_twice")
def registers_once() -> str:
    return GOOD.replace(
        '    register("toy', '    if CALLS:\n        return\n    CALLS.append(1)\n    register("toy'
    ).replace("@hookimpl", "CALLS = []\n\n\n@hookimpl") + (
        "\n\n@hookimpl\ndef register_spaces(register):\n"
        '    register("toy", "automl_nas.testing.toys:ToySpace", summary="a toy")\n'
    )


@CASES.breaks("its_top_module_imports_nothing_heavy")
def imports_numpy() -> str:
    return "import numpy\n" + GOOD


@CASES.breaks("its_top_module_imports_nothing_heavy")
def imports_torch_indirectly() -> str:
    return "import automl_nas.testing.supernets\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def prints_at_import() -> str:
    return "print('welcome')\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def sets_a_variable_at_import() -> str:
    return "import os\nos.environ['OMP_NUM_THREADS'] = '7'\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def configures_logging_at_import() -> str:
    return "import logging\nlogging.basicConfig(level=logging.DEBUG)\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def seeds_at_import() -> str:
    return "import random\nrandom.seed(0)\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def ignores_warnings_at_import() -> str:
    return "import warnings\nwarnings.filterwarnings('ignore')\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def writes_a_file_at_import() -> str:
    return "from pathlib import Path\nPath('settings.json').write_text('{}')\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def writes_into_home_at_import() -> str:
    return "from pathlib import Path\n(Path.home() / '.mine').mkdir(exist_ok=True)\n" + GOOD


@CASES.breaks("its_import_has_no_effects")
def starts_a_thread_at_import() -> str:
    return "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n" + GOOD


@CASES.breaks("everything_is_described")
def no_summary() -> str:
    return with_component(MINE, summary="")


@CASES.breaks("everything_is_described")
def undescribed_setting() -> str:
    return with_component(MINE.replace("        scale: a factor.\n", ""))


@CASES.breaks("defaults_resolve_to_json_and_back")
def wrong_default() -> str:
    return with_component(MINE.replace("scale: float = 1.0", 'scale: float = "large"'))


@CASES.breaks("cost_models_have_a_metric")
def metric_with_spaces() -> str:
    return with_component(MINE.replace("    def __init__", '    metric = "my cost"\n\n    def __init__'))


@CASES.breaks("another_process_gives_the_same")
def names_by_hash() -> str:
    return GOOD.replace('"toy_cost"', 'f"toy_cost{hash(__name__) % 1000}"')


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("imports_of_components_have_no_effects")
def component_seeds_at_import() -> str:
    return with_component("import random\nrandom.seed(0)\n" + MINE)


@CASES.breaks("imports_of_components_have_no_effects")
def component_sets_threads_at_import() -> str:
    return with_component("import torch\ntorch.set_num_threads(1)\ntorch.manual_seed(0)\n" + MINE)


@CASES.breaks("it_loads_and_its_components_are_valid")
def misspelled_hook() -> str:
    return GOOD + (
        "\n\n@hookimpl\ndef register_space(register):\n"
        '    register("toy", "automl_nas.testing.toys:ToySpace", summary="a toy")\n'
    )
