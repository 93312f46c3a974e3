"""What the last sweep of this checkout was."""

import json
from typing import NamedTuple

from charlstm.files.atomic import write_text
from pipeline.run.project import state_root

RECORD = "sweep.json"  # in the state folder


class Sweep(NamedTuple):
    """The commit that a sweep began from, and the names of its experiments."""

    baseline: str
    names: list[str]

    def write(self) -> None:
        """Remember this sweep as the last one."""
        write_text(state_root() / RECORD, json.dumps(self._asdict()))


def last_sweep() -> Sweep | None:
    """Return the last sweep of this checkout; None if there is none."""
    try:
        return Sweep(**json.loads((state_root() / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
