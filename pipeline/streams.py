"""Standard input and output of commands."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import typer

from charlstm.errors import CorpusError

STDIN = Path("-")
CLOSED_PIPE = 141  # as the shell has it of a program that SIGPIPE ends
MAX_TEXT_BYTES = 500_000_000  # it is held in memory


def has_stdin() -> bool:
    """Whether something other than a terminal is to be read."""
    return sys.stdin is not None and not sys.stdin.isatty()


def read_file(path: Path) -> str:
    """The whole text of a file, or of standard input for `-`.

    Raises:
        CorpusError: it is not UTF-8 or has no end, or standard input is closed.
        OSError: it cannot be read.
    """
    if path != STDIN:
        if not path.exists():
            raise CorpusError(f"{path}: no such file; `-` reads a text from standard input")
        with path.open("rb") as file:
            return _text_in(file, path)
    if sys.stdin is None:
        raise CorpusError("standard input: expected a text, found it closed (`<&-`)")
    return _text_in(sys.stdin.buffer, "standard input")


def _text_in(file: BinaryIO, name: object) -> str:
    content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise CorpusError(f"{name}: expected a text of at most {MAX_TEXT_BYTES:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}: expected UTF-8, found another byte at offset {error.start}"
        ) from None


@contextmanager
def to_the_end_of_a_pipe() -> Iterator[None]:
    """A reader that stops reading, e.g. `| head -1`, ends the command without a word, as it ends `cat`."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123  # else Python tries to write the rest when it exits
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(CLOSED_PIPE) from None
        raise
