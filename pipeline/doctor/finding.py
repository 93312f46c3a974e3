"""The doctor's findings: faults that end a run or spoil its result, and what is only slow or odd."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from charlstm.errors import CharlstmError


class Finding(NamedTuple):
    """One line: where, what was expected, what came, and what to do."""

    text: str
    is_error: bool


def error(text: str) -> Finding:
    """A fault that will make a run fail, or give a wrong result."""
    return Finding(text, True)


def warning(text: str) -> Finding:
    """A finding that something is slow, or odd."""
    return Finding(text, False)


def errors_of(check: Callable[[], object]) -> Iterator[Finding]:
    """An error if `check`, which a stage makes itself, refuses."""
    try:
        check()
    except CharlstmError as refusal:
        yield error(str(refusal))


def readable(check: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of `check`; a file that cannot be read is one, too."""
    try:
        yield from check
    except CharlstmError as refusal:
        yield error(str(refusal))
    except OSError as failure:
        where = f"{failure.filename}: " if failure.filename else ""
        yield error(f"{where}{failure.strerror or failure}")
