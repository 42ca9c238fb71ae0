"""Python objects that the command line names by ``module:object``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError


def import_from_command_line(reference: str, option: str, *, trust: bool) -> Any:
    """Return the object that an option names. Modules are imported from the working directory, too.

    Args:
        reference: ``module:object``.
        option: for messages.
        trust: whether the user consents to the import, which executes the module's code.

    Raises:
        ConfigurationError: without consent, or there is no such object.
        PluginError: the module raises an error.
    """
    from automl_nas.plugin.error_text import one_line
    from automl_nas.plugin.references import import_reference

    if not trust:
        raise ConfigurationError(f"{option}: to import {reference} executes its code; to consent, add --trust")
    module, _, names = reference.partition(":")
    if not module or not all(name.isidentifier() for name in names.split(".")):
        raise ConfigurationError(f"{option}: '{reference}' must be written as module:object")
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        return import_reference(reference, path=option)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigurationError(f"{option}: cannot import {reference}: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{option}: importing {reference} failed: {one_line(error)}") from error
    finally:
        if added:
            sys.path.remove(folder)
