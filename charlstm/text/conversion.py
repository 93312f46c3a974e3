"""From the files of a source, in whatever encoding, to the one UTF-8 text that is the corpus, in pieces."""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.files.pieces import Advance, Digest, digest, read_pieces, write_pieces
from charlstm.text.corpus import BadByteError, Utf8Reader, line_of

# In which encoding a text may be, where it is not UTF-8: guesses, each with what the text would read like.

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


class Guess(NamedTuple):
    """An encoding as Python names it, and the beginning of the text in it, on one line."""

    name: str
    preview: str


def guess_encodings(sample: bytes, shown: bytes | None = None) -> list[Guess]:
    """Encodings in which `sample` reads like a text, the likeliest first, at most `MAX_GUESSES`; none: it is no text.

    A byte order mark decides, then UTF-8 if the sample is that (its last character may be cut).
    The previews are of `shown`, a line of the same file, or of the sample's beginning.
    """
    shown = sample if shown is None else shown
    for mark, name in MARKS.items():
        if sample.startswith(mark) and _decodes(sample, name):
            return [Guess(name, _preview(sample, name))]
    if _decodes(sample, "utf-8"):
        return [Guess("utf-8", _preview(shown, "utf-8"))]
    cuts = (sample[: len(sample) - num_cut] for num_cut in range(MAX_BYTES_OF_A_CHARACTER))
    found = next(filter(None, map(_likely, cuts)), [])
    by_preview = {_preview(shown, name): name for name in reversed(found)}  # of those that read alike, the likeliest
    return [Guess(name, _preview(shown, name)) for name in found if name in by_preview.values()][:MAX_GUESSES]


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


