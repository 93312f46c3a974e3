"""The standard streams: texts that a command is given, and text that it writes.

It is safe on a terminal and raw UTF-8 elsewhere. A reader that stops reading ends the command without a word.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from charlstm.errors import CorpusError
from charlstm.text.encodings import decode
from pipeline.stage.terminal import printable

# Texts that a command is given: an argument, a file, or standard input.

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


# Text on standard output.

CLOSED_PIPE = 141  # as the shell has it of a program that SIGPIPE ends
SECONDS_BETWEEN_FLUSHES = 0.02


class Output:
    """Writes generated text."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._is_line_open = False

    def write(self, text: str) -> None:
        """A piece of text."""
        if self.is_terminal:
            sys.stdout.write(printable(text, sys.stdout.encoding))
        else:
            sys.stdout.buffer.write(text.encode())
        self._is_line_open = not text.endswith("\n") if text else self._is_line_open

    def stream(self, characters: Iterable[str]) -> None:
        """Pieces as they come, some 50 times a second; what came before an interruption is shown, too."""
        pending, flushed = "", 0.0
        try:
            for character in characters:
                pending += character
                if (now := time.monotonic()) - flushed >= SECONDS_BETWEEN_FLUSHES:
                    self.write(pending)
                    sys.stdout.flush()
                    pending, flushed = "", now
        finally:
            self.write(pending)

    def end(self) -> None:
        """The newline after a text."""
        self.write("\n")
        sys.stdout.flush()

    def end_line(self) -> None:
        """Leave a terminal at the beginning of a line."""
        if self.is_terminal and self._is_line_open:
            self.end()


@contextmanager
def to_the_end_of_a_pipe() -> Iterator[None]:
    """A reader that stops reading, e.g. `| head -1`, ends the command without a word, as it ends `cat`.

    What could not be written is not tried again when Python exits.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard()
        raise typer.Exit(CLOSED_PIPE) from None
    except OSError:
        _discard()
        raise


def _discard() -> None:
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), sys.stdout.fileno())
