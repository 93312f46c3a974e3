"""Conversion of texts in any encoding to UTF-8. The encoding is never guessed."""

import codecs
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from charlstm.corpus.parts import BadByteError, decoded, line_of
from charlstm.errors import CorpusError
from charlstm.files.atomic import read_pieces

SAMPLE_BYTES = 16_384  # bytes to read on each side of an invalid byte
PREVIEW_CHARS = 40
# UTF-32 comes first, because its little-endian byte-order mark begins with the mark of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WHAT_TO_DO = "set the encoding with `charlstm new --encoding` or in download.encoding, e.g. {}"


class Form(NamedTuple):
    """The format of a source's files."""

    encoding: str = "utf-8"
    """Python's name for the encoding, as `check_encoding` returns it."""
    newlines: str = "keep"
    """Treatment of newlines: "keep", or "lf" to replace CR LF by LF."""


def check_encoding(name: str) -> str:
    """Return Python's canonical name for a text encoding.

    Raises:
        CorpusError: the encoding is unknown, or cannot be decoded in pieces.
    """
    try:
        codecs.getincrementaldecoder(name)()
        b"0".decode(name, "replace")  # rejects codecs such as hex, which do not produce text
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        expected = "a text encoding as Python names it, e.g. utf-8, cp1251, gb18030 or utf-16"
        raise CorpusError(f"download.encoding: expected {expected}, got {name!r}") from None


def detect_encoding(file: Path) -> str:
    """Return the encoding of a nonempty file by its byte-order mark, or UTF-8 if it has no mark.

    Raises:
        CorpusError: the file has no byte-order mark and is not UTF-8.
    """
    head = next(read_pieces(file, 0, SAMPLE_BYTES))
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    # Without a byte-order mark, ASCII text in UTF-16 or UTF-32 looks like UTF-8 with NUL bytes.
    if b"\0" in head:
        advice = WHAT_TO_DO.format("utf-16-le, utf-16-be or utf-32-le")
        reason = "the file is not text, or lacks a byte-order mark"
        raise CorpusError(f"{file}: expected UTF-8, found NUL bytes: {reason}; {advice}")
    for _ in read_as(file, "utf-8"):
        pass
    return "utf-8"


def corpus_pieces(files: Sequence[Path], form: Form) -> Iterator[bytes]:
    """Convert files from `form.encoding` to UTF-8, and yield the corpus in pieces.

    Raises:
        CorpusError: a file is in another encoding.
    """
    rest = ""  # a CR at the end of a piece, because the next piece may begin with its LF
    for index, file in enumerate(files):
        for piece in chain(["\n" if index else ""], read_as(file, form.encoding)):
            text = rest + piece
            if form.newlines == "lf":
                rest = "\r" if text.endswith("\r") else ""
                text = text.removesuffix(rest).replace("\r\n", "\n")
            yield text.encode()
    yield rest.encode()


def read_as(file: Path, encoding: str) -> Iterator[str]:
    """Decode a file and yield its text in pieces.

    Raises:
        CorpusError: the file is not in the encoding. The message explains the first invalid byte.
    """
    try:
        yield from decoded(read_pieces(file), encoding)
    except BadByteError as error:
        raise CorpusError(explain(error, file)) from None
    except UnicodeError as error:  # UTF-16 without a byte-order mark
        raise CorpusError(f"{file}: cannot decode the file as {encoding}: {error}") from None


def explain(error: BadByteError, path: Path) -> str:
    """Return a one-line message: the invalid byte, its position in the file, and what to do."""
    start = max(0, error.offset - SAMPLE_BYTES)
    around = b"".join(read_pieces(path, start, error.offset + SAMPLE_BYTES))
    as_utf8 = around.decode("utf-8", "replace")
    bad = error.offset - start
    word = 1 + max(around.rfind(b" ", 0, bad), around.rfind(b"\n", 0, bad))

    # A damaged UTF-8 text has many more valid non-ASCII characters than invalid bytes.
    if sum(character > "\x7f" for character in as_utf8) > 10 * as_utf8.count("\ufffd"):
        advice = "the text around it is UTF-8: fix this line, or set download.encoding to utf-8"
    elif found := likeliest(around[word:]):
        advice = (
            f"the encoding may be {found[0]}, which decodes the text as {found[1]!r}; "
            f"{WHAT_TO_DO.format(found[0])}"
        )
    else:
        advice = "the file is not a text in any known encoding: check whether it is a text at all"
    return f"{path}: {error} (line {line_of(path, error.offset)}); {advice}"


def likeliest(sample: bytes) -> tuple[str, str] | None:
    """Return the most likely encoding of a sample, and the beginning of the decoded text.

    Return None if no encoding decodes the sample as a plausible text.
    """
    import charset_normalizer  # imported lazily: UTF-8 texts do not need it

    # The sample may end in the middle of a character, but a complete line cannot.
    lines = sample.rpartition(b"\n")[0] or sample
    # Try cp1252 alone first, because encodings that decode identically would win against it.
    for candidates in (["cp1252"], None):
        if best := charset_normalizer.from_bytes(
            lines, cp_isolation=candidates, enable_fallback=False
        ).best():
            return best.encoding.replace("_", "-"), " ".join(str(best)[:PREVIEW_CHARS].split())
    return None
