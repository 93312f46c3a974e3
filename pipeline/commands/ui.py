"""`charlstm ui`: MLflow's page of all runs."""

import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Annotated
from urllib.parse import urlsplit

import psutil
import typer

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import Store, connect, find_experiments, reason_of, sqlite_file
from charlstm.tracking.view import page, share_view
from pipeline.dvc.paths import corpus_name
from pipeline.stage.tracking_store import store


def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page is.")] = 5000) -> int:
    """Open MLflow's page of the runs of each corpus, in the right view.

    It prints the addresses, this checkout's corpus first, and ends with Ctrl-C. Of runs that are on a server it prints
    the server's addresses, and ends.
    """
    with suppress(KeyboardInterrupt):
        show(store(), port, corpus_name())
    return 0


# The page, opened in the right view.

HOST = "127.0.0.1"
MAX_PORT = 65_535
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 2


def show(where: Store, port: int, corpus: str) -> None:
    """Print the address of the page of the runs of `corpus`, and of those of other corpora, a line each, with its name.

    Serve them until the process is interrupted, unless a server does.

    Raises:
        TrackingError: the port is taken, there is no run, or the store does not answer.
    """
    is_server = urlsplit(where.uri).scheme in ("http", "https")
    if not is_server:
        _check_port(port)
    pages = _find_runs(where, corpus)
    if is_server:
        _say(pages, without_credentials(where.uri))
        return
    with tempfile.TemporaryFile() as output, _server(where.uri, port, output) as server:
        if _answers(server, port):
            _say(pages, f"http://{HOST}:{port}")
            server.wait()
        raise TrackingError(f"MLflow's server ended: {_last_line(output, where.uri)}")


def _find_runs(store: Store, corpus: str) -> list[tuple[str, str, bool]]:
    """Names and ids of the experiments that have runs, that of the corpus first, and whether each has our view.

    Raises:
        TrackingError: the store does not answer, is damaged, or has no run.
    """
    where = without_credentials(store.uri)
    if (file := sqlite_file(store.uri)) and not file.exists():
        raise TrackingError(f"{file}: no run yet; `make repro` makes the first")
    try:
        client, wanted = connect(store), store.experiment_of(corpus)
        experiments = sorted(find_experiments(client, store).items(), key=lambda one: (one[0] != wanted, one[0]))
        shared = [(name, experiment_id, share_view(client, experiment_id)) for name, experiment_id in experiments]
    except Exception as error:  # whatever a server, a driver or a damaged file can raise
        shown = textwrap.shorten(reason_of(error, store), 300, placeholder=" ...")
        raise TrackingError(f"expected an MLflow store at {where}, got {shown}") from None
    pages = [(name, experiment_id, is_shared) for name, experiment_id, (has_runs, is_shared) in shared if has_runs]
    if not pages:
        raise TrackingError(f"{where}: experiment {store.experiment} has no run yet; `make repro` makes the first")
    return pages


def _check_port(port: int) -> None:
    if _is_free(port):
        return
    free = next((other for other in range(port + 1, MAX_PORT + 1) if _is_free(other)), None) or _any_free()
    raise TrackingError(f"port {port} is taken: make ui PORT={free}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: not held up by what has ended
        try:
            probe.bind((HOST, port))
        except OSError:  # taken, or not for this user
            return False
    return True


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(uri: str, port: int, output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A server on that store. At the end nothing of it is left running."""
    # Not on the command line, where others could read the password of a database.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(  # in a session of its own: Ctrl-C comes to us alone
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )
    try:
        yield server
    finally:
        _stop(server)


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it answers; False if it ends before.

    Raises:
        TrackingError: it does neither.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return False
        with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
            return True
        time.sleep(0.1)
    raise TrackingError(f"MLflow's server did not answer on port {port} within {START_TIMEOUT_SECONDS} s")


def _last_line(output: IO[bytes], uri: str) -> str:
    output.seek(0)
    lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    return without_credentials(textwrap.shorten(" ".join(lines[-1:]), 300, placeholder=" ..."), uri)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started."""
    processes = []
    with suppress(psutil.NoSuchProcess):
        processes = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, STOP_TIMEOUT_SECONDS)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.wait()


def _say(pages: Sequence[tuple[str, str, bool]], server: str) -> None:
    for name, experiment_id, is_shared in pages:
        sys.stdout.write(f"{name}: {page(server, experiment_id, is_shared=is_shared)}\n")
    sys.stdout.flush()
