"""The record of the last sweep in this checkout."""

import json
from typing import NamedTuple

from charlstm.files.atomic import write_text
from pipeline.run.project import state_root

RECORD = "sweep.json"  # in the state folder


class Sweep(NamedTuple):
    """The commit from which a sweep started, and the names of its experiments."""

    baseline: str
    names: list[str]

    def write(self) -> None:
        """Record this sweep as the last sweep."""
        write_text(state_root() / RECORD, json.dumps(self._asdict()))


def last_sweep() -> Sweep | None:
    """Return the last sweep in this checkout, or None if there was no sweep."""
    try:
        return Sweep(**json.loads((state_root() / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
