"""Reads the whole text once: its encoding, and what it is made of."""

import codecs
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import charset_normalizer
from tqdm import tqdm

from charlstm.errors import CorpusError
from charlstm.storage.pieces import read_pieces
from charlstm.text.encodings import MARKS, SAMPLE_BYTES, explain
from charlstm.text.inspection import Findings, Inspection
from charlstm.text.reading import BadByteError, Characters, Utf8Reader

BOM = "\N{BYTE ORDER MARK}"
PREVIEW_CHARS = 60
MIN_DISTANCE = 0.05  # in charset-normalizer's measure of a mess, from 0 to 1, between the first guess and the second
MAX_MESS = 0.05
MANY_NULS = 0.2  # of the bytes: UTF-16 or UTF-32, if it is a text
BYTES_OF_A_BAR = 200_000_000  # from that size on, the reading is shown


class Look(NamedTuple):
    """What the files are: one encoding for all of them, and what their characters are."""

    encoding: str  # as Python names it
    is_guessed: bool
    num_bytes: int
    findings: Findings
    preview: str  # of the beginning, on one line


def look_at(files: Sequence[Path], separator: str) -> Look:
    """Read the files, as they will be when `separator` joins them.

    Raises:
        CorpusError: a file is no text in an encoding that is known for sure, or files differ in it, or all are empty.
        OSError: a file cannot be read.
    """
    encoding, is_guessed = _encoding_of_all(files)
    inspection, preview = Inspection(), ""
    num_bytes = sum(file.stat().st_size for file in files)
    with tqdm(total=num_bytes, unit="B", unit_scale=True, leave=False, disable=_is_short(num_bytes)) as bar:
        for number, file in enumerate(files):
            if number:
                inspection.add(separator)
            for piece in _characters(file, encoding, bar):
                inspection.add(piece)
                if len(preview) < PREVIEW_CHARS:
                    preview += piece[: 8 * PREVIEW_CHARS].decode() if isinstance(piece, bytes) else piece
    findings = inspection.findings()
    if findings.num_chars == 0:
        raise CorpusError(f"{files[0]}: expected a text, found an empty file")
    return Look(encoding, is_guessed, num_bytes, findings, " ".join(preview[: 8 * PREVIEW_CHARS].split()))


def _is_short(num_bytes: int) -> bool:
    return num_bytes < BYTES_OF_A_BAR or not sys.stderr.isatty()


def _encoding_of_all(files: Sequence[Path]) -> tuple[str, bool]:
    found = {file: _encoding_of(file) for file in files if file.stat().st_size}
    names = {name for name, _ in found.values()}
    if names <= {"utf-8", "utf-8-sig"}:  # which also reads what has no mark
        return ("utf-8-sig" if "utf-8-sig" in names else "utf-8"), False
    if len(names) > 1:
        examples = ", ".join(
            f"{next(str(file) for file, one in found.items() if one[0] == name)}: {name}" for name in sorted(names)
        )
        raise CorpusError(f"expected files in one encoding, found several ({examples}): convert them first")
    return next(iter(found.values()))


def _encoding_of(file: Path) -> tuple[str, bool]:
    """Its encoding, and whether that is a guess."""
    head = next(read_pieces(file, 0, SAMPLE_BYTES))
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name, False
    if head.count(0) >= MANY_NULS * len(head) and (wide := _wide(head)):
        return wide, True
    try:
        reader = Utf8Reader()
        for piece in read_pieces(file):
            reader.read(piece)
        reader.end()
    except BadByteError as error:
        return _confident(file, error), True
    return "utf-8", False


def _wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, if the beginning reads like a text in it."""
    whole = head[: len(head) // 4 * 4]
    guesses = [match.encoding for match in charset_normalizer.from_bytes(whole, enable_fallback=False)]
    return next((name.replace("_", "-") for name in guesses if name.startswith(("utf_16", "utf_32"))), None)


def _confident(file: Path, error: BadByteError) -> str:
    """The encoding in which the bytes from the first bad one's line on are far more like a text than in any other.

    Raises:
        CorpusError: there is none; names the candidates.
    """
    start = max(0, error.offset - SAMPLE_BYTES // 2)
    around = b"".join(read_pieces(file, start, error.offset + SAMPLE_BYTES))
    sample = around[around.rfind(b"\n", 0, error.offset - start) + 1 :]
    for cut in range(4):  # the sample may end in the middle of a character
        found = list(charset_normalizer.from_bytes(sample[: len(sample) - cut], enable_fallback=False))
        if (
            found
            and found[0].chaos <= MAX_MESS
            and (len(found) == 1 or found[1].chaos >= found[0].chaos + MIN_DISTANCE)
        ):
            return found[0].encoding
    raise CorpusError(explain(error, file))


def _characters(file: Path, encoding: str, bar: "tqdm[None]") -> Iterator[Characters]:
    if encoding in ("utf-8", "utf-8-sig"):
        reader, is_first = Utf8Reader(), True
        for piece in read_pieces(file):
            bar.update(len(piece))
            read = reader.read(piece)
            yield read.removeprefix(BOM) if is_first and isinstance(read, str) else read
            is_first = False
        return
    decoder, num_bytes = codecs.getincrementaldecoder(encoding)(), 0
    try:
        for piece in read_pieces(file):
            bar.update(len(piece))
            yield decoder.decode(piece)
            num_bytes += len(piece)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{file}: it begins like {encoding}, but is no {encoding} near byte {num_bytes + error.start}: it is "
            f"damaged, or two encodings are mixed, or it is no text; convert it to UTF-8 first"
        ) from None
