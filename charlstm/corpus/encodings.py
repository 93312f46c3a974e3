"""The encoding of a text: UTF-8 or what its byte order mark says; else a question about candidates."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from charlstm.corpus.parts import BadByteError, TextReader, line_of
from charlstm.errors import CorpusError
from charlstm.files.atomic import read_pieces

SAMPLE_BYTES = 16_384  # on either side of a bad byte
MAX_CANDIDATES = 3
PREVIEW_CHARS = 40
# Longest first: the mark of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MANY_NULS = 0.2  # of the bytes: UTF-16 or UTF-32, whose ASCII is UTF-8, too
WHAT_TO_DO = "name the one that reads right, --encoding of `charlstm new` or download.encoding, e.g. {}"


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
    """The encoding of a file that is not empty: UTF-8, or what its byte order mark says.

    Raises:
        CorpusError: it is neither; names the candidates.
    """
    head = next(read_pieces(file, 0, SAMPLE_BYTES))
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if head.count(0) >= MANY_NULS * len(head):
        advice = f"no text, or one without its mark; {WHAT_TO_DO.format('utf-16-le, utf-16-be or utf-32-le')}"
        raise CorpusError(f"{file}: expected UTF-8, found many zero bytes: {advice}")
    for _ in read_as(file, "utf-8"):
        pass
    return "utf-8"


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


def candidates(sample: bytes) -> dict[str, str]:
    """At most 3 encodings in which `sample` reads like a text, the likeliest first, with what differs between them."""
    import charset_normalizer  # texts that are UTF-8 do without it

    by_text: dict[str, str] = {}
    for num_cut in range(4):  # the sample may end in the middle of a character
        whole = sample[: len(sample) - num_cut]
        for asked_for in (["cp1252"], None):  # among all, it is passed over where others read alike
            for match in charset_normalizer.from_bytes(whole, cp_isolation=asked_for, enable_fallback=False):
                by_text.setdefault(str(match), match.encoding.replace("_", "-"))  # as iconv has it, too
        if by_text:
            break
    texts = list(by_text)[:MAX_CANDIDATES]
    start = max(0, len(os.path.commonprefix(texts)) - PREVIEW_CHARS // 2) if len(texts) > 1 else 0
    return {by_text[text]: " ".join(text[start : start + PREVIEW_CHARS].split()) for text in texts}


def explain(error: BadByteError, path: Path) -> str:
    """One line for a user: which byte of the file is bad, where, and what to do."""
    start = max(0, error.offset - SAMPLE_BYTES)
    around = b"".join(read_pieces(path, start, error.offset + SAMPLE_BYTES))
    as_utf8 = around.decode("utf-8", "replace")
    if sum(one > "\x7f" for one in as_utf8) > 10 * as_utf8.count("\ufffd"):
        is_utf8 = error.encoding.lower().startswith("utf-8")
        advice = "the text around it is UTF-8: " + ("mend that line" if is_utf8 else "set download.encoding: utf-8")
    elif found := candidates(around[error.offset - start :]):
        read = ", or ".join(f"{name}, which reads {preview!r}" for name, preview in found.items())
        advice = f"it may be {read}; {WHAT_TO_DO.format(next(iter(found)))}"
    else:
        advice = "it reads like a text in no known encoding: look whether it is a text at all"
    return f"{path}: {error} (line {line_of(path, error.offset)}); {advice}"


def decode(content: bytes, where: object) -> str:
    """UTF-8 as a text; CorpusError if it is something else, whose message begins with `where`."""
    try:
        return TextReader().read(content, is_end=True)
    except BadByteError as error:
        raise CorpusError(f"{where}: {error}; convert it, e.g. by `iconv -t utf-8 -f ENCODING`") from None
