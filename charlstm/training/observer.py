"""What can be watched of a training. The loop calls observers on process 0 only."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from charlstm.training.history import EpochRow, StepRow, TextRow
from charlstm.training.progress import Progress


class Plan(NamedTuple):
    """What is about to run."""

    num_epochs: int
    num_steps: int
    chars_per_epoch: int
    num_parameters: int
    num_processes: int
    device: str
    precision: str
    bytes_per_epoch: int | None = None
    """Of a model of bytes."""


class Observer(Protocol):
    """Watches training, for a console or a tracking server; it cannot change the result."""

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Before the first step of this start; `progress` is what earlier starts have done."""

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """After every `log_every_steps` steps, with their mean."""

    def on_epoch(self, row: EpochRow, texts: Sequence[TextRow], train_seconds: float) -> None:
        """After an epoch's validation; `train_seconds` is the time that its steps took."""
