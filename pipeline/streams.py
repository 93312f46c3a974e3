"""Standard input of commands."""

import sys
from pathlib import Path
from typing import BinaryIO

from charlstm.errors import CorpusError

STDIN = Path("-")
MAX_TEXT_BYTES = 500_000_000  # limited, because the whole text is held in memory


def read_input(path: Path | None) -> str | None:
    """Return the whole text of a file, or of standard input if `path` is `-` or None.

    Return None if `path` is None and standard input is a terminal or closed.

    Raises:
        CorpusError: the text is not UTF-8 or too long, or standard input is closed.
        OSError: the file cannot be read.
    """
    if path is None and (sys.stdin is None or sys.stdin.isatty()):
        return None
    if path is not None and path != STDIN:
        with path.open("rb") as file:
            return _text_in(file, path)
    if sys.stdin is None:
        raise CorpusError("standard input is closed (`<&-`): pass a text on standard input")
    return _text_in(sys.stdin.buffer, "standard input")


def _text_in(file: BinaryIO, name: object) -> str:
    # A device such as /dev/zero has no end, so the size is limited while reading.
    content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise CorpusError(
            f"{name}: expected a text of at most {MAX_TEXT_BYTES:,} bytes, found a longer text; "
            "use only a part of it"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}: expected UTF-8 text, found an invalid byte at offset {error.start}; "
            "convert the text to UTF-8"
        ) from None
