"""The content of one MLflow run, read from files: the input of `publish`.

A tag with the SHA-256 of the model's weights ties the run to the model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from charlstm.history import EpochRow, StepRow
from charlstm.tracking.registered_model import LoggedModel

TRAINING_TAG = "training_id"
# Statuses of MLflow.
FINISHED = "FINISHED"
RUNNING = "RUNNING"
KILLED = "KILLED"
FAILED = "FAILED"
EPOCH_TEXTS = "texts"  # artifact folder whose files never change

Params = Mapping[str, str | bool | int | float]  # by dotted name


class Row(NamedTuple):
    """The metrics of one moment of a training."""

    step: int
    time_ms: int  # since 1970
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Snapshot:
    """The content of the newest run whose tag `tag` has the value `value`, or of a new run."""

    tag: str
    value: str
    start_ms: int
    rows_after: Callable[[int], Sequence[Row]]  # step -> rows of the curves after this step
    params: Params = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    new_tags: Mapping[str, str] = field(default_factory=dict)  # set only when the run is created
    measured: Mapping[str, float] = field(default_factory=dict)  # metrics without steps
    texts: Mapping[str, str] = field(default_factory=dict)  # artifact path -> text
    files: Mapping[str, Path] = field(default_factory=dict)  # artifact path -> file
    model: LoggedModel | None = None
    status: str = FINISHED
    reason: str = ""  # why the run ended
    end_ms: int = 0  # default: the start


def step_metrics(row: StepRow) -> dict[str, float]:
    """Return the metrics of a row of steps.

    MLflow's page groups metrics by the part before the slash.
    """
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
