"""Conversion of texts in any encoding to UTF-8. The encoding is never guessed."""

import codecs
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from charlstm.corpus.parts import BadByteError, TextReader, line_of
from charlstm.errors import CorpusError
from charlstm.files.pieces import read_pieces

SAMPLE_BYTES = 16_384  # read on either side of a bad byte
PREVIEW_CHARS = 40
# Longest first, because the byte-order mark of UTF-32-LE begins with that of UTF-16-LE.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WHAT_TO_DO = "set the encoding by `charlstm new --encoding` or download.encoding, e.g. {}"


class Form(NamedTuple):
    """The format of a source's files."""

    encoding: str = "utf-8"
    """Python's name of the encoding, as `check_encoding` returns it."""
    newlines: str = "keep"
    """Treatment of newlines: "keep", or "lf" to replace CR LF by LF."""
    separator: str = "\n"
    """Text that is inserted between files."""


def check_encoding(name: str) -> str:
    """Return Python's canonical name of a text encoding.

    Raises:
        CorpusError: the encoding is unknown, or cannot be decoded in pieces.
    """
    try:
        codecs.getincrementaldecoder(name)()
        b"0".decode(name, "replace")  # refuses codecs that do not produce text, such as hex
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        expected = "a text encoding as Python names it, e.g. utf-8, cp1251, gb18030 or utf-16"
        raise CorpusError(f"download.encoding: expected {expected}, got {name!r}") from None


def detect_encoding(file: Path) -> str:
    """Return the encoding of a nonempty file: that of its byte-order mark, or else UTF-8.

    Raises:
        CorpusError: the file has no byte-order mark and is not UTF-8.
    """
    head = next(read_pieces(file, 0, SAMPLE_BYTES))
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    # ASCII text in UTF-16 or UTF-32 is also valid UTF-8, with zero bytes.
    if b"\0" in head:
        advice = WHAT_TO_DO.format("utf-16-le, utf-16-be or utf-32-le")
        reason = "it is not a text, or lacks its byte-order mark"
        raise CorpusError(f"{file}: expected UTF-8, found zero bytes: {reason}; {advice}")
    for _ in read_as(file, "utf-8"):
        pass
    return "utf-8"


def corpus_pieces(files: Sequence[Path], form: Form) -> Iterator[bytes]:
    """Yield the corpus in pieces of UTF-8. Raise CorpusError if a file is not in the encoding."""
    rest = ""  # a CR whose LF may be in the next piece
    for index, file in enumerate(files):
        for piece in chain([form.separator if index else ""], read_as(file, form.encoding)):
            text = rest + piece
            if form.newlines == "lf":
                rest = "\r" if text.endswith("\r") else ""
                text = text.removesuffix(rest).replace("\r\n", "\n")
            yield text.encode()
    yield rest.encode()


def read_as(file: Path, encoding: str) -> Iterator[str]:
    """Yield the text of a file in pieces.

    Raises:
        CorpusError: the file is not in the encoding. The message explains the first bad byte.
    """
    reader = TextReader(encoding)
    try:
        for piece in read_pieces(file):
            yield reader.read(piece)
        yield reader.read(b"", is_end=True)
    except BadByteError as error:
        raise CorpusError(explain(error, file)) from None
    except UnicodeError as error:  # UTF-16 without its byte-order mark
        raise CorpusError(f"{file}: expected {encoding}, found something else: {error}") from None


def explain(error: BadByteError, path: Path) -> str:
    """Return one line for the user: the bad byte, its place in the file, what to do."""
    start = max(0, error.offset - SAMPLE_BYTES)
    around = b"".join(read_pieces(path, start, error.offset + SAMPLE_BYTES))
    as_utf8 = around.decode("utf-8", "replace")
    bad = error.offset - start
    word = 1 + max(around.rfind(b" ", 0, bad), around.rfind(b"\n", 0, bad))

    # A damaged UTF-8 text has many more valid characters beyond ASCII than invalid ones.
    if sum(character > "\x7f" for character in as_utf8) > 10 * as_utf8.count("\ufffd"):
        advice = "the text around it is UTF-8: fix that line, or set download.encoding: utf-8"
    elif found := likeliest(around[word:]):
        advice = f"it may be {found[0]}, which reads {found[1]!r}; {WHAT_TO_DO.format(found[0])}"
    else:
        advice = "it is no text in a known encoding: check whether the file is a text at all"
    return f"{path}: {error} (line {line_of(path, error.offset)}); {advice}"


def likeliest(sample: bytes) -> tuple[str, str] | None:
    """Return the likeliest encoding of a text, and the beginning of the text decoded with it.

    Return None if no encoding decodes the sample as a plausible text.
    """
    import charset_normalizer  # imported lazily: UTF-8 texts do not need it

    # The sample may end inside a character, but a whole line does not.
    lines = sample.rpartition(b"\n")[0] or sample
    # Try cp1252 first: when all encodings compete, it loses to others that decode identically.
    for candidates in (["cp1252"], None):
        if best := charset_normalizer.from_bytes(
            lines, cp_isolation=candidates, enable_fallback=False
        ).best():
            return best.encoding.replace("_", "-"), " ".join(str(best)[:PREVIEW_CHARS].split())
    return None
