"""Opening Optuna storages, and the errors of storages that cannot be used."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from automl_nas.errors import ConfigurationError, UserError
from automl_nas_optuna.optuna_version import require_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import URL

MIN_MASKED = 6
"""The length from which a password is masked wherever it occurs in the message of a driver."""

ANSWER_SECONDS = 60
"""Seconds after which a database server that does not answer counts as down."""

ROW_LOCK_SECONDS = 10
"""Seconds that a server waits for a row that another connection has locked; by default 50 in MySQL, and without end in
PostgreSQL. Optuna creates a trial in up to five attempts and does not print the errors of the first four."""

CONNECT_SECONDS = 10
"""Seconds after which a connection attempt fails."""

LOCK_SECONDS = 30.0
"""Seconds that SQLite waits for a lock that another process holds."""

FORMS = (
    "write a URL such as sqlite:///trials.db, postgresql://user:${PASSWORD}@host/name, mysql://..., "
    "grpc://host:port, or the path of a journal file"
)


class StorageError(UserError):
    """An Optuna storage cannot be reached, or an operation on it fails."""


_QUERY_PASSWORD = re.compile(r"[?&](?:password|passwd|pwd|sslpassword)=([^&#]*)", re.IGNORECASE)
_REFERENCE = re.compile(r"(\$\w+|\$\{\w+\})+")


def passwords_in(storage: str) -> list[str]:
    """Return the passwords in a URL, as they are written there: in the part before the host, and in the query."""
    scheme, mark, rest = storage.partition("://")
    if not mark or scheme.startswith("sqlite"):  # a path may contain the characters : and @
        return []
    user, at, _ = rest.rpartition("@")
    own = [user.partition(":")[2]] if at and ":" in user else []
    return [password for password in [*own, *_QUERY_PASSWORD.findall(storage)] if password]


def without_password(storage: str) -> str:
    """Return a storage as it is written in messages, with passwords replaced by asterisks."""
    return _masked(storage, passwords_in(storage))


def refuse_password(storage: str, *, path: str = "storage") -> None:
    """Check that a storage that a run records contains references to environment variables instead of passwords.

    Args:
        storage: as the user wrote it.
        path: the path of the setting, for error messages.

    Raises:
        ConfigurationError: the storage contains a password.
    """
    literal = [password for password in passwords_in(storage) if not _REFERENCE.fullmatch(password)]
    if literal:
        raise ConfigurationError(
            "the storage contains a password, which the files of the run and the study would then contain, too: write "
            f"${{PASSWORD}} in its place ({_masked(storage, literal, '${PASSWORD}')}), and set the environment "
            "variable PASSWORD (any name is possible)",
            path=path,
        )


def _masked(text: str, passwords: Iterable[str], mask: str = "***") -> str:
    for password in sorted(passwords, key=len, reverse=True):
        # Only where it is the password of a URL, or long enough not to be a part of an ordinary word.
        for before, after in ((":", "@"), ("=", "")) if len(password) < MIN_MASKED else (("", ""),):
            text = text.replace(f"{before}{password}{after}", f"{before}{mask}{after}")
    return text


def open_storage(storage: str, *, path: str = "storage") -> BaseStorage:
    """Open a storage and check that it responds.

    ``$NAME`` and ``${NAME}`` are replaced by environment variables, so that files need not contain passwords.

    Args:
        storage: a URL of SQLAlchemy, ``grpc://host:port``, or the path of a journal file.
        path: the path of the setting, for error messages.

    Raises:
        ConfigurationError: the storage is malformed, a variable is not set, a driver is not installed, or Optuna is
            too old.
        StorageError: the storage cannot be reached.
    """
    full = _expanded(storage, path)
    scheme, mark, rest = full.partition("://")
    with reached(full), quiet():
        if not mark:
            return _journal(_journal_file(full, path))
        if scheme == "grpc":
            return _proxy(rest, path)
        return _database(full, path)


def check_storage(storage: str, *, path: str = "storage") -> None:
    """Check what can be checked without reaching a storage: a run may train for hours before it needs it.

    Args:
        storage: see `open_storage`.
        path: the path of the setting, for error messages.

    Raises:
        ConfigurationError: see `open_storage`.
    """
    full = _expanded(storage, path)
    scheme, mark, rest = full.partition("://")
    if not mark:
        _journal_file(full, path)
    elif scheme == "grpc":
        _host_and_port(rest, path)
    else:
        import sqlalchemy

        with _database_errors(full, path):
            sqlalchemy.create_engine(sqlalchemy.make_url(full)).dispose()  # imports the driver, and does not connect


def missing_file(storage: str) -> Path | None:
    """Return the file of a storage if it does not exist; None: it exists, or the storage is another one than a file.

    `open_storage` would create it, and raises the same errors of a malformed storage.
    """
    path = "storage"
    full = _expanded(storage, path)
    scheme, mark, _ = full.partition("://")
    if not mark:
        file = _journal_file(full, path)
    elif scheme == "grpc":
        return None
    else:
        url = _parsed(full, path)
        database = url.database or ""
        if url.get_backend_name() != "sqlite" or database in ("", ":memory:") or database.startswith("file:"):
            return None
        file = Path(database)
    return None if file.exists() else file


def _expanded(storage: str, path: str) -> str:
    """Return a storage with the values of its environment variables."""
    require_optuna()
    full = os.path.expandvars(storage).strip()
    if "$" in full:
        raise ConfigurationError(
            f"a variable in '{without_password(storage)}' is not set in the environment", path=path
        )
    if not full:
        raise ConfigurationError(f"the storage must not be empty; {FORMS}", path=path)
    return full


@contextmanager
def reached(storage: str) -> Iterator[None]:
    """Convert the errors that drivers raise when a storage does not respond into `StorageError`."""
    try:
        yield
    except (ConfigurationError, StorageError):
        raise
    except Exception as error:
        if not _is_storage_error(error):
            raise
        cause = " ".join(str(getattr(error, "orig", None) or error.__cause__ or error).split())
        passwords = passwords_in(storage)
        cause = _masked(cause, [*passwords, *map(unquote, passwords)])[:300]
        raise StorageError(f"the Optuna storage {without_password(storage)} cannot be reached: {cause}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's messages on created studies, and its warnings that some of its features are experimental."""
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
    """Close the connections of a storage."""
    engine = getattr(storage, "engine", None)
    with suppress(Exception):
        storage.remove_session()
    with suppress(Exception):
        storage.close()  # type: ignore[attr-defined]  # only a proxy has a channel to close
    if engine is not None:
        engine.dispose()


