"""The files in a training's folder from which its MLflow run is created.

    origin.json      parameters, tags and start time of the run
    metrics.jsonl    the metrics, one row per line: [step, time, metrics]
    texts/           generated texts, one file per epoch
    ending.json      how the training ended; missing while it runs, or if its process was killed
    published        exists if MLflow has the complete run

`TrainingRecord` writes these files during training. `read_training` reads them in any process.
"""

import json
import mmap
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from charlstm.files.lock import holder_of
from charlstm.tracking.publish import (
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
DISAPPEARED = (
    "the process disappeared: it was killed or aborted, ran out of memory, or the machine went down"
)


class Origin(NamedTuple):
    """Facts known at the start of a training run."""

    training_id: str
    start_ms: int
    params: Params
    tags: Mapping[str, str]
    measured: Mapping[str, float]


class Ending(NamedTuple):
    """Facts known at the end of a training run."""

    status: str
    reason: str
    end_ms: int
    tags: Mapping[str, str] = {}
    measured: Mapping[str, float] = {}


def read_training(folder: Path) -> Snapshot | None:
    """Return the snapshot of the training in `folder`, or None if the training has not started.

    A training without `ending.json` is RUNNING while a process holds the lock of the folder.
    Otherwise the training was KILLED.

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
        rows = read_rows(folder / METRICS, max_rows=1)
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


def read_rows(file: Path, after_step: int = -1, max_rows: int | None = None) -> list[Row]:
    """Return a metrics file's rows after step `after_step`, but at most the last `max_rows` rows.

    Incomplete lines are ignored. The file is read from its end, because a training is published
    every few seconds, which must not take longer after a week.
    """
    rows: list[Row] = []
    if not file.exists() or file.stat().st_size == 0:
        return rows
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        end = content.rfind(b"\n")
        while end > 0 and len(rows) != max_rows:
            start = content.rfind(b"\n", 0, end) + 1
            line = content[start:end]
            end = start - 1
            with suppress(ValueError):  # a full disk cut this line
                row = Row(*json.loads(line))
                if row.step <= after_step:
                    break
                rows.append(row)
    return rows[::-1]
