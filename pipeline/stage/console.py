"""Training on the console: a bar on a terminal, plain lines at a calm rate elsewhere."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from rich import progress as rich_progress
from rich.progress import BarColumn, TextColumn

from charlstm.history import EpochRow, StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.training.progress import Observer, Plan, Progress
from pipeline.stage.epoch_texts import WrittenText
from pipeline.stage.terminal import plain_console, printable

SECONDS_BETWEEN_LINES = 20
EXCERPT_LINES = 3


class TrainingConsole(Observer):
    """Shows loss, speed and time left."""

    def __init__(self) -> None:
        self._console = plain_console(stderr=True)
        self._bar = rich_progress.Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps  {task.fields[status]}"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._last_line = time.monotonic()
        self._is_read = True

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Say what is about to run."""
        self._plan = plan
        epochs = "1 epoch" if plan.num_epochs == 1 else f"{plan.num_epochs} epochs"
        self._print(
            f"{plan.num_parameters:,} parameters, {epochs} of {plan.chars_per_epoch:,} characters, "
            f"{plan.num_processes} process(es) on {plan.device}, {plan.precision}: {plan.precision_reason}"
        )
        if progress.initial_nats_per_char is not None:
            self._print(f"begins from a model that has val {progress.initial_nats_per_char:.4f} nats/char")
        if progress.step > 0:
            self._print(f"resuming from the checkpoint of step {progress.step} of {plan.num_steps}")
        self._task = self._bar.add_task(
            "train", total=plan.num_steps, completed=progress.step, epoch=progress.epoch, status="", left=""
        )
        self._quietly(self._bar.start)
        self._last_line = time.monotonic()

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """Move the bar, or print a line if the last one is old."""
        now, plan = time.monotonic(), self._plan
        chars_left = (1 - row.step / plan.num_steps) * plan.num_epochs * plan.chars_per_epoch
        left = ""  # unknown where every step since the start was skipped
        if chars_per_second > 0:
            left = f"{timedelta(seconds=round(chars_left / chars_per_second))} left"  # without validation and texts
        status = f"loss {row.train_nats_per_char:.3f}  {chars_per_second / 1000:.1f} k chars/s"
        self._quietly(
            lambda: self._bar.update(self._task, completed=row.step, epoch=row.epoch, status=status, left=left)
        )
        if not self._console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._print(f"epoch {row.epoch}  step {row.step}/{plan.num_steps}  {status}  {left}")

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Print the epoch's losses."""
        self._last_line = time.monotonic()
        self._print(
            f"epoch {row.epoch}/{self._plan.num_epochs}  train {row.train_nats_per_char:.4f}  "
            f"val {row.val_nats_per_char:.4f} nats/char  {train_seconds:.1f} s"
        )

    def show_texts(self, epoch: int, texts: Sequence[WrittenText]) -> None:
        """Print the beginning of the last text that the model wrote after an epoch."""
        for prompt, text in texts[-1:]:
            for line in printable(prompt + text).split("\n")[:EXCERPT_LINES]:
                self._print(f"    {line}")

    def close(self) -> None:
        """Leave the terminal in order."""
        self._quietly(self._bar.stop)

    def _print(self, line: str) -> None:
        self._quietly(lambda: self._console.print(line, soft_wrap=True))

    def _quietly(self, show: Callable[[], object]) -> None:
        """A terminal that is gone, or a pipe that is closed, ends no training: from then on, nothing is shown."""
        if self._is_read:
            try:
                show()
            except (OSError, ValueError, SystemExit):  # rich ends the process where a pipe is closed
                self._is_read = False
