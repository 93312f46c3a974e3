"""What a run shows of a training and no checkpoint has, in files of the training's folder.

    origin.json      parameters, tags and start of the run
    metrics.jsonl    a line for each row of the curves: [step, time, metrics]
    texts/           what the model wrote after each epoch
    ending.json      how the training ended; absent while it runs, or if its process was killed
    published        MLflow has everything

`TrainingRecord` writes them while the training runs. `read_training` makes a snapshot of them in any process.
"""

import json
import logging
import mmap
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

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

log = logging.getLogger(__name__)

ORIGIN, METRICS, ENDING, PUBLISHED = "origin.json", "metrics.jsonl", "ending.json", "published"
GONE = "the process disappeared: killed, aborted, out of memory, or the machine went down"


@dataclass(frozen=True)
class Origin:
    """What is known when a training starts."""

    training_id: str
    start_ms: int
    params: Params
    tags: dict[str, str]
    measured: dict[str, float]


@dataclass(frozen=True)
class Ending:
    """How a training ended, and what was known only then."""

    status: str
    reason: str
    end_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


ORIGIN_JSON, ENDING_JSON = TypeAdapter(Origin), TypeAdapter(Ending)


def read_training(folder: Path) -> Snapshot | None:
    """Return the snapshot of the training in `folder`. Return None if it has not started.

    A training without an ending is RUNNING while a process holds the folder, else KILLED.

    Raises:
        ValueError: a file is damaged.
    """
    if not (folder / ORIGIN).exists():
        return None
    origin = ORIGIN_JSON.validate_python(json.loads((folder / ORIGIN).read_text()))
    if (folder / ENDING).exists():
        ending = ENDING_JSON.validate_python(json.loads((folder / ENDING).read_text()))
    elif holder_of(folder) is not None:
        ending = Ending(RUNNING, "", origin.start_ms)
    else:
        last_row = read_rows(folder / METRICS, max_rows=1)
        ending = Ending(KILLED, GONE, last_row[0].time_ms if last_row else origin.start_ms)
    return Snapshot(
        TRAINING_TAG,
        origin.training_id,
        origin.start_ms,
        partial(read_rows, folder / METRICS),
        params=origin.params,
        tags={**origin.tags, **ending.tags},
        new_tags=origin.tags,
        measured={**origin.measured, **ending.measured},
        files={
            f"{EPOCH_TEXTS}/{file.name}": file
            for file in sorted((folder / EPOCH_TEXTS).glob("epoch-*.txt"))
        },
        status=ending.status,
        reason=ending.reason,
        end_ms=ending.end_ms,
    )


def read_rows(file: Path, after_step: int = -1, max_rows: int | None = None) -> list[Row]:
    """Return the last rows of a file of metrics: those after a step, in order. An unfinished last line is left out.

    The file is read from its end, so the cost does not grow with the length of the training.
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
            row = Row(*json.loads(content[start:end]))
            if row.step <= after_step:
                break
            rows.append(row)
            end = start - 1
    return rows[::-1]
