"""What a training shows: a bar on a terminal, plain lines elsewhere, and texts that the model writes after each epoch.

These are views: no output has these texts.
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
NUM_PROMPTS = 2  # of `sample.prompts`, the first
NUM_CHARS, TEMPERATURE = 300, 0.8
SECONDS = 30  # in which the other processes of a training wait
WrittenText = tuple[str, str]  # a prompt, and how the model goes on
Show = Callable[[int, Sequence[WrittenText]], None]


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
            self._print(
                f"begins from a model that has val {progress.initial_nats_per_char:.4f} nats/char"
            )
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
        self._quietly(self._bar.start)
        self._last_line = time.monotonic()

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """Move the bar, or print a line if the last one is old."""
        now, plan = time.monotonic(), self._plan
        chars_left = (1 - row.step / plan.num_steps) * plan.num_epochs * plan.chars_per_epoch
        left = ""  # unknown where every step since the start was skipped
        if chars_per_second > 0:
            left = f"{timedelta(seconds=round(chars_left / chars_per_second))} left"  # without validation and texts
        status = f"loss {row.train_nats_per_char:.3f}  {chars_per_second / 1000:.1f} k chars/s"
        self._quietly(
            lambda: self._bar.update(
                self._task, completed=row.step, epoch=row.epoch, status=status, left=left
            )
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

    def __enter__(self) -> "TrainingConsole":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal in order."""
        self._quietly(self._bar.stop)

    def _print(self, line: str) -> None:
        self._quietly(lambda: self._console.print(line, soft_wrap=True))

    def _quietly(self, show: Callable[[], object]) -> None:
        """A terminal that is gone, or a pipe that is closed, ends no training: from then on, nothing is shown."""
        if self._is_read:
            try:
                show()
            except (
                OSError,
                ValueError,
                SystemExit,
            ):  # rich ends the process where a pipe is closed
                self._is_read = False


def epoch_prompts(params: Params, val_ids: Ids, vocab: Vocab) -> tuple[str, ...]:
    """The prompts of these texts. All of `sample.prompts` are checked: what `sample` would refuse stops training, too.

    Raises:
        VocabularyError: a prompt has characters that training never saw; those of `auto` have none.
    """
    prompts = resolve_prompts(params.sample.prompts, val_ids, vocab)
    check_prompts(vocab, prompts, "sample.prompts")
    return prompts[:NUM_PROMPTS]


class EpochTexts(Observer):
    """The model writes after each epoch, and each of `shows` gets the epoch and texts.

    It writes in a process of its own: whatever happens there costs the texts of this epoch, and never the training.
    """

    def __init__(
        self, prompts: Sequence[str], vocab: Vocab, seed: int, shows: Sequence[Show]
    ) -> None:
        sampling = Sampling(NUM_CHARS, TEMPERATURE, seed=seed)
        self._requests = [Request(prompt, sampling) for prompt in prompts]
        self._vocab, self._shows = vocab, shows
        import_compiler()  # in a fork it could wait for ever for an import of another thread, as that of tracking

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Write a text for each prompt."""
        try:
            texts = self._written(Sampler(model, self._vocab))
        except Exception as error:
            log.warning("epoch %d: no texts were written (%s); training goes on", row.epoch, error)
            return
        for show in self._shows:
            show(row.epoch, texts)

    def _written(self, sampler: Sampler) -> list[WrittenText]:
        def write() -> None:
            faulthandler.disable()
            try:
                generated = sampler.generate(self._requests)
                send.send(
                    [
                        (one.prompt, text.text)
                        for one, text in zip(self._requests, generated, strict=True)
                    ]
                )
            except Exception as error:
                send.send(f"{type(error).__name__}: {error}")

        context = multiprocessing.get_context(
            "fork"
        )  # the model is there, and nothing is imported again
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=write, daemon=True)
        child.start()
        send.close()
        try:
            if not receive.poll(SECONDS):
                raise RuntimeError(f"not done after {SECONDS} seconds")
            answer: list[WrittenText] | str = receive.recv()
        except EOFError:
            child.join()
            raise RuntimeError(f"its process ended with {child.exitcode}") from None
        finally:
            child.kill()
            child.join()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer
