"""What the doctor finds: faults that end a run or spoil its result, and what is only slow or odd."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from charlstm.errors import CharlstmError


class Finding(NamedTuple):
    """One line: where, what was expected, what came, and what to do."""

    text: str
    is_error: bool


def error(text: str) -> Finding:
    """What will fail, or give a wrong result."""
    return Finding(text, True)


def warning(text: str) -> Finding:
    """What is slow, or odd."""
    return Finding(text, False)


def errors_of(check: Callable[[], object]) -> Iterator[Finding]:
    """What `check`, which a stage makes itself, refuses."""
    try:
        check()
    except CharlstmError as refusal:
        yield error(str(refusal))


def readable(check: Iterable[Finding]) -> Iterator[Finding]:
    """What `check` finds; a file that cannot be read is a finding, too."""
    try:
        yield from check
    except CharlstmError as refusal:
        yield error(str(refusal))
    except OSError as failure:
        where = f"{failure.filename}: " if failure.filename else ""
        yield error(f"{where}{failure.strerror or failure}")
