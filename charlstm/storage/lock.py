"""One holder at a time: a lock that the system frees when its process dies, however it dies."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charlstm.errors import LockedError
from charlstm.storage.documents import read_json
from charlstm.storage.files import write_text


@contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` while in the context; `what` says for which work.

    Raises:
        LockedError: another process holds it, named by its number and machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "holder.json"
    try:
        with FileLock(folder / "lock", blocking=False):
            write_text(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except Timeout:
        raise LockedError(f"{what} is under way already, {_describe(holder)}: wait for it, or stop it") from None


def _describe(holder: Path) -> str:
    try:
        found = read_json(holder)
        return f"in process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "in a process that has not yet left its number"
