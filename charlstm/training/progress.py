"""How far a training has come: the numbers and tables that grow with it, as a record that JSON can hold."""

from dataclasses import field

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from charlstm.model.loss import LossSum
from charlstm.training.history import EpochRow, StepRow


@dataclass
class Progress:
    """After `step` optimizer updates, `step_in_epoch` of them in the current epoch."""

    step: int = 0
    step_in_epoch: int = 0
    loss: LossSum = field(default_factory=lambda: LossSum(0.0, 0))  # of the current epoch
    epoch_seconds: float = 0.0
    train_seconds: float = 0.0  # in steps, of all epochs so far
    steps: list[StepRow] = field(default_factory=list)
    epochs: list[EpochRow] = field(default_factory=list)
    best: EpochRow | None = None

    @property
    def epoch(self) -> int:
        """The current epoch, from 1."""
        return len(self.epochs) + 1

    def to_json(self) -> str:
        """All of it; floats keep every bit."""
        return PROGRESS.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """What `to_json` gave, read back.

        Raises:
            ValueError: something else.
        """
        return PROGRESS.validate_json(text)


PROGRESS = TypeAdapter(Progress)
