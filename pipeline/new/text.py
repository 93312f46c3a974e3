"""The text for `charlstm new`: found as a file, a folder or a URL, and read once for a report."""

import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from charlstm.corpus.encodings import Form, check_encoding, corpus_pieces, detect_encoding
from charlstm.corpus.fetch import check_outside, fetch, files_of, local_path
from charlstm.errors import CorpusError
from charlstm.files.checksums import sha256
from charlstm.files.documents import did_you_mean
from charlstm.files.urls import without_credentials
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, code_points, describe
from pipeline.new import rules
from pipeline.recipes import CORPORA, names

# Unicode categories: control characters, private-use characters, and unassigned code points.
ODD_CATEGORIES = ("Cc", "Co", "Cn")
MAX_NAME = 40  # characters
# `save` is a subcommand of `charlstm recipe`, and YAML does not read the other names as text.
RESERVED = {"save", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "none"}


class Source(NamedTuple):
    """The source of a text: its address, and its files in reading order."""

    address: str  # a URL or an absolute path
    stem: str  # the text's name is derived from the stem
    files: list[Path]  # empty for a URL

    @property
    def shown(self) -> str:
        """The address without credentials, for messages."""
        return without_credentials(self.address)


class TextReport(NamedTuple):
    """Statistics of a text in which LF has replaced CR LF, as in the corpus."""

    encoding: str  # Python's name for the files' encoding
    counts: Counter[str]  # occurrences of each character
    num_lines: int
    num_crlf: int  # replaced occurrences of CR LF

    @property
    def num_chars(self) -> int:
        """The number of characters in the text."""
        return self.counts.total()

    def lines(self) -> Iterator[str]:
        """Yield a line with the size and encoding, then one on how each oddity is handled."""
        size = f"{self.num_chars:,} characters, {len(self.counts):,} of them distinct"
        yield f"{size}; lines: {self.num_lines:,}; {self.encoding}"
        if self.num_crlf:
            yield f"! CR LF line ends: {self.num_crlf:,}; they become LF (download.newlines: lf)"
        odd = Counter[str]()
        for character, count in self.counts.items():
            if unicodedata.category(character) in ODD_CATEGORIES and character not in "\t\n":
                odd[character] = count
        if odd:
            yield f"! control characters: {describe(odd)}; they are learned like other characters"
        if count := self.counts[UNSEEN]:
            yield f"! U+FFFD {count:,} times: an earlier conversion failed; find a better copy"


def find_source(text: str, own: Collection[Path]) -> Source:
    """Find the source of a text by its path or URL.

    Raises:
        CorpusError: the source does not exist, is in one of `own` (folders that the project
            writes), or contains the project.
    """
    path = local_path(text)
    if path is None:
        return Source(text, Path(re.sub(r"[?#].*", "", text)).stem or "text", [])
    if not path.exists():
        corpora = names(CORPORA)
        near = did_you_mean(text, corpora)
        raise CorpusError(
            f"{text}: there is no such file and no corpus with this name{near}; "
            f"the corpora are {', '.join(corpora)}"
        )
    path = Path(os.path.abspath(path))  # noqa: PTH100  # `resolve` would follow links
    # Check this before listing files, because listing the files in `/` would search the whole disk.
    for folder in own:
        check_outside(path, folder)
    files = files_of(path)
    for file, folder in product(files, own):
        check_outside(file, folder)
    return Source(str(path), path.name if path.is_dir() else path.stem, files)


def read(source: Source, encoding: str | None) -> tuple[TextReport, str | None]:
    """Return a report on the text and, for a URL, the SHA-256 that later downloads must match."""
    if source.files:
        report = report_on(source.files, encoding)
        digest = None
    else:
        with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
            file = fetch(source.address, Path(folder))
            try:
                report = report_on([file], encoding)
            except CorpusError as error:  # name the URL, not the temporary file
                raise CorpusError(str(error).replace(str(file), source.shown)) from None
            digest = sha256(file)
    if report.num_chars < rules.MIN_CHARS or len(report.counts) < 2:
        raise CorpusError(
            f"{source.shown}: expected at least {rules.MIN_CHARS} characters and 2 distinct ones, "
            f"found {report.num_chars} characters ({len(report.counts)} distinct)"
        )
    return report, digest


def report_on(files: Sequence[Path], encoding: str | None) -> TextReport:
    """Read the files and report on their text.

    Raises:
        CorpusError: a file is not in `encoding`; or `encoding` is None, and the files' encoding is
            uncertain.
    """
    name = _encoding_of_all(files) if encoding is None else check_encoding(encoding)
    return inspect((piece.decode() for piece in corpus_pieces(files, Form(name))), name)


def _encoding_of_all(files: Sequence[Path]) -> str:
    names = {detect_encoding(file): file for file in files if file.stat().st_size}
    if names.keys() == {"utf-8", "utf-8-sig"}:  # `utf-8-sig` also reads files without a BOM
        return "utf-8-sig"
    if len(names) > 1:
        examples = ", ".join(f"{file}: {name}" for name, file in sorted(names.items()))
        raise CorpusError(
            f"expected one encoding for all files, found several ({examples}): convert the files "
            f"to one encoding, or use --encoding"
        )
    return next(iter(names), "utf-8")


def inspect(pieces: Iterable[str], encoding: str = "utf-8") -> TextReport:
    """Count the characters of a text that is given in pieces. Memory use is bounded.

    Shapes: K code points.
    """
    counts_K = np.zeros(NUM_CODE_POINTS, np.int64)
    num_crlf = 0
    last = "\n"  # the last character read; at first a line end, so that an empty text has no line
    for piece in pieces:
        found = np.bincount(code_points(piece))
        counts_K[: len(found)] += found
        num_crlf += (last + piece).count("\r\n")
        last = piece[-1:] or last
    counts_K[ord("\r")] -= num_crlf
    counts = Counter({chr(point): int(counts_K[point]) for point in np.flatnonzero(counts_K)})
    return TextReport(encoding, counts, counts["\n"] + (last != "\n"), num_crlf)


def name_of(stem: str) -> str:
    """Derive a corpus name that has only a-z, 0-9, `_` and `-`, and that YAML reads as text."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_NAME].strip("-_")
    if not name:
        return "text"
    return name if name[0].isalpha() and name not in RESERVED else f"text-{name}"
