"""The speed of training on this machine."""

import time
from statistics import median

from charlstm.params import Params

NUM_WARM_UP_STEPS = 4
NUM_STEPS = 20


def step_seconds(params: Params, vocab_size: int) -> float:
    """Return the median duration, in seconds, of twenty training steps on a random text."""
    import numpy as np
    import torch

    from charlstm.text.encoded import EncodedText
    from charlstm.training.learner import Learner
    from charlstm.training.processes import Processes
    from pipeline import hardware

    hardware.keep_freed_memory()
    hardware.use_reproducible_kernels()
    hardware.set_num_threads(hardware.work_of(params))

    num_steps = NUM_WARM_UP_STEPS + NUM_STEPS
    # The random text is too short for a learning-rate warm-up. Its last batch is incomplete.
    train = params.train.model_copy(update={"warmup_steps": 0})
    length = (num_steps + 1) * train.batch_size * train.context_len + 1
    text = EncodedText(np.random.default_rng(0).integers(vocab_size, size=length, dtype=np.uint32))
    processes = Processes(train.precision, on_cpu=hardware.is_kept_on_cpu())
    learner = Learner(text, vocab_size, params.model, train, processes)

    seconds = []
    for step in range(num_steps):
        started = time.perf_counter()
        learner.take_step(step, 1, step)
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[NUM_WARM_UP_STEPS:])
