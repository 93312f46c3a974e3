"""What is shown of a training: rows of its tables as values of named metrics, in sections (`train/...`) of the UI."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from charlstm.training.history import EpochRow, StepRow

Params = Mapping[str, str | int | float]  # dotted names, as runs have them


class Measurement(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    step: int = 0


def step_metrics(rows: Sequence[StepRow], params: Params) -> list[Measurement]:
    """What is shown of steps, by step. The table has AdamW's learning rate; Muon's has the same schedule."""
    rates = {"adamw": 1.0}
    if params.get("train.optimizer") == "muon":
        rates["muon"] = float(params["train.muon.learning_rate"]) / float(params["train.learning_rate"])
    return [
        Measurement(name, value, row.step)
        for row in rows
        for name, value in (
            ("train/nats_per_char", row.train_nats_per_char),
            ("train/gradient_norm", row.gradient_norm),
            *((f"learning_rate/{name}", row.learning_rate * factor) for name, factor in rates.items()),
        )
    ]


def epoch_metrics(rows: Sequence[EpochRow]) -> list[Measurement]:
    """What is shown of epochs, at the step that ends each: so they lie on the axis of the training loss."""
    return [
        Measurement(name, value, row.step)
        for row in rows
        for name, value in (
            ("validation/nats_per_char", row.val_nats_per_char),
            ("validation/epoch", row.epoch),
            ("train/epoch_nats_per_char", row.train_nats_per_char),
        )
    ]
