"""What files say of one MLflow run: the input of `publish`.

The tie between a model and its run is content: a run carries the SHA-256 of the model's weights as a tag.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from charlstm.history import EpochRow, StepRow
from charlstm.tracking.registered_model import LoggedModel

TRAINING_TAG = "training_id"
FINISHED, RUNNING, KILLED, FAILED = "FINISHED", "RUNNING", "KILLED", "FAILED"  # MLflow's words
EPOCH_TEXTS = "texts"  # folder of the artifacts that never change

Params = Mapping[str, str | bool | int | float]  # by dotted name


class Row(NamedTuple):
    """The metrics of one moment of a training."""

    step: int
    time_ms: int  # since 1970
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Snapshot:
    """What files say of a run: the newest run whose tag `tag` is `value`, or a new run."""

    tag: str
    value: str
    start_ms: int
    rows_after: Callable[[int], Sequence[Row]]  # a step -> the rows of the curves after it
    params: Params = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    new_tags: Mapping[str, str] = field(default_factory=dict)  # set only when the run is created
    measured: Mapping[str, float] = field(default_factory=dict)  # metrics without steps
    texts: Mapping[str, str] = field(default_factory=dict)  # path of an artifact -> its text
    files: Mapping[str, Path] = field(default_factory=dict)  # path of an artifact -> its file
    model: LoggedModel | None = None
    status: str = FINISHED
    reason: str = ""  # why the run ended
    end_ms: int | None = None  # None: `start_ms`


def step_metrics(row: StepRow) -> dict[str, float]:
    """Return the metrics of a row of steps. The name before the slash is a section of MLflow's page."""
    return {
        "loss/training": row.train_nats_per_char,
        "train/gradient_norm": row.gradient_norm,
        "train/learning_rate": row.learning_rate,
    }


def epoch_metrics(row: EpochRow) -> dict[str, float]:
    """Return the metrics of an epoch."""
    return {
        "loss/validation": row.val_nats_per_char,
        "loss/training_epoch": row.train_nats_per_char,
    }
