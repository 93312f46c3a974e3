"""The text's source: whether it is there, is what it should be, and is watched."""

import mmap
from collections.abc import Iterator
from pathlib import Path

from charlstm.params import DownloadParams, Params
from charlstm.storage.urls import without_credentials
from charlstm.text.conversion import Form, source_sha256
from charlstm.text.documents import ADVICE
from charlstm.text.encodings import check_encoding
from charlstm.text.source_files import files_of, local_path
from pipeline.common.paths import NOTHING, Paths
from pipeline.doctor.finding import Finding, error, errors_of, warning
from pipeline.doctor.text_there import is_of_these_parameters
from pipeline.download import check_replaceable, check_source

MAX_HASHED_BYTES = 100_000_000  # a fifth of a second
MAX_SEARCHED_BYTES = 1_000_000_000


def check(params: Params, paths: Paths) -> Iterator[Finding]:
    """Of `download` and of what `split` looks for in the text."""
    section = params.download
    yield from errors_of(lambda: check_encoding(section.encoding))
    form = Form(section.encoding, section.newlines, section.separator)
    yield from _watch(section)
    is_there = paths.corpus.is_file() and is_of_these_parameters("download")  # then the source is not asked
    source = local_path(section.source)
    if source is None and (scheme := section.source.partition("://")[0].lower()) not in ("http", "https"):
        yield error(f"download.source: expected a path or an http(s) URL, got the protocol {scheme}")
    elif source is None and (shown := without_credentials(section.source)) != section.source:
        yield warning(
            f"download.source: {shown} seems to hold a secret, which git, DVC and MLflow keep: download the text, and "
            f"name the file"
        )
    elif source is not None and not is_there:
        yield from _local(source, section)
    yield from errors_of(lambda: check_source(section.source, paths))
    if not paths.corpus.exists() or paths.corpus.stat().st_size <= MAX_HASHED_BYTES:
        yield from errors_of(lambda: check_replaceable(paths.corpus, section, form))
    text = paths.corpus if is_there else source if form.keeps_bytes else None
    if text is not None and text.is_file():
        yield from _separator(text, params.split.document_separator)


def _watch(section: DownloadParams) -> Iterator[Finding]:
    watched, source = Path(section.watch), local_path(section.source)
    if not watched.exists():
        yield error(
            f"download.watch: {without_credentials(section.watch)}: no such file or folder, and DVC stops there: "
            f"name the text's own path, or {NOTHING} for a text that comes from a URL or by `dvc pull`"
        )
    elif source is not None and source.exists() and not source.resolve().is_relative_to(watched.resolve()):
        yield warning(
            f"download.watch: {watched} is watched, so a change of {source} is not noticed: set it to {source}"
        )


def _local(source: Path, section: DownloadParams) -> Iterator[Finding]:
    try:
        files = files_of(source)
    except FileNotFoundError:
        yield error(f"download.source: {source}: no such file or folder, seen from {Path.cwd()}")
        return
    except (OSError, ValueError) as failure:
        yield error(f"download.source: {source}: {getattr(failure, 'strerror', None) or failure}")
        return
    num_bytes = sum(file.stat().st_size for file in files)
    if num_bytes == 0:
        yield error(f"download.source: {source}: expected a text, found no byte in it")
    elif section.sha256 and num_bytes <= MAX_HASHED_BYTES:
        found = source_sha256(files, section.separator)
        if found != section.sha256:
            yield error(
                f"download.sha256: expected {section.sha256}, but {source} has {found}: "
                f"set it to that, or to null to accept any bytes"
            )


def _separator(text: Path, separator: str | None) -> Iterator[Finding]:
    if not separator or not 0 < text.stat().st_size <= MAX_SEARCHED_BYTES:
        return
    with text.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        is_there = content.find(separator.encode("utf-8", "replace")) >= 0
    if not is_there:
        yield error(f"split.document_separator: {separator[:50]!r} stands nowhere in {text}; {ADVICE}")
