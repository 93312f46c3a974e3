"""The console of a training: a progress bar or plain lines, and texts that the model generates.

No output of a stage depends on the console.
"""

import faulthandler
import logging
import multiprocessing
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from rich import progress as rich_progress
from rich.progress import BarColumn, TextColumn

from charlstm.generation.kernels import import_compiler
from charlstm.generation.sampler import Request, Sampler
from charlstm.history import EpochRow, StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import Params
from charlstm.prompts import resolve_prompts
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Ids, Vocab
from charlstm.training.progress import Observer, Plan, Progress
from charlstm.unknown_characters import check_prompts
from pipeline.run.terminal import plain_console, printable

log = logging.getLogger("charlstm")

SECONDS_BETWEEN_LINES = 20
EXCERPT_LINES = 3
NUM_PROMPTS = 2  # number of prompts to use, from the start of `sample.prompts`
NUM_CHARS = 300
TEMPERATURE = 0.8
SECONDS = 30  # time limit for the texts of an epoch, while training waits
WrittenText = tuple[str, str]  # a prompt, and the text that continues it
Show = Callable[[int, Sequence[WrittenText]], None]


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

    def show_texts(self, epoch: int, texts: Sequence[WrittenText]) -> None:
        """Print the first lines of the last text that the model generated after an epoch."""
        for prompt, text in texts[-1:]:
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
        """Call `show`. If the terminal is lost or a pipe is closed, train on without output."""
        if self._has_reader:
            try:
                show()
            except (OSError, ValueError, SystemExit):  # rich exits if a pipe is closed
                self._has_reader = False


def epoch_prompts(params: Params, val_ids: Ids, vocab: Vocab) -> tuple[str, ...]:
    """Return the prompts of the texts that the model generates after each epoch.

    Check all of `sample.prompts`, so that a prompt that stage sample would reject is reported
    before training.

    Raises:
        VocabularyError: a prompt has characters that are not in the training part.
    """
    prompts = resolve_prompts(params.sample.prompts, val_ids, vocab)
    check_prompts(vocab, prompts, "sample.prompts")
    return prompts[:NUM_PROMPTS]


class EpochTexts(Observer):
    """An observer that generates texts after each epoch and passes them to the `shows` callbacks.

    A separate process generates the texts. A crash or a hang costs the texts of one epoch, but
    never the training.
    """

    def __init__(
        self, prompts: Sequence[str], vocab: Vocab, seed: int, shows: Sequence[Show]
    ) -> None:
        sampling = Sampling(NUM_CHARS, TEMPERATURE, seed=seed)
        self._prompts = prompts
        self._requests = [Request(prompt, sampling) for prompt in prompts]
        self._vocab = vocab
        self._shows = shows
        # Import now: in a forked process, an import could wait forever for another thread's import.
        import_compiler()

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Generate a text for each prompt, and pass the texts to all callbacks."""
        try:
            texts = self._write(Sampler(model, self._vocab))
        except Exception as error:
            log.warning(
                "epoch %d: no texts were written (%s); training continues", row.epoch, error
            )
            return
        for show in self._shows:
            show(row.epoch, texts)

    def _write(self, sampler: Sampler) -> list[WrittenText]:
        def write() -> None:
            faulthandler.disable()
            try:
                generated = sampler.generate(self._requests)
                texts = [text.text for text in generated]
                send.send(list(zip(self._prompts, texts, strict=True)))
            except Exception as error:
                send.send(f"{type(error).__name__}: {error}")

        # A forked process already has the model and all imported modules.
        context = multiprocessing.get_context("fork")
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=write, daemon=True)
        child.start()
        send.close()
        try:
            if not receive.poll(SECONDS):
                raise RuntimeError(f"the texts were not done after {SECONDS} seconds")
            answer: list[WrittenText] | str = receive.recv()
        except EOFError:
            child.join()
            raise RuntimeError(
                f"the process that generates texts ended with exit code {child.exitcode}"
            ) from None
        finally:
            child.kill()
            child.join()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer
