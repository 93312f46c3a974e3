"""MLflow servers that do not answer, answer with nonsense, or answer too slowly."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from charlstm.tracking.client import Store, ask
from charlstm.tracking.sync import publish_at_end
from tests.support.commands import Run
from tests.support.stores import of_model


class Empty(BaseHTTPRequestHandler):
    """Server that answers `{}`."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: object) -> None: ...


class Dripping(Empty):
    """Server that answers forever. No pause is as long as a request's timeout."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        with suppress(OSError):
            for _ in range(1000):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.2)

    do_POST = do_PATCH = do_GET


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[Empty]], str]]:
    """Return a function that starts a server and returns its address."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    servers = []

    def start(kind: type[Empty]) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), kind))
        servers[-1].daemon_threads = True
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{servers[-1].server_address[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        return url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", [Empty, Dripping, None])
def test_a_wrong_server_costs_one_warning_and_a_little_time(
    serve: Callable[[type[Empty]], str],
    kind: type[Empty] | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a kind, the server accepts connections and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        uri = serve(kind) if kind is not None else f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        publish_at_end(Store(uri, "tests", None), tmp_path, 1.5, of_model("m0"))
        assert time.monotonic() - started < 30
        (record,) = caplog.records
        message = record.getMessage()
        assert "nothing is lost: the next stage or `charlstm sync` will send the rest" in message


@pytest.mark.parametrize("command", [["trace"], ["info", "models:/a@b"]])
def test_a_server_that_drips_holds_no_command(
    serve: Callable[[type[Empty]], str],
    copy: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    url = serve(Dripping)
    monkeypatch.setattr(ask, "__defaults__", (1.5,))
    for module in ("client", "registered_model"):
        monkeypatch.setattr(f"charlstm.tracking.{module}.SECONDS_FOR_FILES", 1.5)
    code, _, err = run(*command)
    assert code == 2 and f"MLflow at {url}: TimeoutError: no answer within" in err, err
