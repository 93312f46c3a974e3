"""The console of a training: a progress bar or plain lines.

No output of a stage depends on the console.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from rich import progress as rich_progress
from rich.progress import BarColumn, TextColumn

from charlstm.history import EpochRow, StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.training.progress import Observer, Plan, Progress
from pipeline.run.terminal import plain_console, printable

SECONDS_BETWEEN_LINES = 20
EXCERPT_LINES = 3


class TrainingConsole(Observer):
    """An observer that shows the loss, the speed and the remaining time in the terminal."""

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
        self._has_reader = True

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Print the size and the plan of the training, and start the progress bar."""
        self._plan = plan
        self._print(
            f"{plan.num_parameters:,} parameters, {plan.num_epochs} epoch(s) of "
            f"{plan.chars_per_epoch:,} characters, {plan.num_processes} process(es) on "
            f"{plan.device}, {plan.precision}: {plan.precision_reason}"
        )
        if progress.initial_nats_per_char is not None:
            loss = f"val {progress.initial_nats_per_char:.4f} nats/char"
            self._print(f"starts from a trained model with {loss}")
        if progress.step > 0:
            self._print(f"resuming from the checkpoint of step {progress.step} of {plan.num_steps}")
        self._task = self._bar.add_task(
            "train",
            total=plan.num_steps,
            completed=progress.step,
            epoch=progress.epoch,
            status="",
            left="",
        )
        self._show(self._bar.start)
        self._last_line = time.monotonic()

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """Update the progress bar. Without a terminal, print a line every 20 seconds."""
        plan = self._plan
        chars_left = (1 - row.step / plan.num_steps) * plan.num_epochs * plan.chars_per_epoch
        # The speed may be 0 characters per second if steps were skipped.
        left = f"{timedelta(seconds=round(chars_left / max(1, chars_per_second)))} left"
        status = f"loss {row.train_nats_per_char:.3f}  {chars_per_second / 1000:.1f} k chars/s"
        self._show(
            lambda: self._bar.update(
                self._task, completed=row.step, epoch=row.epoch, status=status, left=left
            )
        )

        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._print(f"epoch {row.epoch}  step {row.step}/{plan.num_steps}  {status}  {left}")

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Print the training loss, the validation loss and the training time after an epoch."""
        self._last_line = time.monotonic()
        self._print(
            f"epoch {row.epoch}/{self._plan.num_epochs}  train {row.train_nats_per_char:.4f}  "
            f"val {row.val_nats_per_char:.4f} nats/char  {train_seconds:.1f} s"
        )

    def show_texts(self, epoch: int, texts: Sequence[tuple[str, str]]) -> None:
        """Print the first lines of an epoch's last text. `texts` has (prompt, text) pairs."""
        for prompt, text in texts[-1:]:
            self._print(f"after epoch {epoch} the model writes:")
            for line in printable(prompt + text).split("\n")[:EXCERPT_LINES]:
                self._print(f"    {line}")

    def __enter__(self) -> "TrainingConsole":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the progress bar and restore the terminal."""
        self._show(self._bar.stop)

    def _print(self, line: str) -> None:
        self._show(lambda: self._console.print(line, soft_wrap=True))

    def _show(self, show: Callable[[], object]) -> None:
        """Call `show`. If the terminal is lost or a pipe closed, continue without output."""
        if self._has_reader:
            try:
                show()
            except (OSError, ValueError, SystemExit):  # rich exits if a pipe is closed
                self._has_reader = False
