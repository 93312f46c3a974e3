"""Real servers on loopback ports, stopped at the end: MLflow's, and PostgreSQL."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

DATABASE_PASSWORD = "only-for-the-database"  # noqa: S105  # of a server that lives as long as a test
START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(
    backend: str, log: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The address of an MLflow server on that store; its output goes to `log`."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    settings = {
        "MLFLOW_BACKEND_STORE_URI": backend,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **(env or {}),
    }
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **settings}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, *options],
            env=environment,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(server, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):  # the server and its worker; there is nothing to save
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5),
        ):
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"no answer within {START_SECONDS} s: {log.read_text()}")


def postgres_programs() -> Path | None:
    """The folder of Debian's newest PostgreSQL, or that of the PATH; None if there is none."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: float(one.parent.name)
    )
    on_path = shutil.which("initdb")
    return folders[-1] if folders else Path(on_path).resolve().parent if on_path else None


@contextmanager
def postgres(programs: Path, *databases: str) -> Iterator[str]:
    """Where new, empty databases are, as an URL without the database's name. PostgreSQL refuses to run as root."""
    user = _unprivileged()
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
    try:
        (folder / "password").write_text(DATABASE_PASSWORD)
        for path in (folder, folder / "password"):
            if user is not None:
                shutil.chown(path, user)
        initdb: list[str | Path] = [programs / "initdb", "-D", folder / "data", "-U", "mlflow"]
        initdb += ["--pwfile", folder / "password", "--auth=scram-sha-256"]
        initdb += ["--no-locale", "--encoding=UTF8", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            f"port={port}",
        ]
        command: list[str | Path] = [programs / "postgres", "-D", folder / "data"]
        command += [part for one in settings for part in ("-c", one)]
        server = subprocess.Popen(
            command, user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _create(port, databases)
            yield f"postgresql+psycopg2://mlflow:{DATABASE_PASSWORD}@127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGQUIT)  # at once
            server.wait()
    finally:
        shutil.rmtree(folder)


def _unprivileged() -> str | None:
    """For root: another user; the package has made one."""
    if os.geteuid() != 0:
        return None
    import pwd

    return next(
        name for name in ("postgres", "nobody") if name in {one.pw_name for one in pwd.getpwall()}
    )


def _create(port: int, databases: tuple[str, ...]) -> None:
    import psycopg2

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = psycopg2.connect(
                host="127.0.0.1",
                port=port,
                user="mlflow",
                password=DATABASE_PASSWORD,
                dbname="postgres",
            )
            break
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    connection.autocommit = True
    for name in databases:
        connection.cursor().execute(f"create database {name}")
    connection.close()
