"""What a text is made of, counted while it is read once piece by piece; and what is odd about it."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from charlstm.corpus.conversion import Form, corpus_pieces
from charlstm.corpus.encodings import check_encoding, detect_encoding
from charlstm.errors import CorpusError
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, code_points, describe
from pipeline.stage.terminal import progress

ODD_CATEGORIES = ("Cc", "Co", "Cn")  # control characters, private use, code points without a character


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
        odd = {one: num for one, num in self.counts.items() if unicodedata.category(one) in ODD_CATEGORIES}
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
        raise CorpusError(f"expected one encoding, found several ({examples}): convert the files, or use --encoding")
    return next(iter(names), "utf-8")


def inspect(pieces: Iterable[str], encoding: str = "utf-8") -> TextReport:
    """Count a text that comes in pieces. Its memory is bounded, however long the text is."""
    counts_K = np.zeros(NUM_CODE_POINTS, np.int64)
    num_crlf, last = 0, "\n"
    for piece in pieces:
        found = np.bincount(np.frombuffer(piece.encode(), np.uint8) if piece.isascii() else code_points(piece))
        counts_K[: len(found)] += found
        num_crlf += (last + piece).count("\r\n")
        last = piece[-1:] or last
    counts_K[ord("\r")] -= num_crlf
    counts = Counter({chr(point): int(counts_K[point]) for point in np.flatnonzero(counts_K)})
    return TextReport(encoding, counts, counts["\n"] + (last != "\n"), num_crlf)
