"""What a benchmark that trains shows of it."""

from rich.console import Console

from charlstm.model.char_lstm import CharLSTM
from charlstm.training.history import EpochRow, StepRow
from charlstm.training.progress import Progress
from charlstm.training.train import Plan


class Watch:
    """An observer that prints a line an epoch."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Its name, and how large it is."""
        self._console.print(f"{self._name}: {plan.num_parameters:,} parameters, {plan.num_epochs} epochs")

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """Nothing."""

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Its losses."""
        self._console.print(
            f"  epoch {row.epoch}: train {row.train_nats_per_char:.4f}, validation {row.val_nats_per_char:.4f}, "
            f"{train_seconds:.0f} s"
        )
