"""Optuna's storages: from what a user writes to one that works, or an error that says what is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.errors import ConfigurationError, UserError
from automl_nas_optuna.samplers import require_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PATIENCE = 30.0
"""Seconds that SQLite waits for another process to let go of the file."""

FORMS = (
    "write a URL such as sqlite:///trials.db, postgresql://user:${PASSWORD}@host/name, mysql://..., "
    "grpc://host:port, or the path of a journal file"
)


class StorageError(UserError):
    """An Optuna storage cannot be reached, or does not do what it is asked."""


def shown(storage: str) -> str:
    """Return how a storage is written in messages: without the password."""
    scheme, mark, rest = storage.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{user.partition(':')[0]}:***@{host}" if at and ":" in user else storage


def open_storage(storage: str, *, path: str = "storage") -> BaseStorage:
    """Return a storage that answers.

    ``$NAME`` and ``${NAME}`` are filled in from the environment: passwords need not stand in files.

    Args:
        storage: a URL of SQLAlchemy, ``grpc://host:port``, or the path of a journal file.
        path: the setting, for messages.

    Raises:
        ConfigurationError: it is malformed, a variable is not set, or a driver or Optuna itself is too old or missing.
        StorageError: it cannot be reached.
    """
    require_optuna()
    full = os.path.expandvars(storage).strip()
    if "$" in full:
        raise ConfigurationError(f"a variable in '{shown(storage)}' is not set in the environment", path=path)
    if not full:
        raise ConfigurationError(f"no storage is given; {FORMS}", path=path)
    scheme, mark, rest = full.partition("://")
    with reached(full), quiet():
        if not mark:
            return _journal(Path(full).expanduser())
        if scheme == "grpc":
            return _proxy(rest, path)
        return _database(full, path)


@contextmanager
def reached(storage: str) -> Iterator[None]:
    """Turn what drivers raise, when a storage does not answer, into `StorageError`."""
    try:
        yield
    except (ConfigurationError, StorageError):
        raise
    except Exception as error:
        if not _is_of_storage(error):
            raise
        cause = " ".join(str(getattr(error, "orig", None) or error.__cause__ or error).split())[:300]
        raise StorageError(f"the Optuna storage {shown(storage)} cannot be reached: {cause}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from telling that it made a study, and that journals, proxies and names of metrics are new."""
    import warnings

    from optuna.exceptions import ExperimentalWarning

    loggers = [logging.getLogger(f"optuna.{name}") for name in ("storages", "storages._rdb.storage", "study.study")]
    loggers += [logging.getLogger("optuna.storages.journal._storage"), logging.getLogger("optuna.storages._in_memory")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def close(storage: BaseStorage) -> None:
    """Let go of a storage's connections."""
    engine = getattr(storage, "engine", None)
    with suppress(Exception):
        storage.remove_session()
    with suppress(Exception):
        storage.close()  # type: ignore[attr-defined]  # a proxy has a channel, the others have nothing to close
    if engine is not None:
        engine.dispose()


def _is_of_storage(error: Exception) -> bool:
    from optuna.exceptions import StorageInternalError

    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return isinstance(error, OSError | StorageInternalError) or bool(
        names & {"sqlalchemy.SQLAlchemyError", "grpc.RpcError"}
    )


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; a journal is a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _proxy(address: str, path: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    host, _, port = address.rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"'grpc://{address}' needs a host and a port: grpc://host:13000", path=path)
    try:
        made = GrpcStorageProxy(host=host, port=int(port))
    except ImportError:
        raise ConfigurationError("a gRPC proxy needs grpcio and protobuf: pip install grpcio protobuf") from None
    made.wait_server_ready(timeout=10)
    return made


def _database(url: str, path: str) -> BaseStorage:
    import sqlalchemy
    from optuna.storages import RDBStorage

    try:
        kind = sqlalchemy.make_url(url).get_backend_name()
    except sqlalchemy.exc.ArgumentError:
        raise ConfigurationError(f"'{shown(url)}' is no storage; {FORMS}", path=path) from None
    settings: dict[str, Any] = {"pool_pre_ping": True}
    if kind == "sqlite":
        settings = {"connect_args": {"timeout": PATIENCE}}
    for attempt in (0, 1, 2):
        try:
            made = RDBStorage(url, engine_kwargs=settings)
            break
        except ImportError as error:
            raise ConfigurationError(
                f"'{shown(url)}' needs a driver that is not installed: {error}", path=path
            ) from None
        except sqlalchemy.exc.NoSuchModuleError:
            raise ConfigurationError(f"'{shown(url)}' is no storage; {FORMS}", path=path) from None
        except Exception:
            # Of two processes that make the same tables at once, one fails.
            if attempt == 2:
                raise
    if kind == "sqlite":
        _lock_from_the_start(made)
    return made


def _lock_from_the_start(storage: Any) -> None:
    """Make every transaction of SQLite take its lock before it reads.

    SQLite knows no ``SELECT ... FOR UPDATE``: of two workers that read the same waiting trial, both would claim it.
    """
    import sqlalchemy

    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # else the driver begins transactions by itself, after the first read

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # a connection that is open was opened the other way
    sqlalchemy.event.listen(storage.engine, "connect", connected)
    sqlalchemy.event.listen(storage.engine, "begin", begun)
