"""Texts in whatever encoding become the one UTF-8 text that is the corpus. No encoding is guessed."""

import codecs
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from charlstm.corpus.parts import BadByteError, TextReader, line_of
from charlstm.errors import CorpusError
from charlstm.files.pieces import read_pieces

SAMPLE_BYTES = 16_384  # on either side of a bad byte
PREVIEW_CHARS = 40
# Longest first: the mark of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WHAT_TO_DO = "name the encoding by --encoding of `charlstm new` or download.encoding, e.g. {}"


class Form(NamedTuple):
    """How the text lies in the source, and what becomes of its line ends."""

    encoding: str = "utf-8"  # as `check_encoding` gives it
    newlines: str = "keep"  # or lf: CR LF becomes LF
    separator: str = "\n"  # between files


def check_encoding(name: str) -> str:
    """Python's own name of a text encoding; CorpusError if there is none that can be read in pieces."""
    try:
        codecs.getincrementaldecoder(name)()
        b"0".decode(name, "replace")  # refuses codecs that make no text, like hex
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        expected = "a text encoding as Python names it, e.g. utf-8, cp1251, gb18030 or utf-16"
        raise CorpusError(f"download.encoding: expected {expected}, got {name!r}") from None


def detect_encoding(file: Path) -> str:
    """The encoding of a file that is not empty: UTF-8, or what its byte order mark says; CorpusError for any other."""
    head = next(read_pieces(file, 0, SAMPLE_BYTES))
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if b"\0" in head:  # UTF-16 or UTF-32, whose ASCII is UTF-8, too
        advice = f"no text, or one without its mark; {WHAT_TO_DO.format('utf-16-le, utf-16-be or utf-32-le')}"
        raise CorpusError(f"{file}: expected UTF-8, found zero bytes: {advice}")
    for _ in read_as(file, "utf-8"):
        pass
    return "utf-8"


def corpus_pieces(files: Sequence[Path], form: Form) -> Iterator[bytes]:
    """The corpus in pieces of UTF-8; CorpusError if a file is not in the encoding."""
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
    """The text of a file in pieces; CorpusError names the first byte that is not in the encoding."""
    reader = TextReader(encoding)
    try:
        for piece in read_pieces(file):
            yield reader.read(piece)
        yield reader.read(b"", is_end=True)
    except BadByteError as error:
        raise CorpusError(explain(error, file)) from None
    except UnicodeError as error:  # UTF-16 without its mark
        raise CorpusError(f"{file}: expected {encoding}, found something else: {error}") from None


def explain(error: BadByteError, path: Path) -> str:
    """One line for a user: which byte of the file is bad, where, and what to do."""
    start = max(0, error.offset - SAMPLE_BYTES)
    around = b"".join(read_pieces(path, start, error.offset + SAMPLE_BYTES))
    word = 1 + max(
        around.rfind(space, 0, error.offset - start) for space in (b" ", b"\n")
    )  # where it begins
    as_utf8 = around.decode("utf-8", "replace")
    if sum(one > "\x7f" for one in as_utf8) > 10 * as_utf8.count("\ufffd"):
        advice = "the text around it is UTF-8: mend that line, or set download.encoding: utf-8"
    elif found := likeliest(around[word:]):
        advice = f"it may be {found[0]}, which reads {found[1]!r}; {WHAT_TO_DO.format(found[0])}"
    else:
        advice = "it reads like a text in no known encoding: look whether it is a text at all"
    return f"{path}: {error} (line {line_of(path, error.offset)}); {advice}"


def likeliest(sample: bytes) -> tuple[str, str] | None:
    """The likeliest encoding of a text, and how it begins in that; None if it reads like a text in none."""
    import charset_normalizer  # texts that are UTF-8 do without it

    whole = sample.rpartition(b"\n")[0] or sample  # which may end in the middle of a character
    for asked_for in (["cp1252"], None):  # among all, cp1252 is passed over where others read alike
        best = charset_normalizer.from_bytes(
            whole, cp_isolation=asked_for, enable_fallback=False
        ).best()
        if best is not None:
            return best.encoding.replace("_", "-"), " ".join(str(best)[:PREVIEW_CHARS].split())
    return None
