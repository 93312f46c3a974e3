"""What TEXT names: a file, several, a folder, or a URL."""

import os
import re
import tempfile
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from charlstm.corpus.conversion import check_outside, each_once, files_of, local_path
from charlstm.corpus.download import fetch
from charlstm.errors import CorpusError
from charlstm.files.atomic import sha256
from charlstm.files.urls import without_credentials
from pipeline.new.proposal import MIN_CHARS, TRAIN_FRACTION
from pipeline.new.text_report import TextReport, report_on

SEPARATOR = "\n"  # between files that are one text
DOCUMENT_SEPARATORS = ("\f", "\x1e", "\x1d", "\x1c")  # control characters that Unicode and ASCII have for such ends
MAX_NAME = 40  # characters
# `charlstm recipe save` keeps one, and the others YAML does not read as texts.
RESERVED = {"save", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"}


class Source(NamedTuple):
    """A text as it was named, and the files that are to be read, in their order."""

    shown: str  # for messages
    stem: str  # what its name is made of
    files: list[Path]  # absolute; empty for a URL
    url: str | None
    folder: Path | None  # the one that was named

    @property
    def needs_links(self) -> bool:
        """Whether a folder of links must stand for it: it is several files that were named."""
        return self.folder is None and len(self.files) > 1

    def address(self, links: Path) -> str:
        """The value for `download.source`; `links` is the folder of links, if they are needed."""
        return self.url or str(links if self.needs_links else self.folder or self.files[0])


def find_source(texts: Sequence[str], own: Collection[Path]) -> Source:
    """The source that the arguments name. `own` are the project's folders that commands and stages write.

    Raises:
        CorpusError: it is no file, several URLs, or in one of `own`.
        OSError: missing, unreadable, or a loop of links.
    """
    paths = [_plain(path) for text in texts if (path := local_path(text)) is not None]
    if len(paths) < len(texts):
        if len(texts) > 1:
            raise CorpusError(f"expected one URL, or files of this machine, got {len(texts)} arguments with a URL")
        stem = re.sub(r"[?#].*", "", texts[0]).rstrip("/").rpartition("/")[2]
        return Source(without_credentials(texts[0]), Path(stem).stem or "text", [], texts[0], None)
    files: list[Path] = []
    for path in paths:
        try:
            found = files_of(path)
        except ValueError as error:
            raise CorpusError(f"{path}: {error}") from None
        for file in (path, *found):
            for folder in own:
                check_outside(file, folder)
        files += found
    first = paths[0]
    if len(texts) > 1 and len(files := each_once(files)) > 1:
        return Source(f"{len(files)} files", first.stem, files, None, None)
    if not str(first).isprintable() or set("${}\\") & set(str(first)):  # for Hydra and DVC, `${` begins a reference
        raise CorpusError(
            f"{ascii(str(first))}: expected a path that has only printable characters and none of $ {{ }} \\, as a "
            "parameter can hold it: rename it, or make a link to it"
        )
    is_folder = first.is_dir()
    return Source(str(first), first.name if is_folder else first.stem, files, None, first if is_folder else None)


def _plain(path: Path) -> Path:
    """An absolute path without `..`, so that one file has one address. Links stay, unless `..` follows one."""
    plain, real = os.path.abspath(path), os.path.realpath(path)  # noqa: PTH100  # `Path.resolve` refuses loops
    return Path(plain if os.path.realpath(plain) == real else real)


def name_of(stem: str) -> str:
    """A name for a corpus: ASCII letters, digits, `_` and `-`, that YAML and Hydra read as a text."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_NAME].strip("-_")
    if not name:
        return "text"
    return name if name[0].isalpha() and name not in RESERVED else f"text-{name}"


def read(source: Source, encoding: str | None) -> tuple[TextReport, str | None]:
    """The report on the text; and the SHA-256 of what a URL gave, to hold it to."""
    if source.url is None:
        report, digest = report_on(source.files, SEPARATOR, encoding), None
    else:
        with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
            file = fetch(source.url, Path(folder))
            try:
                report, digest = report_on([file], SEPARATOR, encoding), sha256(file)
            except CorpusError as error:  # a temporary file's name says nothing
                raise CorpusError(str(error).replace(str(file), source.shown)) from None
    if report.num_chars < MIN_CHARS:
        raise CorpusError(
            f"{source.shown}: expected at least {MIN_CHARS} characters, found {report.num_chars}: "
            f"a model learns nothing from so few"
        )
    if len(report.counts) < 2:
        raise CorpusError(f"{source.shown}: expected a text, found {next(iter(report.counts))!r} over and over")
    return report, digest


def document_separator(source: Source, report: TextReport) -> str:
    """What is put between the documents: a character that none of them has.

    Raises:
        CorpusError: there is none, or only one document, or the first one is all that would be trained on.
    """
    if len(source.files) < 2:
        raise CorpusError(f"--documents: expected several files, each a document, got {source.shown}")
    first = source.files[0]
    num_first = report_on([first], SEPARATOR, report.encoding).num_chars if first.stat().st_size else 0
    if num_first >= int(TRAIN_FRACTION * report.num_chars):
        raise CorpusError(
            f"--documents: {first} has {num_first:,} of {report.num_chars:,} characters, so no other document would "
            "be left to train on: name another one first"
        )
    free = [one for one in DOCUMENT_SEPARATORS if not report.counts[one]]
    if not free:
        raise CorpusError(f"--documents: {source.shown} has every separator that could be used: take one of them out")
    return free[0]
