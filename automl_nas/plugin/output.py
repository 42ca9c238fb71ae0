"""What plugins print while they are imported goes to stderr: stdout holds the results of commands, such as JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Print on stderr what the code within prints on stdout."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
