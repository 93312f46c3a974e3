"""The content that an MLflow run should have, read from files and passed to `publish`.

A tag with the SHA-256 of the model's weights links the run to the model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from charlstm.history import EpochRow, StepRow
from charlstm.tracking.registered_model import LoggedModel

TRAINING_TAG = "training_id"
# Run statuses in MLflow.
FINISHED = "FINISHED"
RUNNING = "RUNNING"
KILLED = "KILLED"
FAILED = "FAILED"
EPOCH_TEXTS = "texts"  # artifact folder whose files never change

Params = Mapping[str, str | bool | int | float]  # dotted name -> value


class Row(NamedTuple):
    """Metrics measured at one point during training."""

    step: int
    time_ms: int  # milliseconds since 1970
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Snapshot:
    """The desired content of a run: the newest run whose tag `tag` is `value`, or a new run."""

    tag: str
    value: str
    start_ms: int
    rows_after: Callable[[int], Sequence[Row]]  # step -> metric rows after this step
    params: Params = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    new_tags: Mapping[str, str] = field(default_factory=dict)  # set only when the run is created
    measured: Mapping[str, float] = field(default_factory=dict)  # metrics without steps
    texts: Mapping[str, str] = field(default_factory=dict)  # artifact path -> text
    files: Mapping[str, Path] = field(default_factory=dict)  # artifact path -> file
    model: LoggedModel | None = None
    status: str = FINISHED
    reason: str = ""  # why the run ended
    end_ms: int = 0  # if 0, the run ends at its start time


def step_metrics(row: StepRow) -> dict[str, float]:
    """Return the MLflow metrics for a row of the training history.

    MLflow's page groups metrics by the part of the name before the slash.
    """
    return {
        "loss/training": row.train_nats_per_char,
        "train/gradient_norm": row.gradient_norm,
        "train/learning_rate": row.learning_rate,
    }


def epoch_metrics(row: EpochRow) -> dict[str, float]:
    """Return the MLflow metrics for an epoch: its training and validation losses."""
    return {
        "loss/validation": row.val_nats_per_char,
        "loss/training_epoch": row.train_nats_per_char,
    }
