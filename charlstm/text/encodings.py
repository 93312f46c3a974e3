"""The encoding of a text: what its bytes say for sure, and guesses, each with what the text would read like."""

import codecs
import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.errors import CorpusError
from charlstm.files.pieces import read_pieces
from charlstm.text.corpus import BadByteError, TextReader, line_of

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

SAMPLE_BYTES = 16_384  # from a bad byte on
MAX_GUESSES = 3
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
# In charset-normalizer's measures from 0 to 1: `chaos`, a mess, and `coherence`, letters as often as in a language.
MAX_CHAOS = 0.05
LESS_CHAOS, MORE_COHERENCE = 0.05, 0.08  # than any other reading, for a guess to be taken
MANY_NULS = 0.2  # of the bytes: UTF-16 or UTF-32, if it is a text
ASCII, WESTERN = "ascii", "cp1252"  # the second before others that read a text alike, or are as likely
WESTERN_MARKS, FEW = "“”‘’‚„–—…«»‹›¿¡£€°§·•", 0.15  # beside letters; of the characters that are not ASCII
# What also reads as ASCII: wide characters of other scripts, with control characters; and Japanese, with escapes.
CONTROLS, JAPANESE, ESCAPES = {*range(32)} - {*b"\t\n\f\r"}, "iso2022_jp", (b"\x1b$", b"\x1b(")
MOST = 0.6


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


