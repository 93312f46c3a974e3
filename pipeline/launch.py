"""The start of a launcher, `accelerate launch ...` or `torchrun ...`, after a check of its input.

`python -m pipeline.launch accelerate launch -m pipeline train` becomes the process
`accelerate launch -m pipeline train`. In contrast to the plain command, bad input ends with one
line and exit code 2 before any process starts. Training also stops when DVC dies.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import numpy as np

from charlstm.text.vocabulary import VOCAB, load_vocab
from pipeline.run.interruption import LAUNCHER, SIGNALS, stop_with_parent, without_ignored
from pipeline.run.preflight import check_training
from pipeline.run.settings import check_settings
from pipeline.run.stage import EXIT_BAD_INPUT, errors_reported, load

TRAINING = ["pipeline", "train"]
DEFAULTS = {
    # Without this setting, restarted processes connect to dead processes (torchrun 2.13).
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    # Without this level, `accelerate launch` prints eight lines of warnings about its defaults.
    "ACCELERATE_LOG_LEVEL": "error",
    # This setting makes Python print a traceback when the interpreter crashes.
    "PYTHONFAULTHANDLER": "1",
}
# How many times a waiting OpenMP thread spins before it sleeps.
# An LSTM's threads wait briefly at every time step. Waking sleeping threads would take longer.
# libgomp spins longer by default, which makes a step on a busy machine many times slower.
SPIN_COUNT = "10000"


def main(command: Sequence[str]) -> int:
    """Replace this process with `command`. Return an exit code only on failure."""
    if not command or not command[0]:
        sys.stderr.write("usage: python -m pipeline.launch accelerate launch ... | torchrun ...\n")
        return EXIT_BAD_INPUT
    with errors_reported() as outcome:
        stop_with_parent()
        if list(command[-2:]) == TRAINING:
            _check_training()
        _become(command)
    return outcome.code


def _become(command: Sequence[str]) -> NoReturn:
    signals = ",".join(number.name for number in without_ignored(SIGNALS))
    defaults = {**DEFAULTS, "TORCHELASTIC_SIGNALS_TO_HANDLE": signals}
    if "OMP_WAIT_POLICY" not in os.environ:
        defaults["GOMP_SPINCOUNT"] = SPIN_COUNT
    os.execvpe(command[0], list(command), {**defaults, **os.environ, LAUNCHER: str(os.getpid())})


def _check_training() -> None:
    """Run the quick input checks of the train stage.

    Raises:
        CharlstmError: a setting or a parameter is invalid, or does not suit the encoded text.
    """
    check_settings()
    params, paths = load()
    vocab = load_vocab(paths.encoded / VOCAB)
    # The train stage itself reports a damaged file of ids.
    with suppress(OSError, ValueError, EOFError):
        num_ids = len(np.load(paths.encoded / "train.npy", mmap_mode="r"))
        check_training(params, vocab, num_ids)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
