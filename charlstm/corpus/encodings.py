"""The encoding of a text: what its bytes say for sure; else what charset-normalizer takes it for, as a question."""

import codecs
import os
from pathlib import Path

from charlstm.corpus.parts import BadByteError, TextReader, line_of
from charlstm.errors import CorpusError
from charlstm.files.pieces import read_pieces

SAMPLE_BYTES = 16_384  # from a bad byte on
MAX_CANDIDATES = 3
PREVIEW_CHARS = 40
MAX_BYTES_OF_A_CHARACTER = 4
# Longest first: the mark of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NOT_IN_PIECES = ("idna", "punycode", "undefined")  # Python's codecs for names of hosts, and the one that always fails
WESTERN, MAC = "cp1252", "mac_roman"  # named before others that read a sample alike; the first one is also shown first
MANY_NULS = 0.2  # of the bytes: UTF-16 or UTF-32, if it is a text
WHAT_TO_DO = "name the one that reads right, --encoding of `charlstm new` or download.encoding, e.g. {}"


def check_encoding(name: str) -> str:
    """Python's own name of a text encoding.

    Raises:
        CorpusError: there is none of this name, or none that can be read in pieces.
    """
    try:
        found = codecs.lookup(name).name
        if found in NOT_IN_PIECES:
            raise LookupError
        "".encode(found)
        b"0".decode(found, "replace")  # refuses codecs that make no text, like hex
    except (LookupError, ValueError):
        raise CorpusError(
            f"download.encoding: expected a text encoding as Python names it, e.g. utf-8, cp1251, gb18030 or utf-16, "
            f"got {name!r}"
        ) from None
    return found


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
        advice = WHAT_TO_DO.format("utf-16-le, utf-16-be or utf-32-le")
        raise CorpusError(
            f"{file}: expected UTF-8, found many zero bytes: UTF-16 without its mark, or no text; {advice}"
        )
    reader = TextReader()
    try:
        for piece in read_pieces(file):
            reader.read(piece)
        reader.read(b"", is_end=True)
    except BadByteError as error:
        raise CorpusError(explain(error, file)) from None
    return "utf-8"


def candidates(sample: bytes) -> dict[str, str]:
    """At most 3 encodings in which `sample` reads like a text, the likeliest first, with what differs between them."""
    import charset_normalizer  # texts that are UTF-8 do without it

    by_text: dict[str, str] = {}
    for num_cut in range(MAX_BYTES_OF_A_CHARACTER):  # the sample may end in the middle of a character
        whole = sample[: len(sample) - num_cut]
        for asked_for in ([WESTERN], None):  # among all, it is passed over where others read alike
            for match in charset_normalizer.from_bytes(whole, cp_isolation=asked_for, enable_fallback=False):
                common = [name for name in (WESTERN, MAC) if name in match.could_be_from_charset]
                by_text.setdefault(str(match), [*common, match.encoding][0].replace("_", "-"))  # as iconv has it, too
        if by_text:
            break
    texts = list(by_text)[:MAX_CANDIDATES]
    shared = len(os.path.commonprefix(texts)) if len(texts) > 1 else 0
    starts = [max(text.rfind("\n", 0, shared) + 1, shared - PREVIEW_CHARS // 2) for text in texts]
    lines = [text[start:].partition("\n")[0] for text, start in zip(texts, starts, strict=True)]
    return {by_text[text]: line[:PREVIEW_CHARS].strip() for text, line in zip(texts, lines, strict=True)}


def explain(error: BadByteError, path: Path) -> str:
    """One line for a user: which byte of the file is bad, where, and what to do."""
    start = max(0, error.offset - SAMPLE_BYTES // 2)
    around = b"".join(read_pieces(path, start, error.offset + SAMPLE_BYTES))
    advice = _advice(around, error.offset - start, error.encoding)
    return f"{path}: {error} (line {line_of(path, error.offset)}); {advice}"


def decode(content: bytes, where: object) -> str:
    """UTF-8 as a text, newlines and all as they are.

    Raises:
        CorpusError: something else; `where` begins the message.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = BadByteError("utf-8", content[error.start], error.start)
        line = 1 + content.count(b"\n", 0, error.start)
        raise CorpusError(f"{where}: {bad} (line {line}); convert it, e.g. by `iconv -t utf-8 -f ENCODING`") from None


def _advice(around: bytes, index: int, encoding: str) -> str:
    """Advice for the byte at `index` that is not in `encoding`."""
    if _is_mostly_utf8(around):
        is_utf8 = encoding.lower().startswith("utf-8")
        return "the text around it is UTF-8: " + ("mend that line" if is_utf8 else "set download.encoding: utf-8")
    # Before the byte all is UTF-8, mostly ASCII: its line begins with a whole character in any encoding.
    found = candidates(around[around.rfind(b"\n", 0, index) + 1 :])
    if not found:
        return "it reads like a text in no known encoding: look whether it is a text at all"
    read = ", or ".join(f"{name}, which reads {preview!r}" for name, preview in found.items())
    return f"it may be {read}; {WHAT_TO_DO.format(next(iter(found)))}"


def _is_mostly_utf8(sample: bytes) -> bool:
    """Whether it has characters of several bytes, and hardly a byte that belongs to none."""
    text = sample.decode("utf-8", "replace")
    num_bad = text.count("\ufffd")
    num_good = sum(character > "\x7f" for character in text) - num_bad
    return num_good > 10 * num_bad
