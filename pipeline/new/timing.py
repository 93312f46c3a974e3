"""Times a few steps of each training that could be proposed. It is started as stage train is, on the same hardware."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch

from charlstm.files.documents import read_json, validate
from charlstm.model.windows import windowed
from charlstm.params import Params
from charlstm.text.encoded import EncodedText
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes
from pipeline.hardware import (
    is_kept_on_cpu,
    keep_freed_memory,
    set_num_threads,
    use_reproducible_kernels,
    work_of,
)
from pipeline.new.budget import ANSWER, REQUEST, TIMING, Request, Speed
from pipeline.stage import stage
from pipeline.stage.settings import seconds

NUM_TURNS, SECONDS_PER_TURN = 3, 0.5
NUM_WARM_UP_STEPS, MIN_STEPS, MAX_STEPS = 5, 3, 20
STEPS_PER_EPOCH = 16  # of the text at random that is read
NUM_VALIDATED = 20_000  # ids


def main(argv: Sequence[str] | None = None) -> int:
    """Answer what is asked in a folder; the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {TIMING}", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    return stage.run_work(lambda: answer(folder))


def answer(folder: Path) -> None:
    """Time the trainings that `pipeline.new.budget.measure` asks for, up to the first that is too slow.

    They take turns: how fast a shared machine is changes from second to second.
    """
    keep_freed_memory()
    use_reproducible_kernels()
    vocab_size, rows = read_json(folder / REQUEST)
    requests = [Request(validate(Params, params, folder / REQUEST), max_seconds) for params, max_seconds in rows]
    precision, timeout = requests[0].params.train.precision, seconds("CHARLSTM_TIMEOUT_SECONDS")
    processes = Processes(precision, timeout_seconds=timeout, on_cpu=is_kept_on_cpu())
    timed: list[Timed] = []
    for request in requests:
        timed.append(Timed(request, vocab_size, processes))
        if timed[-1].seconds_per_step() > request.max_seconds:
            break
    for one in timed * (NUM_TURNS - 1):
        one.take_turn()
    speeds = [one.speed() for one in timed]
    if processes.is_main:
        (folder / ANSWER).write_text(json.dumps(speeds))
    processes.close()


class Timed:
    """A training of a text at random, after its first turn."""

    def __init__(self, request: Request, vocab_size: int, processes: Processes) -> None:
        # The text is too short to warm up the rate.
        train = request.params.train.model_copy(update={"warmup_steps": 0})
        self._params = request.params.model_copy(update={"train": train})
        self._processes = processes
        set_num_threads(work_of(self._params))
        text = _random_text(STEPS_PER_EPOCH * train.batch_size * train.context_len + 1, vocab_size)
        self._learner = Learner(text, vocab_size, self._params.model, train, processes)
        self._step = take_steps(self._learner)
        for _ in range(NUM_WARM_UP_STEPS):
            self._step()
        (first,) = processes.all_reduce_max([_seconds(self._step)])  # all take as many
        self._num_steps = min(max(MIN_STEPS, int(SECONDS_PER_TURN / first)), MAX_STEPS)
        self._turns: list[float] = []
        self.take_turn()

    def take_turn(self) -> None:
        """Time some steps."""
        set_num_threads(work_of(self._params))
        self._turns.append(median(_seconds(self._step) for _ in range(self._num_steps)))

    def seconds_per_step(self) -> float:
        """The mean over the turns so far, of the slowest process."""
        return self._processes.all_reduce_max([fmean(self._turns)])[0]

    def speed(self) -> Speed:
        """All that is asked."""
        set_num_threads(work_of(self._params))
        vocab_size, length = self._learner.shape.vocab_size, self._params.train.validation_context_len
        model, text = self._learner.averaged, _random_text(NUM_VALIDATED, vocab_size)
        share = {"rank": self._processes.rank, "world_size": self._processes.world_size}
        mine = _seconds(lambda: windowed(model, text, length, **share))
        (validation,) = self._processes.all_reduce_max([mine])
        return Speed(self.seconds_per_step(), NUM_VALIDATED / validation)


def _random_text(length: int, vocab_size: int) -> EncodedText:
    """What a text says changes no time."""
    return EncodedText(np.random.default_rng(0).integers(vocab_size, size=length, dtype=np.uint32))


def _seconds(action: Callable[[], object]) -> float:
    """How long it takes, with what a GPU has still to do afterwards."""
    started = time.perf_counter()
    action()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - started


def take_steps(learner: Learner) -> Callable[[], None]:
    """A function that takes the next step of the first epoch; after the last on a whole batch comes the first again."""
    numbers = cycle(range(max(1, learner.batches.steps_per_epoch - 1)))

    def step() -> None:
        number = next(numbers)
        learner.take_step(number, 1, number)

    return step


if __name__ == "__main__":
    sys.exit(main())
