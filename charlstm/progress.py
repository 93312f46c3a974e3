"""How far a training has come: the numbers and tables that grow with it, as a record that JSON can hold."""

from dataclasses import asdict, dataclass, field
from typing import Any

from charlstm.history import EpochRow, StepRow, TextRow
from charlstm.loss import LossSum


@dataclass
class Progress:
    """After `step` optimiser updates, `index` of them in the epoch under way."""

    step: int = 0
    index: int = 0
    loss: LossSum = field(default_factory=lambda: LossSum(0.0, 0))  # of the epoch under way
    epoch_seconds: float = 0.0
    train_seconds: float = 0.0  # in steps, of all epochs so far
    steps: list[StepRow] = field(default_factory=list)
    epochs: list[EpochRow] = field(default_factory=list)
    texts: list[TextRow] = field(default_factory=list)
    best: EpochRow | None = None

    @property
    def epoch(self) -> int:
        """The epoch under way, from 1."""
        return len(self.epochs) + 1

    def as_json(self) -> dict[str, Any]:
        """Values that `json` writes without loss."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> "Progress":
        """What `as_json` gave, read back."""
        kinds = {"steps": StepRow, "epochs": EpochRow, "texts": TextRow}
        rows = {name: [kind(*row) for row in values[name]] for name, kind in kinds.items()}
        best = None if values["best"] is None else EpochRow(*values["best"])
        return cls(**{**values, **rows, "loss": LossSum(*values["loss"]), "best": best})
