"""`charlstm ui`: MLflow's page of all runs."""

import os
import signal
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

import typer

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import MAX_RESULTS, Store, ask, check_exists, connect
from charlstm.tracking.shared_view import page, share_view
from charlstm.tracking.sync import publish_all
from pipeline.run.dvc import corpus_name
from pipeline.run.project import state_root, store

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 2


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the page is.")] = 5000,
) -> int:
    """Open MLflow's page of the runs of each text, in the right view.

    It prints the addresses, this checkout's text first, and ends with Ctrl-C. Of runs that are on a server it prints
    the server's addresses, and ends.
    """
    runs = store()
    with suppress(KeyboardInterrupt):
        if urlsplit(runs.uri).scheme in ("http", "https"):
            _print_pages(_find_runs(runs, corpus_name()), without_credentials(runs.uri))
            return 0
        _check_port(port)
        typer.echo("MLflow's server is starting ...", err=True)
        pages = _find_runs(runs, corpus_name())
        with tempfile.TemporaryFile() as output, _server(runs.uri, port, output) as server:
            if _answers(server, port):
                _print_pages(pages, f"http://{HOST}:{port}")
                server.wait()
            output.seek(0)
            lines = [
                line for line in output.read().decode(errors="replace").splitlines() if line.strip()
            ]
            shown = without_credentials(
                textwrap.shorten(" ".join(lines[-1:]), 300, placeholder=" ...")
            )
            raise TrackingError(f"MLflow's server ended: {shown}")
    return 0


def _find_runs(store: Store, corpus: str) -> list[tuple[str, str, bool]]:
    """Names and ids of the experiments that have runs, that of the corpus first, and whether each has our view."""
    check_exists(store)
    ask(
        store, lambda: publish_all(store, state_root())
    )  # which ends the runs whose processes are gone
    shared = ask(store, lambda: _share_views(store, store.experiment_of(corpus)))
    pages = [
        (name, experiment_id, is_shared)
        for name, experiment_id, is_shared in shared
        if is_shared is not None
    ]
    if not pages:
        raise TrackingError(
            f"experiment {store.experiment} has no run yet; `make repro` makes the first"
        )
    return pages


def _share_views(store: Store, first: str) -> list[tuple[str, str, bool | None]]:
    client = connect(store)
    found = {
        one.name: str(one.experiment_id)
        for one in client.search_experiments(max_results=MAX_RESULTS)
    }
    ours = {
        name: found[name]
        for name in found
        if name.partition("/")[0] == store.experiment or name == store.experiment
    }
    experiments = sorted(ours.items(), key=lambda item: (item[0] != first, item[0]))
    return [
        (name, experiment_id, share_view(client, experiment_id))
        for name, experiment_id in experiments
    ]


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server does: not held up by what has ended
        try:
            probe.bind((HOST, port))
        except OSError:  # taken, or not for this user
            raise TrackingError(
                f"port {port} is taken: choose another one, e.g. make ui PORT={port + 1}"
            ) from None


@contextmanager
def _server(uri: str, port: int, output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A server on that store. At the end nothing of it is left running."""
    # Not on the command line, where others could read the password of a database.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    server = subprocess.Popen(  # in a session of its own: Ctrl-C comes to us alone
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself, and all that it started
            os.killpg(server.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(STOP_TIMEOUT_SECONDS)
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it answers; False if it ends before."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # no proxy reaches this machine's own address
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return False
        with suppress(OSError), direct.open(f"http://{HOST}:{port}/health", timeout=5):
            return True
        time.sleep(0.1)
    raise TrackingError(
        f"MLflow's server did not answer on port {port} within {START_TIMEOUT_SECONDS} s"
    )


def _print_pages(pages: Sequence[tuple[str, str, bool]], server: str) -> None:
    for name, experiment_id, is_shared in pages:
        sys.stdout.write(f"{name}: {page(server, experiment_id, is_shared=is_shared)}\n")
    sys.stdout.flush()
