"""Servers that run during a test: PostgreSQL, and Optuna's gRPC proxy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from plugins.optuna.worker_processes import wait_until


def free_port() -> int:
    """Return an unused port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def binary(name: str) -> str | None:
    """Return the path of a program of PostgreSQL; Debian does not install all of them in PATH."""
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(candidates[-1]) if candidates else shutil.which(name)


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run a server in a folder; yield the URL of its database. Skip the test if PostgreSQL is not installed."""
    pytest.importorskip("psycopg2", reason="no driver for PostgreSQL (psycopg2) is installed")
    initdb, control = binary("initdb"), binary("pg_ctl")
    if initdb is None or control is None:
        pytest.skip("PostgreSQL is not installed")
    prefix: list[str] = []
    if os.geteuid() == 0:
        # The server refuses to run as root.
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL cannot be run by root, and runuser is not installed")
        prefix = ["runuser", "-u", "postgres", "--"]
        for parent in (folder, *folder.parents[:3]):
            if str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o055)
        shutil.chown(folder, "postgres")
    port = free_port()
    data = str(folder / "data")

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    run(initdb, "-D", data, "-A", "trust", "-U", "tester", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(control, "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql+psycopg2://tester@127.0.0.1:{port}/postgres"
    finally:
        run(control, "-D", data, "-m", "immediate", "stop")


PROXY = """
import sys, warnings
warnings.simplefilter("ignore")
from optuna.storages import run_grpc_proxy_server
from automl_nas_optuna.storages import open_storage
run_grpc_proxy_server(open_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@contextmanager
def grpc_proxy(storage: str, port: int | None = None) -> Iterator[str]:
    """Run Optuna's gRPC proxy of a storage; yield its address when it listens. Skip the test if gRPC is not installed.

    Args:
        storage: a URL of SQLAlchemy.
        port: the port of an earlier server; None: any unused port.
    """
    pytest.importorskip("grpc", reason="gRPC (grpcio) is not installed")
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    port = free_port() if port is None else port
    server = subprocess.Popen([sys.executable, "-c", PROXY, storage, str(port)], stderr=subprocess.DEVNULL)

    def listens() -> bool:
        assert server.poll() is None, "the proxy ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10.0):
            return True
        return False

    try:
        # Clients wait 10 s only, which starting a process may exceed on a busy machine.
        wait_until(listens)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
