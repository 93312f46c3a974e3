"""Times a few steps of each training that could be proposed. It is started as stage train is, on the same hardware."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
import torch

from charlstm.evaluation.windows import windowed
from charlstm.files.documents import read_json, validate
from charlstm.generation.teachers import Teachers
from charlstm.params import Params
from charlstm.sampling import Sampling
from charlstm.text.encoded import EncodedText
from charlstm.text.soft_targets import SoftTargets
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes
from pipeline.distillation.write import MAX_ROWS
from pipeline.new.speed import ANSWER, REQUEST, TIMING, Request, Speed
from pipeline.stage import stage
from pipeline.stage.hardware import (
    is_kept_on_cpu,
    keep_freed_memory,
    set_num_threads,
    use_reproducible_kernels,
    work_of,
)
from pipeline.stage.settings import seconds

NUM_WARM_UP_STEPS, MIN_STEPS, MAX_STEPS = 3, 5, 40
SECONDS_PER_TRAINING = 1.0
STEPS_PER_EPOCH = 16  # of the text at random that is read
NUM_VALIDATED, NUM_WRITTEN = 20_000, 32  # ids; the second for each row


def main(argv: Sequence[str] | None = None) -> int:
    """Answer what is asked in a folder; the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {TIMING}", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    return stage.run_work(lambda: answer(folder))


def answer(folder: Path) -> None:
    """Time the trainings that `pipeline.new.speed` asks for, up to the first that is too slow."""
    keep_freed_memory()
    use_reproducible_kernels()
    vocab_size, rows = read_json(folder / REQUEST)
    requests = [Request(validate(Params, params, folder / REQUEST), *rest) for params, *rest in rows]
    precision, timeout = requests[0].params.train.precision, seconds("CHARLSTM_TIMEOUT_SECONDS")
    speeds: list[Speed] = []
    with closing(Processes(precision, timeout_seconds=timeout, on_cpu=is_kept_on_cpu())) as processes:
        for request in requests:
            speeds.append(_time(request, vocab_size, processes))
            if speeds[-1].seconds_per_step > request.most_seconds:
                break
        if processes.is_main:
            (folder / ANSWER).write_text(json.dumps(speeds))


def _time(request: Request, vocab_size: int, processes: Processes) -> Speed:
    train = request.params.train.model_copy(update={"warmup_steps": 0})  # the text is too short for any
    params = request.params.model_copy(update={"train": train})
    set_num_threads(work_of(params))
    num_hard_rows = train.batch_size - train.distillation.rows
    text = _random_text(STEPS_PER_EPOCH * num_hard_rows * train.context_len + 1, vocab_size)
    learner = learner_of(params, text, vocab_size, processes)
    step = take_steps(learner)
    for _ in range(NUM_WARM_UP_STEPS):
        step()
    (first,) = processes.all_reduce_max([_seconds(step)])  # all take as many
    count = min(max(MIN_STEPS, int(SECONDS_PER_TRAINING / first)), MAX_STEPS)
    per_step = median(_seconds(step) for _ in range(count))
    part, length = _random_text(NUM_VALIDATED, vocab_size), train.validation_context_len
    share = {"rank": processes.rank, "world_size": processes.world_size}
    validation = _seconds(lambda: windowed(learner.averaged, part, length, **share))
    per_step, validation = processes.all_reduce_max([per_step, validation])
    written = _written_per_second(learner, request.num_teachers) if request.num_teachers and processes.is_main else 0.0
    return Speed(per_step, NUM_VALIDATED / validation, written)


def _written_per_second(learner: Learner, num_teachers: int) -> float:
    teachers = Teachers([learner.averaged] * num_teachers)
    prompts_RT = torch.zeros((MAX_ROWS, 1), dtype=torch.int64)
    writing = _seconds(lambda: list(teachers.write(prompts_RT, Sampling(NUM_WRITTEN))))
    return MAX_ROWS * NUM_WRITTEN / writing


def _random_text(length: int, vocab_size: int) -> EncodedText:
    """What a text says changes no time."""
    return EncodedText(np.random.default_rng(0).integers(vocab_size, size=length, dtype=np.uint32))


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def learner_of(params: Params, text: EncodedText, vocab_size: int, processes: Processes) -> Learner:
    """What trains with `params`. A student gets distributions at random: what teachers say changes no time."""
    soft_targets, num_rows = None, params.train.distillation.rows
    if num_rows:
        soft_ids = np.resize(text.ids, STEPS_PER_EPOCH * num_rows * params.train.context_len + 1)
        shape = (len(soft_ids), vocab_size)
        quantized_NV = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        soft_targets = SoftTargets([soft_ids], [quantized_NV])
    return Learner(text, vocab_size, params.model, params.train, processes, soft_targets)


def take_steps(learner: Learner) -> Callable[[], None]:
    """A function that takes the next step of the first epoch; after the last on a whole batch comes the first again."""
    numbers = cycle(range(max(1, learner.batches.steps_per_epoch - 1)))

    def step() -> None:
        number = next(numbers)
        learner.take_step(number, 1, number)

    return step


if __name__ == "__main__":
    sys.exit(main())
