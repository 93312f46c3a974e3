"""A file that is compared with its checksum while it is read, so that it is not read once more for that alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlstm.errors import CharlstmError
from charlstm.storage.checksums import check_digest, read_sums
from charlstm.storage.pieces import Advance, Digest, digest, read_pieces


@contextmanager
def verified(sums: Path, name: str, advance: Advance | None = None) -> Iterator[Iterator[bytes]]:
    """The pieces of a file beside `sums`. At the end, the file is known to be the one that `sums` names.

    What is wrong with the bytes themselves is reported only if the checksum is right.

    Raises:
        ChecksumError: `sums` is missing or damaged, or the file is not the one that it names.
    """
    expected = read_sums(sums)
    with digest() as found:
        pieces = _hashed(sums.parent / name, found, advance)
        try:
            yield pieces
        except CharlstmError:
            if not (sums.parent / name).is_file():  # which the reader has said
                raise
            _finish(pieces)
            check_digest(sums, name, expected, found.hexdigest())
            raise
        _finish(pieces)
        check_digest(sums, name, expected, found.hexdigest())


def _hashed(path: Path, found: Digest, advance: Advance | None) -> Iterator[bytes]:
    for piece in read_pieces(path):
        found.update(piece)
        if advance:
            advance(len(piece))
        yield piece


def _finish(pieces: Iterator[bytes]) -> None:
    for _ in pieces:
        pass
