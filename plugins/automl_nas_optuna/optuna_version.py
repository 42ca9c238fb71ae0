"""The check of the installed version of Optuna."""

from __future__ import annotations

from automl_nas.errors import ConfigurationError


def require_optuna() -> None:
    """Check that Optuna 5 or later is installed: since version 5, a trial stores its constraints itself.

    Raises:
        ConfigurationError: the installed version is older.
    """
    import optuna

    if int(optuna.__version__.partition(".")[0]) < 5:
        raise ConfigurationError(
            f"Optuna {optuna.__version__} is too old: this plugin needs trials that store constraints, which Optuna "
            "has since version 5; pip install 'optuna>=5'"
        )
