"""Real servers on loopback ports: MLflow and PostgreSQL. They are stopped at the end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

DATABASE_PASSWORD = "only-for-the-database"  # noqa: S105  # of a test's server
START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mlflow_server(
    backend: str, log: Path, *options: str, env: Mapping[str, str] | None = None
) -> AbstractContextManager[str]:
    """Run an MLflow server on a store. Yield its address."""
    settings = {
        "MLFLOW_BACKEND_STORE_URI": backend,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return served_by(["server", *options], log, {**os.environ, **settings, **(env or {})})


@contextmanager
def served_by(
    command: Sequence[str], log: Path, env: Mapping[str, str], health: str = "health"
) -> Iterator[str]:
    """Run a server by an `mlflow` command in the folder of `log`. Yield its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, *where],
            env=env,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        _wait_for_answer(f"{address}/{health}", server, log)
        yield address
    finally:
        # MLflow would leave its workers behind; there is nothing to save.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for_answer(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"no answer within {START_SECONDS} s: {log.read_text()}")


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None if it is not installed."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    if newest := max(folders, key=lambda one: float(one.parent.name), default=None):
        return newest
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def postgres(programs: Path, *databases: str) -> Iterator[str]:
    """Run PostgreSQL with empty databases. Yield their URL without a database's name."""
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    port = free_port()
    try:
        (folder / "password").write_text(DATABASE_PASSWORD)
        for path in (folder, folder / "password"):
            if user is not None:
                shutil.chown(path, user)
        initdb: list[str | Path] = [programs / "initdb", "-D", folder / "data", "-U", "mlflow"]
        initdb += ["--pwfile", folder / "password", "--auth=scram-sha-256"]
        initdb += ["--no-locale", "--encoding=UTF8", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        command: list[str | Path] = [programs / "postgres", "-D", folder / "data"]
        for setting in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"):
            command += ["-c", setting]
        command += ["-c", f"port={port}"]
        server = subprocess.Popen(
            command, user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _create(port, databases)
            yield f"postgresql+psycopg2://mlflow:{DATABASE_PASSWORD}@127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGQUIT)  # without waiting for clients
            server.wait()
    finally:
        shutil.rmtree(folder)


def _create(port: int, databases: tuple[str, ...]) -> None:
    import psycopg2

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            url = f"postgresql://mlflow:{DATABASE_PASSWORD}@127.0.0.1:{port}/postgres"
            connection = psycopg2.connect(url)
            break
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    connection.autocommit = True
    for name in databases:
        connection.cursor().execute(f"create database {name}")
    connection.close()
