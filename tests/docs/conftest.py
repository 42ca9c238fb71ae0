"""What several tests of the documentation use."""

from __future__ import annotations

import pytest
from docs.pages import QUICKSTART

from automl_nas.cli.overrides import Configuration
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan


@pytest.fixture(scope="session")
def quickstart() -> Plan:
    """The quickstart as it is, resolved."""
    return make_plan(Configuration.read(QUICKSTART).value, complete_manager().registry)
