"""`charlstm ui`: the addresses of all runs in MLflow's UI, and its server."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Annotated
from urllib.parse import urlsplit

import typer

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import MAX_RESULTS, Store, ask, check_exists, connect
from charlstm.tracking.shared_view import page, share_view
from charlstm.tracking.sync import publish_all
from pipeline.run.dvc import load_paths
from pipeline.run.project import state_root
from pipeline.run.store import store

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 2
Page = tuple[str, str, bool]  # an experiment's name, its ID, and whether our view was saved


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI.")] = 5000,
) -> int:
    """Start MLflow's UI and print the address of each text's runs.

    The address of this checkout's text comes first. Ctrl-C stops the server. If the runs are
    already on a server, the command prints that server's addresses and ends.
    """
    runs = store()
    with suppress(KeyboardInterrupt):
        if urlsplit(runs.uri).scheme in ("http", "https"):
            _print_pages(_find_runs(runs, load_paths().corpus.stem), without_credentials(runs.uri))
            return 0
        _check_port(port)
        check_exists(runs)
        typer.echo("MLflow's server is starting ...", err=True)
        pages = _find_runs(runs, load_paths().corpus.stem)
        with tempfile.TemporaryFile() as output, _server(runs.uri, port, output) as server:
            if _answers(server, port):
                _print_pages(pages, f"http://{HOST}:{port}")
                server.wait()
            output.seek(0)
            _, _, last_line = output.read().decode(errors="replace").strip().rpartition("\n")
            raise TrackingError(f"MLflow's server ended: {without_credentials(last_line[:300])}")
    return 0


def _find_runs(store: Store, corpus: str) -> list[Page]:
    """Return the experiments that have runs. The experiment of `corpus` comes first."""
    ask(store, lambda: publish_all(store, state_root()))  # also ends runs whose process has died
    pages = ask(store, lambda: _share_views(store, store.experiment_of(corpus)))
    if not pages:
        raise TrackingError(
            f"experiment {store.experiment} has no runs yet; start the first run with `make repro`"
        )
    return pages


def _share_views(store: Store, first: str) -> list[Page]:
    client = connect(store)
    pages = []
    for one in client.search_experiments(max_results=MAX_RESULTS):
        if f"{one.name}/".startswith(f"{store.experiment}/"):
            is_shared = share_view(client, one.experiment_id)
            # An experiment without runs has no view.
            if is_shared is not None:
                pages.append((one.name, one.experiment_id, is_shared))
    return sorted(pages, key=lambda page: (page[0] != first, page[0]))


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # Ignore connections of processes that have ended, as the server does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:  # taken, or reserved for the superuser
            raise TrackingError(
                f"port {port} is not available: choose another port, e.g. `make ui PORT={port + 1}`"
            ) from None


@contextmanager
def _server(uri: str, port: int, output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on the store at `uri`. At the end, stop all of the server's processes."""
    # Pass the URI in a variable: other users could read the URI's password on a command line.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    options = ("--host", HOST, "--port", str(port), "--workers", "1")
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # so that Ctrl-C reaches only this process
    )
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):  # all of the server's processes have ended
            os.killpg(server.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(STOP_TIMEOUT_SECONDS)
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait for the server. Return True once it answers, or False if it exits before answering."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    # Do not use a proxy, because a proxy cannot reach this machine's loopback address.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return False
        with suppress(OSError), direct.open(f"http://{HOST}:{port}/health", timeout=5):
            return True
        time.sleep(0.1)
    raise TrackingError(
        f"MLflow's server did not answer on port {port} within {START_TIMEOUT_SECONDS} s"
    )


def _print_pages(pages: list[Page], server: str) -> None:
    for name, experiment_id, is_shared in pages:
        typer.echo(f"{name}: {page(server, experiment_id, is_shared=is_shared)}")