def explain(error: BadByteError, path: Path) -> str:
    """One line for a user: which byte of the file is bad, where, and what to set."""
    start = max(0, error.offset - SAMPLE_BYTES // 2)
    around = b"".join(read_pieces(path, start, error.offset + SAMPLE_BYTES))
    if _is_mostly_utf8(around) and not error.encoding.lower().startswith("utf-8"):
        advice = "the text around it is UTF-8: set download.encoding: utf-8"
    else:
        advice = _advice(around, error.offset - start, "set download.encoding: {}")
    return f"{path}: {error} (line {line_of(path, error.offset)}); {advice}"


def decode(content: bytes, where: object) -> str:
    """UTF-8 as a text, newlines and all as they are.

    Raises:
        CorpusError: something else; `where` begins the message.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = BadByteError("UTF-8", content[error.start], error.start)
        line = 1 + content.count(b"\n", 0, error.start)
        advice = _advice(content[: error.start + SAMPLE_BYTES], error.start, "convert it, e.g. `iconv -f {} -t utf-8`")
        raise CorpusError(f"{where}: {bad} (line {line}); {advice}") from None


def _advice(around: bytes, place: int, what_to_do: str) -> str:
    """For the bad byte at `place`; `what_to_do` has room for an encoding's name."""
    if _is_mostly_utf8(around):
        return "the text around it is UTF-8, so it is damaged there, or two encodings are mixed: mend that line"
    # All before the bad byte is UTF-8, so mostly ASCII: its line begins with a whole character in any encoding.
    sample = around[around.rfind(b"\n", 0, place) + 1 :]
    guesses = guess_encodings(sample, sample.partition(b"\n")[0])
    if not guesses:
        return "it reads like a text in no known encoding: look whether it is a text at all"
    read = ", or ".join(f"{one.name}, which reads {one.preview!r}" for one in guesses)
    condition = "if that is right," if len(guesses) == 1 else "take the one that reads right, e.g."
    return f"it may be {read}; {condition} {what_to_do.format(guesses[0].name)}"


def _is_mostly_utf8(sample: bytes) -> bool:
    """Whether it has characters of several bytes, and hardly a byte that belongs to none."""
    text = sample.decode("utf-8", "replace")
    num_bad = text.count("\ufffd")
    num_good = sum(character > "\x7f" for character in text) - num_bad
    return num_good > 10 * num_bad


def _likely(sample: bytes) -> list[str]:
    """The likeliest encoding first; none if the sample's end is not the end of a character."""
    import charset_normalizer  # texts that are UTF-8 do without it

    return [match.encoding for match in charset_normalizer.from_bytes(sample, enable_fallback=False)]


def _decodes(sample: bytes, name: str) -> bool:
    try:
        codecs.getincrementaldecoder(name)().decode(sample)
    except UnicodeError:
        return False
    return True


def _preview(sample: bytes, name: str) -> str:
    text = " ".join(sample[: 8 * PREVIEW_CHARS].decode(name, "replace").split())
    return text[:PREVIEW_CHARS].rstrip("\ufffd")


# The files of a source as one UTF-8 text.


class Form(NamedTuple):
    """How the text lies in the source, and what becomes of its line ends."""

    encoding: str = "utf-8"  # as `check_encoding` gives it
    newlines: str = "keep"  # or lf: CR LF becomes LF
    separator: str = "\n"  # between files

    @property
    def keeps_bytes(self) -> bool:
        """Whether the corpus has the very bytes of the source."""
        return self.encoding == "utf-8" and self.newlines == "keep"


def write_corpus(
    target: Path, files: Sequence[Path], form: Form, check: Callable[[str], object], advance: Advance | None = None
) -> str:
    """Write the corpus whole or not at all; its SHA-256.

    `check` is called with the SHA-256 of the source, the files as they are with the separator between them, before
    the corpus takes its place. What it raises leaves nothing behind.

    Raises:
        CorpusError: a file is not in the encoding, or there is no text in it.
    """
    with digest() as source:
        pieces = _corpus(files, form, None if form.keeps_bytes else source)
        checked = check if form.keeps_bytes else lambda _: check(source.hexdigest())
        is_new = not target.parent.exists()
        try:
            return write_pieces(target, pieces, advance, checked)
        except BaseException:
            if is_new:
                with suppress(OSError):
                    target.parent.rmdir()
            raise


def corpus_sha256(files: Sequence[Path], form: Form) -> str:
    """The SHA-256 of the corpus that `write_corpus` would write.

    Raises:
        CorpusError: it would write none.
    """
    return _sha256(_corpus(files, form, None))


def source_sha256(files: Sequence[Path], separator: str) -> str:
    """The SHA-256 of a source's bytes, whatever they are."""
    between = separator.encode()
    return _sha256(
        piece for index, file in enumerate(files) for piece in chain([between] if index else [], read_pieces(file))
    )


def _sha256(pieces: Iterable[bytes]) -> str:
    found = sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def _corpus(files: Sequence[Path], form: Form, source: Digest | None) -> Iterator[bytes]:
    pieces = _joined(files, form, source)
    return _not_empty(_with_line_feeds(pieces) if form.newlines == "lf" else pieces, files, form)


def _joined(files: Sequence[Path], form: Form, source: Digest | None) -> Iterator[bytes]:
    """The files as UTF-8. The separator is UTF-8 in what is hashed, too: an encoding may have marks of its own."""
    for index, file in enumerate(files):
        if index:
            separator = form.separator.encode()
            if source:
                source.update(separator)
            yield separator
        pieces = _hashed(read_pieces(file), source) if source else read_pieces(file)
        try:
            yield from _checked(pieces) if form.encoding == "utf-8" else _converted(pieces, form.encoding)
        except BadByteError as error:
            raise CorpusError(explain(error, file)) from None
        except UnicodeError as error:  # UTF-16 without its mark, or surrogates, which no UTF-8 has
            advice = "; if it has no byte order mark, name utf-16-le or utf-16-be" if "BOM" in str(error) else ""
            raise CorpusError(f"{file}: expected {form.encoding}, found something else: {error}{advice}") from None


def _hashed(pieces: Iterable[bytes], source: Digest) -> Iterator[bytes]:
    for piece in pieces:
        source.update(piece)
        yield piece


def _checked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    reader = Utf8Reader()
    for piece in pieces:
        reader.read(piece)
        yield piece
    reader.end()


def _converted(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder, num_read = codecs.getincrementaldecoder(encoding)(), 0

    def decode(piece: bytes, is_end: bool) -> bytes:
        try:
            return decoder.decode(piece, is_end).encode()
        except UnicodeDecodeError as error:
            # The decoder may have kept the beginning of a character: it is part of what the error counts in.
            start = num_read + len(piece) - len(error.object) + error.start
            raise BadByteError(encoding, error.object[error.start], start) from None

    for piece in pieces:
        yield decode(piece, False)
        num_read += len(piece)
    yield decode(b"", True)


def _with_line_feeds(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""  # a CR whose LF may be in the next piece
    for piece in pieces:
        content = rest + piece
        rest = content[-1:] if content.endswith(b"\r") else b""
        yield content[: len(content) - len(rest)].replace(b"\r\n", b"\n")
    yield rest


def _not_empty(pieces: Iterable[bytes], files: Sequence[Path], form: Form) -> Iterator[bytes]:
    is_empty = True
    for piece in pieces:
        is_empty = is_empty and not piece
        yield piece
    if is_empty:
        raise CorpusError(f"{files[0]}: expected a text, found no character in {form.encoding}")
