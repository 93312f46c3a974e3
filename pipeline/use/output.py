"""Text on standard output: safe on a terminal, raw UTF-8 elsewhere; and what happens when nobody reads it any more."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer

from pipeline.common.terminal import printable

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