def _is_storage_error(error: Exception) -> bool:
    from optuna.exceptions import StorageInternalError

    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return isinstance(error, OSError | StorageInternalError) or bool(
        names & {"sqlalchemy.SQLAlchemyError", "grpc.RpcError"}
    )


def _journal_file(text: str, path: str) -> Path:
    try:
        file = Path(text).expanduser()
    except RuntimeError as error:  # a user without a home folder
        raise ConfigurationError(f"the journal file {text} has no place: {error}", path=path) from None
    if file.is_dir():
        raise ConfigurationError(f"{file} is a directory; a journal must be a file", path=path)
    return file


def _journal(file: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(file)))


def _host_and_port(address: str, path: str) -> tuple[str, int]:
    host, _, port = address.rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(
            f"'{without_password(f'grpc://{address}')}' needs a host and a port: grpc://host:13000", path=path
        )
    return host, int(port)


def _proxy(address: str, path: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    host, port = _host_and_port(address, path)
    try:
        proxy = GrpcStorageProxy(host=host, port=port)
    except ImportError:
        raise ConfigurationError("a gRPC proxy needs grpcio and protobuf: pip install grpcio protobuf") from None
    proxy.wait_server_ready(timeout=10)
    return proxy


@contextmanager
def _database_errors(url: str, path: str) -> Iterator[None]:
    """Convert the errors of a URL that means no database, or one whose driver is not installed."""
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError):
        raise ConfigurationError(f"'{without_password(url)}' is not a storage; {FORMS}", path=path) from None
    except ImportError as error:
        raise ConfigurationError(
            f"'{without_password(url)}' needs a driver that is not installed: {error}", path=path
        ) from None


def _parsed(url: str, path: str) -> URL:
    """Return a URL in its parts."""
    import sqlalchemy

    with _database_errors(url, path):
        return sqlalchemy.make_url(url)


def _database(url: str, path: str) -> BaseStorage:
    from optuna.storages import RDBStorage

    parsed = _parsed(url, path)
    kind = parsed.get_backend_name()
    settings: dict[str, Any] = {"pool_pre_ping": True}
    if kind == "sqlite":
        settings = {"connect_args": {"timeout": LOCK_SECONDS}}
    elif limits := time_limits(parsed.drivername, parsed.query):
        settings["connect_args"] = limits
    for attempt in (0, 1, 2):
        try:
            with _database_errors(url, path):
                database = RDBStorage(url, engine_kwargs=settings)
            break
        except ConfigurationError:
            raise
        except Exception:
            # If two processes create the tables at the same time, one of them fails.
            if attempt == 2:
                raise
    if kind == "sqlite":
        _lock_at_begin(database)
    return database


def time_limits(driver: str, query: Iterable[str]) -> dict[str, int | str]:
    """Return arguments of a driver that end the wait for a silent server or a lock; their defaults are up to hours.

    Args:
        driver: the first part of the URL.
        query: the names of the arguments that the URL contains; they are the user's choice.
    """
    limits: dict[str, int | str] = {"connect_timeout": CONNECT_SECONDS}
    if driver in ("mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql", "mysql+mysqldb", "mariadb+mysqldb"):
        limits |= {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
        limits["init_command"] = f"SET SESSION innodb_lock_wait_timeout = {ROW_LOCK_SECONDS}"
    elif driver in ("postgresql", "postgresql+psycopg2", "postgresql+psycopg"):
        # libpq has no limit for an answer, but notices a machine that is gone.
        limits |= {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        limits["options"] = f"-c lock_timeout={ROW_LOCK_SECONDS}s"
    else:
        return {}
    return {name: seconds for name, seconds in limits.items() if name not in query}


def _lock_at_begin(storage: Any) -> None:
    """Make every transaction of SQLite take its lock before it reads.

    SQLite does not have ``SELECT ... FOR UPDATE``. Without the lock, two workers that read the same waiting trial would
    both claim it.
    """
    import sqlalchemy

    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # otherwise the driver begins a transaction itself, after the first read

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # close connections that were opened without these listeners
    sqlalchemy.event.listen(storage.engine, "connect", connected)
    sqlalchemy.event.listen(storage.engine, "begin", begun)
