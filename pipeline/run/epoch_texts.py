"""Texts that the model generates after each epoch, in a process beside the training.

Training never waits for a text. A crash or a hang costs the texts of one epoch.
"""

import faulthandler
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import torch

from charlstm.generation.kernels import import_compiler
from charlstm.generation.sampler import Request, Sampler
from charlstm.history import EpochRow, StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import Params
from charlstm.prompts import resolve_prompts
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Ids, Vocab
from charlstm.training.progress import Observer
from charlstm.unknown_characters import check_prompts
from pipeline.run.interruption import sigterm_requester

log = logging.getLogger("charlstm")

NUM_PROMPTS = 2  # use only this many prompts, the first in `sample.prompts`
NUM_CHARS = 300
TEMPERATURE = 0.8
SECONDS = 30  # time limit for the texts of an epoch
MAX_PROCESSES = 4  # processes that generate texts at the same time
NO_TEXTS = "epoch %d: no texts were generated (%s); training is unaffected"
WrittenText = tuple[str, str]  # a prompt, and the text that continues it
Show = Callable[[int, Sequence[WrittenText]], None]


class Writing(NamedTuple):
    """A process that generates the texts of an epoch, and the pipe that will receive them."""

    epoch: int
    process: BaseProcess
    receive: Connection
    deadline: float  # by the monotonic clock


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

    Texts are passed on when a later row of the history is logged, or by `finish`. The end of the
    context gives up all other texts. Training waits only if the texts of several very short epochs
    are not done.
    """

    def __init__(
        self, prompts: Sequence[str], vocab: Vocab, seed: int, shows: Sequence[Show]
    ) -> None:
        sampling = Sampling(NUM_CHARS, TEMPERATURE, seed=seed)
        self._prompts = prompts
        self._requests = [Request(prompt, sampling) for prompt in prompts]
        self._vocab = vocab
        self._shows = shows
        self._unfinished: list[Writing] = []
        # Import now: in a forked process, an import could wait forever for another thread's import.
        import_compiler()
        self._request_sigterm = sigterm_requester()

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Start generating a text for each prompt."""
        if len(self._unfinished) == MAX_PROCESSES:
            self._wait_for_first()
        # A forked process has the weights as they are now, but cannot use a GPU.
        weights = {name: weight.cpu() for name, weight in model.state_dict().items()}

        def write() -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._request_sigterm()
            faulthandler.disable()
            # With more threads, this process would wait for threads that were not forked.
            torch.set_num_threads(1)
            try:
                on_cpu = CharLSTM(model.shape, "gates")
                on_cpu.load_state_dict(weights)
                generated = Sampler(on_cpu, self._vocab).generate(self._requests)
                texts = [text.text for text in generated]
                send.send(list(zip(self._prompts, texts, strict=True)))
            except Exception as error:
                send.send(f"{type(error).__name__}: {error}")

        context = multiprocessing.get_context("fork")
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=write, daemon=True)
        try:
            process.start()
        except OSError as error:
            log.warning(NO_TEXTS, row.epoch, error)
            return
        send.close()
        deadline = time.monotonic() + SECONDS
        self._unfinished.append(Writing(row.epoch, process, receive, deadline))

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """Pass all finished texts to the callbacks."""
        self._pass_on_ready()

    def finish(self) -> None:
        """Wait for the last texts, and pass them to all callbacks."""
        while self._unfinished:
            self._wait_for_first()

    def __enter__(self) -> "EpochTexts":
        return self

    def __exit__(self, *_: object) -> None:
        """Pass on the finished texts. Kill the processes that are still generating texts."""
        self._pass_on_ready()
        for writing in self._unfinished:
            writing.process.kill()
            writing.process.join()

    def _wait_for_first(self) -> None:
        writing = self._unfinished.pop(0)
        writing.receive.poll(max(0.0, writing.deadline - time.monotonic()))
        self._pass_on(writing)

    def _pass_on_ready(self) -> None:
        while self._unfinished and _is_over(self._unfinished[0]):
            self._pass_on(self._unfinished.pop(0))

    def _pass_on(self, writing: Writing) -> None:
        try:
            texts = _received(writing)
        except RuntimeError as error:
            log.warning(NO_TEXTS, writing.epoch, error)
            return
        for show in self._shows:
            show(writing.epoch, texts)


def _is_over(writing: Writing) -> bool:
    return writing.receive.poll() or time.monotonic() > writing.deadline


def _received(writing: Writing) -> list[WrittenText]:
    """Return the texts that a process has sent, and end the process.

    Raises:
        RuntimeError: there are no texts. The message has the reason.
    """
    try:
        if not writing.receive.poll():
            raise RuntimeError(f"the texts were not finished after {SECONDS} seconds")
        answer: list[WrittenText] | str = writing.receive.recv()
    except EOFError:
        writing.process.join()
        raise RuntimeError(
            f"the process that generates texts ended with exit code {writing.process.exitcode}"
        ) from None
    finally:
        writing.process.kill()
        writing.process.join()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer
