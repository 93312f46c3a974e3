"""Texts that a command is given: an argument, a file, or standard input."""

import sys
from collections import Counter
from pathlib import Path

from charlstm.errors import CorpusError
from charlstm.text.encodings import decode
from pipeline.common.terminal import printable

STDIN = Path("-")


def has_stdin() -> bool:
    """Whether something other than a terminal is to be read."""
    return sys.stdin is not None and not sys.stdin.isatty()


def read_file(path: Path) -> str:
    """The whole text of a file, or of standard input for `-`.

    Raises:
        CorpusError: it is not UTF-8, or standard input is closed.
        OSError: it cannot be read.
    """
    if path == STDIN:
        if sys.stdin is None:
            raise CorpusError("standard input: expected a text, found it closed (`<&-`)")
        return decode(sys.stdin.buffer.read(), "standard input")
    return decode(path.read_bytes(), path)


def argument(name: str, text: str) -> str:
    """An argument of the command line.

    Raises:
        CorpusError: it is not UTF-8: Python then has surrogates for its bytes.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise CorpusError(f"{name}: expected UTF-8, got {text!r}") from None
    return text


def without_last_newline(text: str) -> str:
    """As the shell's `$(cat FILE)` has it, but for one newline only: the one that ends the last line of a file."""
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\r\n") else text.removesuffix("\n")


def note_of(replaced: Counter[tuple[str, str]]) -> str:
    """What was exchanged, in one line."""
    pairs = [
        f"{_shown(old)} -> {_shown(new) if new else 'nothing'} ({count})" for (old, new), count in replaced.items()
    ]
    return f"note: characters that the model never saw were exchanged: {', '.join(pairs[:10])}" + (
        f" and {len(pairs) - 10} more" if len(pairs) > 10 else ""
    )


def _shown(character: str) -> str:
    return printable(repr(character), sys.stderr.encoding)
