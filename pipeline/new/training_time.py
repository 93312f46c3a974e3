"""The best training for a given time on this machine."""

import time
from collections.abc import Callable
from math import ceil
from statistics import median

from charlstm.errors import CorpusError
from charlstm.model.shape import ModelShape
from charlstm.params import Params
from pipeline.new import rules
from pipeline.new.proposal import TextCounts, Training, sizes_for, useful_epochs

NUM_WARM_UP_STEPS = 4
NUM_TIMED_STEPS = 20
MAX_EMBEDDING = 128
MAX_BLOCK = 512
# Time to validate on a character, as a fraction of the time to train on a character.
VALIDATION_COST = 1 / 3


def training_within(
    text: TextCounts,
    seconds: float,
    step_seconds: Callable[[Training], float],
    initial: ModelShape | None = None,
) -> tuple[Training, float]:
    """Return the best training for a given time, and its estimated duration in seconds.

    The best model is the widest that still reads enough characters. `step_seconds` measures the
    duration of a step.

    Raises:
        CorpusError: the time is too short to read the text once.
    """
    num_train = text.num_train
    sizes = rules.BATCH_OF_LONG
    if num_train <= rules.LONG_FOR_BATCH:
        sizes = sizes_for(num_train, rules.USEFUL_EPOCHS)
    max_weights = rules.MAX_WEIGHTS_PER_CHAR * num_train
    if num_train <= rules.SHORT_TEXT:
        max_weights = rules.MAX_WEIGHTS_OF_SHORT * num_train
    num_validated = text.num_chars - num_train
    if text.num_chars > rules.HUGE_TEXT:
        num_validated = rules.VALIDATED
    validation_steps = VALIDATION_COST * num_validated / (sizes[0] * sizes[1])
    max_epochs = useful_epochs(num_train, begins_from_model=initial is not None)

    found = list[tuple[Training, float]]()
    for hidden_size in [initial.hidden_size] if initial else rules.HIDDEN_SIZES:
        embedding_size = min(hidden_size // 2, MAX_EMBEDDING)
        own = ModelShape(0, embedding_size, hidden_size, 1, min(hidden_size, MAX_BLOCK))
        shape = (initial or own)._replace(vocab_size=text.vocab_size)
        if found and shape.num_multiplied > max_weights:
            break
        training = Training(num_train, shape, 1, *sizes, initial is not None)
        epoch_seconds = step_seconds(training) * (training.num_steps + validation_steps)
        possible = rules.USED_TIME * seconds / epoch_seconds
        epochs = min(int(possible), max_epochs)
        if not epochs and not found:
            minutes = f"{ceil(epoch_seconds / rules.USED_TIME / 6) / 10:.1f} minutes"
            raise CorpusError(
                f"--minutes {seconds / 60:g} is too short: reading all {num_train:,} training "
                f"characters once takes {minutes} on this machine"
            )
        least_chars = rules.MIN_CHARS_PER_WEIGHT * shape.num_multiplied
        if not found or epochs * num_train >= least_chars:
            found.append((training._replace(epochs=epochs), epochs * epoch_seconds))
        elif possible * num_train < least_chars:
            break  # a wider model would read even fewer characters
    return found[-1]


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

    num_steps = NUM_WARM_UP_STEPS + NUM_TIMED_STEPS
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
