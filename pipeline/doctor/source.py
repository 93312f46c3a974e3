"""The text's source: whether it is there, is what it should be, and is watched."""

import codecs
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from charlstm.params import DownloadParams, Params
from charlstm.storage.files import sha256
from charlstm.storage.urls import without_credentials
from charlstm.text.download import SPECIAL_FILES, local_path
from pipeline.common.paths import Paths
from pipeline.doctor.finding import Finding, error, errors_of, warning
from pipeline.doctor.text_there import is_of_these_parameters
from pipeline.download import check_replaceable, check_source

NOTHING = "conf/corpus/nothing"
MAX_HASHED_BYTES = 100_000_000  # a fifth of a second
MAX_SEARCHED_BYTES = 1_000_000_000


def check(params: Params, paths: Paths) -> Iterator[Finding]:
    """Of `download` and of what `split` looks for in the text."""
    section = params.download
    yield from _encoding(section.encoding)
    yield from _watch(section)
    is_there = paths.corpus.is_file() and is_of_these_parameters("download")  # then the source is not asked
    source = local_path(section.source)
    if source is None and (scheme := section.source.partition("://")[0].lower()) not in ("http", "https"):
        yield error(f"download.source: expected a path or an http(s) URL, got the protocol {scheme}")
    elif source is not None and not is_there:
        yield from _local(source, section)
    yield from errors_of(lambda: check_source(section.source, paths))
    if not paths.corpus.exists() or paths.corpus.stat().st_size <= MAX_HASHED_BYTES:
        yield from errors_of(lambda: check_replaceable(paths.corpus, section))
    text = paths.corpus if is_there else source
    if text is not None and text.is_file():
        yield from _separator(text, params.split.document_separator)


def _encoding(name: str) -> Iterator[Finding]:
    try:
        codecs.lookup(name)
    except (LookupError, ValueError):
        yield error(f"download.encoding: Python knows no encoding {name!r}; e.g. utf-8, utf-16, cp1251, latin1")


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
    if not source.exists():
        yield error(f"download.source: {source}: no such file or folder, seen from {Path.cwd()}")
    elif not os.access(source, os.R_OK):
        yield error(f"download.source: {source}: no permission to read it")
    elif source.is_dir():
        if not any(file.is_file() for file in source.rglob("*")):
            yield error(f"download.source: {source}: expected texts, found a folder without files")
    elif not source.is_file():
        kinds = {"FIFO": source.is_fifo(), "socket": source.is_socket()}
        kind = next((name for name, is_one in kinds.items() if is_one), SPECIAL_FILES["c"])
        yield error(f"download.source: {source}: expected a file, found a {kind}; copy what it gives into a file")
    elif source.stat().st_size == 0:
        yield error(f"download.source: {source}: expected a text, found an empty file")
    elif section.sha256 and source.stat().st_size <= MAX_HASHED_BYTES and (found := sha256(source)) != section.sha256:
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
        yield warning(f"split.document_separator: {separator!r} is nowhere in {text}: all of it is one document")
