"""What is shown of a training: rows of its tables as values of named metrics."""

from collections.abc import Sequence
from typing import NamedTuple

from charlstm.training.history import EpochRow, StepRow


class Measurement(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    step: int = 0


def step_metrics(rows: Sequence[StepRow]) -> list[Measurement]:
    """What is shown of steps, by step."""
    return [
        Measurement(name, value, row.step)
        for row in rows
        for name, value in (
            ("train_loss", row.train_nats_per_char),
            ("learning_rate", row.learning_rate),
            ("gradient_norm", row.gradient_norm),
        )
    ]


def epoch_metrics(rows: Sequence[EpochRow]) -> list[Measurement]:
    """What is shown of epochs, by epoch."""
    return [
        Measurement(name, value, row.epoch)
        for row in rows
        for name, value in (("epoch_train_loss", row.train_nats_per_char), ("val_loss", row.val_nats_per_char))
    ]
