"""One holder at a time: a lock that the system frees when its process dies, however it dies."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charlstm.errors import LockedError
from charlstm.files.atomic import write_text
from charlstm.files.documents import read_json


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold `path`, which need not exist, while in the context; `what` says for which work.

    The lock is a file beside `path`, not in it, and is never removed: whoever holds a folder may remove it, and a lock
    removed with it would let in another holder, who locks a new file of the same name.

    Raises:
        LockedError: another process holds it, named by its number and machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(f"{path.name}.holder.json")
    try:
        with FileLock(path.with_name(f"{path.name}.lock"), blocking=False):
            write_text(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except Timeout:
        raise LockedError(f"{what} is under way already, {_describe(holder)}: wait for it, or stop it") from None


def holder_of(path: Path) -> str | None:
    """Who holds `path`, in words; None for nobody.

    Only where a holder has left its name and may be dead is the lock tried, for no longer than that takes.
    """
    holder = path.with_name(f"{path.name}.holder.json")
    if not holder.exists():
        return None
    try:
        with FileLock(path.with_name(f"{path.name}.lock"), blocking=False):
            return None
    except Timeout:
        return _describe(holder)


def _describe(holder: Path) -> str:
    try:
        found = read_json(holder)
        return f"in process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "in a process that has not yet left its number"
