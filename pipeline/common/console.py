"""Training on the console: a bar on a terminal, plain lines at a calm rate elsewhere."""

import time
import unicodedata
from collections.abc import Sequence

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from charlstm.training.history import EpochRow, StepRow, TextRow
from charlstm.training.observer import Plan
from charlstm.training.progress import Progress

SECONDS_BETWEEN_LINES = 20
EXCERPT_LINES = 3

# Marks that turn the direction of all that follows on a line.
DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def printable(text: str, encoding: str = "utf-8") -> str:
    """`text` as a terminal may have it: tabs and line breaks as they are, each other control character as `\\x1b`.

    A model writes what it has read, and that may be anything. What `encoding` lacks is escaped, too.
    """
    lines = text.replace("\r\n", "\n")
    shown = "".join(
        one.encode("unicode_escape").decode() if _is_control(one) and one not in "\t\n" else one for one in lines
    )
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or ord(character) in DIRECTIONS


class TrainingConsole:
    """An observer of `train.fit` that shows loss, speed and time left."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = rich_progress.Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps  {task.fields[status]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._last_line = self._started = time.monotonic()

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Say what is about to run."""
        self._plan, self._first_step = plan, progress.step
        self._print(
            f"{plan.num_parameters:,} parameters, {plan.num_epochs} epochs of {plan.chars_per_epoch:,} characters, "
            f"{plan.num_processes} process(es) on {plan.device}, {plan.precision}"
        )
        if progress.step > 0:
            self._print(f"resuming from the checkpoint of step {progress.step} of {plan.num_steps}")
        self._task = self._bar.add_task(
            "train", total=plan.num_steps, completed=progress.step, epoch=progress.epoch, status=""
        )
        self._bar.start()
        self._last_line = self._started = time.monotonic()

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """Move the bar, or print a line if the last one is old."""
        now = time.monotonic()
        status = f"loss {row.train_nats_per_char:.3f}  {chars_per_second / 1000:.1f} k chars/s"
        self._bar.update(self._task, completed=row.step, epoch=row.epoch, status=status)
        if not self._console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (now - self._started) / (row.step - self._first_step) * (self._plan.num_steps - row.step)
            self._print(f"epoch {row.epoch}  step {row.step}/{self._plan.num_steps}  {status}  {left:.0f} s left")

    def on_epoch(self, row: EpochRow, texts: Sequence[TextRow], train_seconds: float) -> None:
        """Print the epoch's losses and the beginning of what the model writes now."""
        self._last_line = time.monotonic()
        self._print(
            f"epoch {row.epoch}/{self._plan.num_epochs}  train {row.train_nats_per_char:.4f}  "
            f"val {row.val_nats_per_char:.4f} nats/char  {train_seconds:.1f} s"
        )
        for text in texts[-1:]:
            for line in printable(text.prompt + text.text).split("\n")[:EXCERPT_LINES]:
                self._print(f"    {line}")

    def close(self) -> None:
        """Leave the terminal in order."""
        self._bar.stop()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
