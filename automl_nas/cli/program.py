"""The program ``automl-nas``. This module imports nothing heavy, so that signals are handled from the beginning."""

from __future__ import annotations

import sys
from typing import NoReturn

from automl_nas.run.interruption import interruptible


def main() -> NoReturn:
    """Run the program ``automl-nas``. SIGTERM ends it as Ctrl-C does, with the exit code 130."""
    try:
        with interruptible():
            from automl_nas.cli.app import cli

            cli.main(prog_name="automl-nas")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before the command began; run it again\n")
        sys.exit(130)
