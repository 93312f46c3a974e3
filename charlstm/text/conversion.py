"""From the files of a source to the one UTF-8 text that is the corpus, in pieces."""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.storage.pieces import Advance, Digest, digest, read_pieces, write_pieces
from charlstm.text.encodings import explain
from charlstm.text.reading import BadByteError, Utf8Reader


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
