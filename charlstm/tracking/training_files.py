"""Files in a training's folder from which its MLflow run is made.

    origin.json      parameters, tags and start of the run
    metrics.jsonl    the curves, a row per line: [step, time, metrics]
    texts/           generated texts, a file per epoch
    ending.json      how the training ended; missing while it runs, or if its process was killed
    published        exists if MLflow has the complete run

`TrainingRecord` writes these files during training. `read_training` reads them in any process.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from charlstm.files.lock import holder_of
from charlstm.tracking.snapshot import (
    EPOCH_TEXTS,
    KILLED,
    RUNNING,
    TRAINING_TAG,
    Params,
    Row,
    Snapshot,
)

ORIGIN = "origin.json"
METRICS = "metrics.jsonl"
ENDING = "ending.json"
PUBLISHED = "published"
DISAPPEARED = "the process disappeared: killed, aborted, out of memory, or the machine went down"


class Origin(NamedTuple):
    """Facts that are known when a training starts."""

    training_id: str
    start_ms: int
    params: Params
    tags: Mapping[str, str]
    measured: Mapping[str, float]


class Ending(NamedTuple):
    """Facts that are known when a training ends."""

    status: str
    reason: str
    end_ms: int
    tags: Mapping[str, str] = {}
    measured: Mapping[str, float] = {}


def read_training(folder: Path) -> Snapshot | None:
    """Return the snapshot of the training in `folder`. Return None if the training has not started.

    A training without an ending is RUNNING while a process holds the folder, else KILLED.

    Raises:
        ValueError, TypeError: a file is damaged.
    """
    if not (folder / ORIGIN).exists():
        return None
    origin = Origin(**json.loads((folder / ORIGIN).read_text()))
    if (folder / ENDING).exists():
        ending = Ending(**json.loads((folder / ENDING).read_text()))
    elif holder_of(folder) is not None:
        ending = Ending(RUNNING, "", origin.start_ms)
    else:
        rows = read_rows(folder / METRICS)
        ending = Ending(KILLED, DISAPPEARED, rows[-1].time_ms if rows else origin.start_ms)

    texts = sorted((folder / EPOCH_TEXTS).glob("epoch-*.txt"))
    return Snapshot(
        TRAINING_TAG,
        origin.training_id,
        origin.start_ms,
        partial(read_rows, folder / METRICS),
        params=origin.params,
        tags={**origin.tags, **ending.tags},
        new_tags=origin.tags,
        measured={**origin.measured, **ending.measured},
        files={f"{EPOCH_TEXTS}/{file.name}": file for file in texts},
        status=ending.status,
        reason=ending.reason,
        end_ms=ending.end_ms,
    )


def read_rows(file: Path, after_step: int = -1) -> list[Row]:
    """Return the rows after a step, in order. Ignore an incomplete last line."""
    complete = file.read_bytes().rpartition(b"\n")[0] if file.exists() else b""
    rows: list[Row] = []
    # From the end: only the new rows of a long training are parsed.
    for line in reversed(complete.splitlines()):
        row = Row(*json.loads(line))
        if row.step <= after_step:
            break
        rows.append(row)
    return rows[::-1]
