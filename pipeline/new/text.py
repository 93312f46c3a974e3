"""What TEXT is: a file, a folder or a URL, read once piece by piece; what it is made of, and what is odd about it."""

import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from charlstm.corpus.encodings import Form, check_encoding, corpus_pieces, detect_encoding
from charlstm.corpus.fetch import check_outside, fetch, files_of, local_path
from charlstm.errors import CorpusError
from charlstm.files.checksums import sha256
from charlstm.files.urls import without_credentials
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, code_points, describe
from pipeline.new.proposal import MIN_CHARS
from pipeline.run.terminal import progress

DOCUMENT_SEPARATOR = "\f"
ODD_CATEGORIES = (
    "Cc",
    "Co",
    "Cn",
)  # control characters, private use, code points without a character
MAX_NAME = 40  # characters
# `charlstm recipe save` keeps one, and the others YAML does not read as texts.
RESERVED = {"save", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"}


class TextReport(NamedTuple):
    """What a text is made of once each CR LF has become LF, as in the corpus."""

    encoding: str  # of the files, as Python names it
    counts: Counter[str]  # of each character
    num_lines: int
    num_crlf: int  # CR LF that became LF

    @property
    def num_chars(self) -> int:
        """The length of the text."""
        return self.counts.total()

    def lines(self) -> Iterator[str]:
        """What it is, and what is odd about it, with what is done about that or what to set."""
        distinct = f"{len(self.counts):,} distinct ones"
        yield f"{self.num_chars:,} characters, {distinct}; lines: {self.num_lines:,}; {self.encoding}"
        if self.num_crlf:
            yield f"! line ends that are CR LF: {self.num_crlf:,}; they become LF (download.newlines: lf)"
        odd = {
            one: num
            for one, num in self.counts.items()
            if unicodedata.category(one) in ODD_CATEGORIES
        }
        if found := Counter({one: num for one, num in odd.items() if one not in "\t\n"}):
            yield f"! control characters: {describe(found)}; they are learned like any other"
        if count := self.counts[UNSEEN]:
            yield f"! U+FFFD {count:,} times: the text was converted wrongly before; look for a better copy"


def report_on(files: Sequence[Path], encoding: str | None = None) -> TextReport:
    """Read the files in `encoding`; without one, CorpusError unless it is certain."""
    name = _encoding_of_all(files) if encoding is None else check_encoding(encoding)
    with progress("look", sum(file.stat().st_size for file in files)) as advance:

        def pieces() -> Iterator[str]:
            for piece in corpus_pieces(files, Form(name)):
                advance(len(piece))
                yield piece.decode()

        return inspect(pieces(), name)


def _encoding_of_all(files: Sequence[Path]) -> str:
    names = {detect_encoding(file): file for file in files if file.stat().st_size}
    if names.keys() == {"utf-8", "utf-8-sig"}:  # the second also reads what has no mark
        return "utf-8-sig"
    if len(names) > 1:
        examples = ", ".join(f"{file}: {name}" for name, file in sorted(names.items()))
        raise CorpusError(
            f"expected one encoding, found several ({examples}): convert the files, or use --encoding"
        )
    return next(iter(names), "utf-8")


def inspect(pieces: Iterable[str], encoding: str = "utf-8") -> TextReport:
    """Count a text that comes in pieces. Its memory is bounded, however long the text is."""
    counts_K = np.zeros(NUM_CODE_POINTS, np.int64)
    num_crlf, last = 0, "\n"
    for piece in pieces:
        found = np.bincount(
            np.frombuffer(piece.encode(), np.uint8) if piece.isascii() else code_points(piece)
        )
        counts_K[: len(found)] += found
        num_crlf += (last + piece).count("\r\n")
        last = piece[-1:] or last
    counts_K[ord("\r")] -= num_crlf
    counts = Counter({chr(point): int(counts_K[point]) for point in np.flatnonzero(counts_K)})
    return TextReport(encoding, counts, counts["\n"] + (last != "\n"), num_crlf)


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
    if Path.cwd().is_relative_to(path.resolve()):  # `/` is a walk through the whole disk
        raise CorpusError(
            f"{path}: expected a text outside of the project, found a folder that holds the project"
        )
    files = files_of(path)
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