def detect_encoding(file: Path) -> tuple[str, bool]:
    """The encoding of a file that is not empty, and whether that is a guess. `ascii`: any but wide ones would do.

    A guess is taken only if the bytes are far more like a text in it than in any other.

    Raises:
        CorpusError: no encoding is sure enough; names the candidates.
    """
    head = next(read_pieces(file, 0, SAMPLE_BYTES))
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name, False
    if head.count(0) >= MANY_NULS * len(head):
        names = [match.encoding.replace("_", "-") for match in _matches(head[: len(head) // 4 * 4])]
        if wide := [name for name in names if name.startswith(("utf-16", "utf-32"))]:
            return wide[0], True
    try:
        reader, is_ascii = TextReader(), True
        for piece in read_pieces(file):
            reader.read(piece)
            is_ascii = is_ascii and piece.isascii()
        reader.read(b"", is_end=True)
    except BadByteError as error:
        matches = _matches(_from_line(*_around(file, error.offset)))
        if matches and _is_clear(*matches) and _name(matches[0]) != "utf_8":  # which it is not, unless it is cut
            return _name(matches[0]), True
        explained = explain(error, file)
        advice = "; `charlstm new` takes it as --encoding" if "it may be" in explained else ""
        raise CorpusError(f"{explained}{advice}") from None
    if hidden := _hidden_in_ascii(head):
        return hidden, True
    return ASCII if is_ascii else "utf-8", False


def _hidden_in_ascii(head: bytes) -> str | None:
    """The encoding of a text whose bytes are also ASCII, but would make no text so."""
    if any(escape in head for escape in ESCAPES):
        with contextlib.suppress(UnicodeError):
            text = codecs.getincrementaldecoder(JAPANESE)().decode(head)
            if sum(one.isalpha() or one.isspace() for one in text) >= MOST * len(text):
                return JAPANESE
    for name, first in (("utf-16-le", 1), ("utf-16-be", 0)):  # the bytes of a character that say its script
        scripts = head[first::2]
        script, number = Counter(scripts).most_common(1)[0] if scripts else (ord("a"), 0)
        if script in CONTROLS and number >= MOST * len(scripts):
            return name
    return None


def guess_encodings(sample: bytes) -> dict[str, str]:
    """At most 3 encodings in which `sample` reads like a text, the likeliest first, with previews.

    A preview begins with the line in which the readings differ first, or a few words before that place.
    """
    sample = sample.lstrip(b"\r\n")
    by_text: dict[str, str] = {}
    if (western := _western(sample)) is not None:
        by_text[western] = WESTERN
    for match in _matches(sample):
        by_text.setdefault(str(match), _name(match).replace("_", "-"))  # as iconv has it, too
    texts = list(by_text)[:MAX_GUESSES]
    shared = len(os.path.commonprefix(texts)) if len(texts) > 1 else 0

    def preview(text: str) -> str:
        line = text.rfind("\n", 0, shared) + 1
        word = text.rfind(" ", line, max(line, shared - PREVIEW_CHARS // 2)) + 1
        start = line if shared - line < PREVIEW_CHARS else max(line, word)
        return " ".join(text[start:].partition("\n")[0].split())[:PREVIEW_CHARS].rstrip("\ufffd")

    return {by_text[text]: preview(text) for text in texts}


def _western(sample: bytes) -> str | None:
    """The sample in the most common encoding of the West, if it reads like a text of mostly ASCII letters."""
    try:
        text = sample.decode(WESTERN)
    except UnicodeDecodeError:
        return None
    others = [one for one in text if not one.isascii()]
    is_text = all(one.isalpha() or one in WESTERN_MARKS for one in others) and CONTROLS.isdisjoint(sample)
    return text if is_text and 0 < len(others) <= FEW * len(text) else None


def explain(error: BadByteError, path: Path) -> str:
    """One line for a user: which byte of the file is bad, where, and what to set."""
    around, index = _around(path, error.offset)
    if _is_mostly_utf8(around) and not error.encoding.lower().startswith("utf-8"):
        advice = "the text around it is UTF-8: set download.encoding: utf-8"
    else:
        advice = _advice(around, index, "set download.encoding: {}")
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
        advice = _advice(content[: error.start + SAMPLE_BYTES], error.start, "convert it, e.g. `iconv -f {} -t utf-8`")
        raise CorpusError(f"{where}: {bad} (line {line}); {advice}") from None


def _around(path: Path, offset: int) -> tuple[bytes, int]:
    """The bytes before and after a byte of a file, and its index among them."""
    start = max(0, offset - SAMPLE_BYTES // 2)
    return b"".join(read_pieces(path, start, offset + SAMPLE_BYTES)), offset - start


def _from_line(around: bytes, index: int) -> bytes:
    """The bytes from the beginning of the line that has a bad byte at `index`.

    All before that is UTF-8, so mostly ASCII: its line begins with a whole character in any encoding.
    """
    return around[around.rfind(b"\n", 0, index) + 1 :]


def _advice(around: bytes, index: int, what_to_do: str) -> str:
    """Advice for the bad byte at `index`; `what_to_do` has room for an encoding's name."""
    if _is_mostly_utf8(around):
        rest = around[index:]
        if codecs.utf_8_decode(rest, "ignore", False)[1] == 0:  # Python waits for more bytes
            last = "its last byte" if len(rest) == 1 else f"its last {len(rest)} bytes"
            return f"the text before it is UTF-8, and ends within a character: leave off {last}"
        return "the text around it is UTF-8, so it is damaged there, or two encodings are mixed: mend that line"
    guesses = guess_encodings(_from_line(around, index))
    if not guesses:
        return "it reads like a text in no known encoding: look whether it is a text at all"
    read = ", or ".join(f"{name}, which reads {preview!r}" for name, preview in guesses.items())
    condition = "if that is right," if len(guesses) == 1 else "take the one that reads right, e.g."
    return f"it may be {read}; {condition} {what_to_do.format(next(iter(guesses)))}"


def _is_mostly_utf8(sample: bytes) -> bool:
    """Whether it has characters of several bytes, and hardly a byte that belongs to none."""
    text = sample.decode("utf-8", "replace")
    num_bad = text.count("\ufffd")
    num_good = sum(character > "\x7f" for character in text) - num_bad
    return num_good > 10 * num_bad


def _matches(sample: bytes) -> "list[CharsetMatch]":
    """How charset-normalizer reads it, the likeliest first."""
    import charset_normalizer  # texts that are UTF-8 do without it

    for num_cut in range(MAX_BYTES_OF_A_CHARACTER):  # the sample may end in the middle of a character
        if matches := list(charset_normalizer.from_bytes(sample[: len(sample) - num_cut], enable_fallback=False)):
            best = (matches[0].chaos, matches[0].coherence)
            return sorted(matches, key=lambda one: (one.chaos, one.coherence) != best or _name(one) != WESTERN)
    return []


def _name(match: "CharsetMatch") -> str:
    """The encoding's name; of several that read the sample alike, the most common in the West, if it is one."""
    return WESTERN if WESTERN in match.could_be_from_charset else match.encoding


def _is_clear(best: "CharsetMatch", *others: "CharsetMatch") -> bool:
    """Whether all others are far less like a text than the best, or the same text."""
    return best.chaos <= MAX_CHAOS and all(
        other.chaos - best.chaos >= LESS_CHAOS
        or best.coherence - other.coherence >= MORE_COHERENCE
        or str(other) == str(best)
        for other in others
    )
