"""Checks a training's input, then becomes its launcher: `accelerate launch ...` or `torchrun ...`.

`python -m pipeline.launch accelerate launch -m pipeline.train` is `accelerate launch -m pipeline.train`, but bad input
is a line and exit code 2 before any process starts, and the training stops, too, when DVC dies.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from charlstm.params import AUTO
from charlstm.text.vocabulary_file import VOCAB, load_vocab
from charlstm.training.sizes import check_warmup, steps_per_epoch
from charlstm.unknown_characters import check_prompts
from pipeline.run.interruption import LAUNCHER, SIGNALS, stop_with_parent, without_ignored
from pipeline.run.project import check_settings
from pipeline.run.stage import EXIT_BAD_INPUT, guarded, load, with_removed_outputs_named

TRAINING = "pipeline.train"
DEFAULTS = {
    # Without it, restarted processes find the addresses of those before them, and connect to nothing (torchrun 2.13).
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    # Below it, `accelerate launch` warns in eight lines of each value that it chooses, such as a process for every GPU.
    "ACCELERATE_LOG_LEVEL": "error",
    "PYTHONFAULTHANDLER": "1",  # a crash shows where Python was
}
# How long threads that wait for others spin. An LSTM's wait at every time step, for less time than it takes to wake
# one; with libgomp's default, a step on a busy machine takes many times as long.
SPIN_COUNT = "10000"


def main(command: Sequence[str]) -> int:
    """Become `command`; the exit code if that cannot be."""
    if not command or not command[0]:
        sys.stderr.write("usage: python -m pipeline.launch accelerate launch ... | torchrun ...\n")
        return EXIT_BAD_INPUT
    return with_removed_outputs_named(lambda: guarded(lambda: _become(command)))


def _become(command: Sequence[str]) -> int:
    stop_with_parent()
    if TRAINING in command:
        check_training()
    signals = ",".join(number.name for number in without_ignored(SIGNALS))
    defaults = {**DEFAULTS, "TORCHELASTIC_SIGNALS_TO_HANDLE": signals}
    if "OMP_WAIT_POLICY" not in os.environ:
        defaults["GOMP_SPINCOUNT"] = SPIN_COUNT
    os.execvpe(command[0], list(command), {**defaults, **os.environ, LAUNCHER: str(os.getpid())})


def check_training() -> None:
    """Check what the train stage would refuse, as far as it takes no time. Damaged ids are left to the stage.

    Raises:
        CharlstmError: parameters are wrong, the text is too short for them, or a prompt has unknown characters.
    """
    check_settings()
    params, paths = load()
    train, vocab = params.train, load_vocab(paths.encoded / VOCAB)
    if params.sample.prompts != AUTO:
        check_prompts(vocab, params.sample.prompts, "sample.prompts")
    with suppress(OSError, ValueError, EOFError):
        num_ids = len(np.load(paths.encoded / "train.npy", mmap_mode="r"))
        num_steps = train.epochs * steps_per_epoch(num_ids, train, params.encode.unit)
        check_warmup(train.warmup_steps, num_steps, train.epochs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
