"""`charlstm ui`: the addresses of all runs in MLflow's UI, and its server."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated
from urllib.parse import urlsplit

import typer

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import MAX_RESULTS, Store, ask, check_exists, connect
from charlstm.tracking.shared_view import page_url, share_view
from charlstm.tracking.sync import publish_all
from pipeline.run.dvc import load_paths
from pipeline.run.project import state_root
from pipeline.run.store import store

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 2


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
            experiments = find_experiments(runs, load_paths().corpus.stem)
            _print_addresses(experiments, without_credentials(runs.uri))
            return 0
        _check_port(port)
        check_exists(runs)
        typer.echo("MLflow's server is starting ...", err=True)
        experiments = find_experiments(runs, load_paths().corpus.stem)
        with _server(runs.uri, port) as server:
            _wait_for_answer(server, port)
            _print_addresses(experiments, f"http://{HOST}:{port}")
            server.wait()
            raise TrackingError(f"MLflow's server ended with exit code {server.returncode}")
    return 0


def find_experiments(store: Store, corpus: str) -> dict[str, str]:
    """Return the ids, by name, of experiments that have runs. `corpus` comes first."""
    first = store.experiment_of(corpus)

    def find() -> dict[str, str]:
        publish_all(store, state_root())  # also ends runs whose process has died
        client = connect(store)
        ids = {
            experiment.name: experiment.experiment_id
            for experiment in client.search_experiments(max_results=MAX_RESULTS)
            if f"{experiment.name}/".startswith(f"{store.experiment}/")
            and share_view(client, experiment.experiment_id)
        }
        return {name: ids[name] for name in sorted(ids, key=lambda name: (name != first, name))}

    experiments = ask(store, find)
    if not experiments:
        raise TrackingError(
            f"experiment {store.experiment} has no runs yet; start the first run with `make repro`"
        )
    return experiments


def _print_addresses(experiments: dict[str, str], server: str) -> None:
    for name, experiment_id in experiments.items():
        typer.echo(f"{name}: {page_url(server, experiment_id)}")


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
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
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
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
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


def _wait_for_answer(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers or ends."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    # Do not use a proxy, because a proxy cannot reach this machine's loopback address.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), direct.open(f"http://{HOST}:{port}/health", timeout=5):
            break
        time.sleep(0.1)
