"""Tables: a task for CSV files."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_tasks(register: Register) -> None:
    """Register ``csv``."""
    register(
        "csv", "automl_nas_tabular.csv_task:csv_task", summary="classification or regression of the rows of a CSV file"
    )
