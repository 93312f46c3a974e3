"""Review pages in Chromium run no script of a text, and use no network."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from charlstm.review.page import page_of
from tests.support.browser import dom_of, needs_chromium
from tests.support.reviews import review, sample

pytestmark = [pytest.mark.slow, needs_chromium]


class Listener(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012  # emptied by the fixture

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def listener() -> Iterator[str]:
    Listener.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def asking(address: str) -> str:
    """Return HTML that runs a script and asks the server in several ways."""
    return (
        f'<img src="{address}/img"><script src="{address}/script"></script>'
        f'<iframe src="{address}/frame"></iframe><link rel="stylesheet" href="{address}/style">'
        '<script>document.title = "it ran"</script>'
    )


def test_what_would_slip_through_is_stopped_by_the_policy(tmp_path: Path, listener: str) -> None:
    """Behind the escaping, the page's policy is a second guard. Without it, the text runs."""
    page = page_of(review([sample("x")])).replace("</main>", f"{asking(listener)}</main>")
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    assert "<title>it ran" not in dom_of(file.as_uri(), tmp_path)
    assert Listener.asked == []
    file.write_text(re.sub(r"<meta http-equiv=.Content-Security.*?>", "", page), encoding="utf-8")
    assert "<title>it ran" in dom_of(file.as_uri(), tmp_path)
    assert {"/img", "/script", "/frame", "/style"} <= set(Listener.asked)
