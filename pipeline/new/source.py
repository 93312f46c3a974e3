"""What TEXT names: a file, a folder, or a URL."""

import os
import re
import tempfile
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from charlstm.corpus.conversion import check_outside, files_of, local_path
from charlstm.corpus.download import fetch
from charlstm.errors import CorpusError
from charlstm.files.atomic import sha256
from charlstm.files.urls import without_credentials
from pipeline.new.proposal import MIN_CHARS
from pipeline.new.text_report import TextReport, report_on

DOCUMENT_SEPARATOR = "\f"
MAX_NAME = 40  # characters
# `charlstm recipe save` keeps one, and the others YAML does not read as texts.
RESERVED = {"save", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"}


class Source(NamedTuple):
    """A text as it was named, and the files that are to be read, in their order."""

    address: str  # a URL or an absolute path
    stem: str  # what its name is made of
    files: list[Path]  # none for a URL

    @property
    def shown(self) -> str:
        """The address for messages."""
        return without_credentials(self.address)


def find_source(text: str, own: Collection[Path]) -> Source:
    """The source that `text` names; CorpusError if it is in one of `own`, the project's folders."""
    path = local_path(text)
    if path is None:
        return Source(text, Path(re.sub(r"[?#].*", "", text)).stem or "text", [])
    path = Path(os.path.abspath(path))  # noqa: PTH100  # `resolve` would follow links
    try:
        files = files_of(path)
    except ValueError as error:
        raise CorpusError(f"{path}: {error}") from None
    for file in (path, *files):
        for folder in own:
            check_outside(file, folder)
    return Source(str(path), path.name if path.is_dir() else path.stem, files)


def name_of(stem: str) -> str:
    """A name for a corpus: ASCII letters, digits, `_` and `-`, that YAML reads as a text."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_NAME].strip("-_")
    if not name:
        return "text"
    return name if name[0].isalpha() and name not in RESERVED else f"text-{name}"


def read(source: Source, encoding: str | None) -> tuple[TextReport, str | None]:
    """The report on the text; and the SHA-256 of what a URL gave, to hold it to."""
    if source.files:
        report, digest = report_on(source.files, encoding), None
    else:
        with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
            file = fetch(source.address, Path(folder))
            try:
                report, digest = report_on([file], encoding), sha256(file)
            except CorpusError as error:  # a temporary file's name says nothing
                raise CorpusError(str(error).replace(str(file), source.shown)) from None
    if report.num_chars < MIN_CHARS or len(report.counts) < 2:
        raise CorpusError(
            f"{source.shown}: expected a text of at least {MIN_CHARS} characters, found {report.num_chars}, of which "
            f"{len(report.counts)} distinct"
        )
    return report, digest
