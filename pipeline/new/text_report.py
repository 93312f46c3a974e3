"""What a text is made of, counted while it is read once piece by piece; and what is odd about it, in a few lines."""

import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from charlstm.corpus.encodings import check_encoding, detect_encoding, explain
from charlstm.corpus.parts import BadByteError, TextReader
from charlstm.errors import CorpusError
from charlstm.files.pieces import Advance, read_pieces
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, code_points, describe
from pipeline.stage.terminal import progress

CATEGORIES = {"Z": "spaces", "C": "controls", "P": "punctuation", "N": "digits", "S": "symbols", "M": "marks"}
NUM_SCRIPTS = 5
MIN_SHARE = 0.005  # of all characters: a script with less is not named
RARE = 10  # times: a character that is rarer is hardly learned
NUM_RARE = 100
ORDINARY = "\t\n\r"
ODD_CATEGORIES = {"Cc": "control characters", "Co": "private-use characters", "Cn": "code points without a character"}
LONG_LINE = 10_000  # characters
ENDING_CHARS = 3_000_000  # at most: bounds memory


class TextReport(NamedTuple):
    """What a text is made of once each CR LF has become LF, as in the corpus."""

    encoding: str  # of the files, as Python names it
    num_chars: int
    counts: Counter[str]  # of each character
    num_lines: int
    num_crlf: int  # CR LF that became LF
    ending: str  # the last ENDING_CHARS

    def scripts(self) -> list[tuple[str, float]]:
        """Each script and its share of all characters, the largest first.

        A letter's script is the first word of its name in Unicode; other characters go by their category.
        """
        found = Counter[str]()
        for character, count in self.counts.items():
            category = unicodedata.category(character)[0]
            word = unicodedata.name(character, "unnamed letters").split()[0]
            letters = word if word == "CJK" else word.capitalize()
            found[letters if category == "L" else CATEGORIES[category]] += count
        return [(script, count / self.num_chars) for script, count in found.most_common()]


def report_on(files: Sequence[Path], separator: str, encoding: str | None = None) -> TextReport:
    """Read the files, as they will be when `separator` joins them, in `encoding`, or in the one that they are in.

    Raises:
        CorpusError: a file is no text in an encoding that is known for sure, or files differ in it, or all are empty.
        OSError: a file cannot be read.
    """
    name = _encoding_of_all(files) if encoding is None else check_encoding(encoding)
    with progress("look", sum(file.stat().st_size for file in files)) as advance:
        try:
            report = inspect(_characters(files, separator, name, advance), name)
        except UnicodeEncodeError as error:  # e.g. UTF-7 and Python's own escapes can say half of a surrogate pair
            raise CorpusError(f"{files[0]}: as {name}, it has what is no character: {error.reason}") from None
    if report.num_chars == 0:
        raise CorpusError(f"{files[0]}: expected a text, found an empty file")
    return report


def _encoding_of_all(files: Sequence[Path]) -> str:
    names = {detect_encoding(file): file for file in files if file.stat().st_size}
    if names.keys() == {"utf-8", "utf-8-sig"}:  # the second also reads what has no mark
        return "utf-8-sig"
    if len(names) > 1:
        examples = ", ".join(f"{file}: {name}" for name, file in sorted(names.items()))
        raise CorpusError(
            f"expected files in one encoding, found several ({examples}): convert them first, or name it by --encoding"
        )
    return next(iter(names), "utf-8")


def _characters(files: Sequence[Path], separator: str, encoding: str, advance: Advance) -> Iterator[str]:
    for number, file in enumerate(files):
        yield separator if number else ""
        reader = TextReader(encoding)
        try:
            for piece in read_pieces(file):
                yield reader.read(piece)
                advance(len(piece))
            yield reader.read(b"", is_end=True)
        except (BadByteError, UnicodeError) as error:
            if isinstance(error, BadByteError) and encoding.startswith("utf-8"):
                raise CorpusError(explain(error, file)) from None
            raise CorpusError(
                f"{file}: some of it reads like {encoding}, but not what is near byte {reader.num_bytes}: it is "
                f"damaged, or two encodings are mixed, or it is no text; convert it to UTF-8 first"
            ) from None


def inspect(pieces: Iterable[str], encoding: str = "utf-8") -> TextReport:
    """Count a text that comes in pieces. Its memory is bounded, however long the text is."""
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    num_crlf, last = 0, "\n"
    ending, ending_len = deque[str](), 0
    waiting = ""  # a CR whose LF may be in the next piece
    for piece in chain(pieces, [None]):
        text = waiting if piece is None else waiting + piece
        waiting = "\r" if text.endswith("\r") and piece is not None else ""
        text = text.removesuffix(waiting)
        num_crlf += text.count("\r\n")
        text = text.replace("\r\n", "\n")
        points_N = np.frombuffer(text.encode(), np.uint8) if text.isascii() else code_points(text)
        found = np.bincount(points_N)
        counts[: len(found)] += found
        last = text[-1:] or last
        ending.append(text)
        ending_len += len(text)
        while ending_len - len(ending[0]) >= ENDING_CHARS:
            ending_len -= len(ending.popleft())
    return TextReport(
        encoding=encoding,
        num_chars=int(counts.sum()),
        counts=Counter({chr(point): int(counts[point]) for point in np.flatnonzero(counts)}),
        num_lines=int(counts[ord("\n")]) + (last != "\n"),
        num_crlf=num_crlf,
        ending="".join(ending)[-ENDING_CHARS:],
    )


def summary(report: TextReport) -> list[str]:
    """Sizes, encoding and alphabet."""
    lines = "1 line" if report.num_lines == 1 else f"{report.num_lines:,} lines"
    scripts = [f"{name} {share:.1%}" for name, share in report.scripts() if share >= MIN_SHARE][:NUM_SCRIPTS]
    return [
        f"{report.num_chars:,} characters in {lines}; {report.encoding}",
        f"{len(report.counts):,} distinct characters: {', '.join(scripts)}",
    ]


def oddities(report: TextReport) -> Iterator[str]:
    """The oddities of a text, a line each, with what is done about it or what to set."""
    if report.encoding == "utf-8-sig":
        yield "it begins with a byte order mark, which is left out (download.encoding: utf-8-sig)"
    if report.num_crlf:
        yield f"line ends that are CR LF: {report.num_crlf:,}; they become LF (download.newlines: lf)"
    if num_cr := report.counts["\r"]:
        yield f"{num_cr:,} CR without LF stay as they are; if they are line ends, convert the text first"
    for category, name in ODD_CATEGORIES.items():
        odd = {one: count for one, count in report.counts.items() if unicodedata.category(one) == category}
        if found := Counter({one: count for one, count in odd.items() if one not in ORDINARY}):
            yield f"{name}: {describe(found)}; they are learned like any other"
    if count := report.counts[UNSEEN]:
        yield f"U+FFFD {count:,} times: the text was converted wrongly before; look for a better copy"
    if (rare := sum(count < RARE for count in report.counts.values())) >= NUM_RARE:
        yield f"{rare:,} characters are there fewer than {RARE} times (encode.min_count makes rare ones U+FFFD)"
    has_other_breaks = any(one.splitlines() == [""] for one in report.counts if one != "\n")  # as prompts are cut
    if report.num_lines == 1 and report.num_chars > LONG_LINE and not has_other_breaks:
        yield "it is one line: prompts are beginnings of words"
