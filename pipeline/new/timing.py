"""How fast this machine trains: twenty steps are timed, in this process."""

import time
from collections.abc import Callable
from itertools import cycle
from statistics import median

import numpy as np
import torch

from charlstm.params import Params
from charlstm.text.encoded import EncodedText
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes
from pipeline import hardware

NUM_WARM_UP_STEPS, NUM_STEPS = 4, 20
STEPS_PER_EPOCH = 16  # of the text at random that is read


def step_seconds(params: Params, vocab_size: int) -> float:
    """The seconds of a training step, in one process."""
    hardware.keep_freed_memory()
    hardware.use_reproducible_kernels()
    hardware.set_num_threads(hardware.work_of(params))
    train = params.train.model_copy(update={"warmup_steps": 0})  # the text is too short to warm up the rate
    length = STEPS_PER_EPOCH * train.batch_size * train.context_len + 1
    text = EncodedText(np.random.default_rng(0).integers(vocab_size, size=length, dtype=np.uint32))
    processes = Processes(train.precision, on_cpu=hardware.is_kept_on_cpu())
    step = take_steps(Learner(text, vocab_size, params.model, train, processes))
    seconds = []
    for _ in range(NUM_WARM_UP_STEPS + NUM_STEPS):
        started = time.perf_counter()
        step()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[NUM_WARM_UP_STEPS:])


def take_steps(learner: Learner) -> Callable[[], None]:
    """A function that takes the next step of the first epoch; after the last on a whole batch comes the first again."""
    numbers = cycle(range(max(1, learner.batches.steps_per_epoch - 1)))

    def step() -> None:
        number = next(numbers)
        learner.take_step(number, 1, number)

    return step
