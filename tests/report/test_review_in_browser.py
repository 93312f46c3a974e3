"""Review pages in Chromium show hostile texts, run none of them, and use no network."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from charlstm.report.comparison import comparison_of
from charlstm.report.document import ReviewDocument, ReviewedModel
from charlstm.report.page import page_of
from tests.support.browser import dom_of, needs_chromium
from tests.support.reviews import HOSTILE, copy, review, sample

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


def pages(address: str) -> dict[str, str]:
    """Return the page of one model and that of three models, with a hostile text in all texts."""
    meta = f'<meta http-equiv="refresh" content="0;url={address}/meta">'
    text = f"{asking(address)}{meta}{HOSTILE}"
    one = review([sample(text, text, copies=[copy(0, 60)]), sample("plain", "\n")])
    losses = {text: one.losses["stateful"]}
    one = one.model_copy(update={"parameters": {text: text}, "losses": losses})
    two: ReviewDocument = one.model_copy(update={"parameters": {text: 2}})
    named = {text: one, "b": two, "c": review([])}
    models = [ReviewedModel(label, document, None) for label, document in named.items()]
    return {"review": page_of(one), "comparison": comparison_of(models)}


@pytest.mark.parametrize("name", ["review", "comparison"])
def test_a_hostile_text_is_shown_as_text(tmp_path: Path, listener: str, name: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(pages(listener)[name], encoding="utf-8")
    dom = dom_of(file.as_uri(), tmp_path)
    assert Listener.asked == []
    assert "it ran" not in re.findall(r"<title>(.*?)</title>", dom)[0]
    assert "&lt;script&gt;document.title = 'it ran'&lt;/script&gt;" in dom
    assert dom.count("<script") == 1 and "<iframe" not in dom and "<img" not in dom
    for symbol in ("U+2028", "U+202E", "U+0000", "U+FEFF"):
        assert f'<span class="control">{symbol}</span>' in dom
    assert "</html>" in dom.strip()[-10:]
    assert '<form class="filters">' in dom and "2 of 2</output>" in dom  # our own script runs


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
