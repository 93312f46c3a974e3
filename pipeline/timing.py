"""How fast this machine trains."""

import time
from itertools import cycle
from statistics import median

from charlstm.params import Params

NUM_WARM_UP_STEPS = 4
NUM_STEPS = 20
STEPS_PER_EPOCH = 16  # of the random text that is read


def step_seconds(params: Params, vocab_size: int) -> float:
    """Return the median seconds of twenty training steps in this process."""
    import numpy as np
    import torch

    from charlstm.text.encoded import EncodedText
    from charlstm.training.learner import Learner
    from charlstm.training.processes import Processes
    from pipeline import hardware

    hardware.keep_freed_memory()
    hardware.use_reproducible_kernels()
    hardware.set_num_threads(hardware.work_of(params))
    train = params.train.model_copy(
        update={"warmup_steps": 0}
    )  # the text is too short to warm up the rate
    length = STEPS_PER_EPOCH * train.batch_size * train.context_len + 1
    text = EncodedText(np.random.default_rng(0).integers(vocab_size, size=length, dtype=np.uint32))
    processes = Processes(train.precision, on_cpu=hardware.is_kept_on_cpu())
    learner = Learner(text, vocab_size, params.model, train, processes)
    numbers = cycle(range(learner.batches.steps_per_epoch - 1))  # the last batch is not whole
    seconds = []
    for _ in range(NUM_WARM_UP_STEPS + NUM_STEPS):
        started, number = time.perf_counter(), next(numbers)
        learner.take_step(number, 1, number)
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[NUM_WARM_UP_STEPS:])
