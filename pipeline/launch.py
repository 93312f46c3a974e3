"""Examines a training, then becomes its launcher: `accelerate launch ...` or `torchrun ...`.

`python -m pipeline.launch accelerate launch -m pipeline.train` is `accelerate launch -m pipeline.train`, but bad input
is a line and exit code 2 before any process starts, and the training stops, too, when DVC dies.
"""

import logging
import os
import sys
from collections.abc import Sequence

from pipeline.doctor.examination import examine_training
from pipeline.stage.interruption import LAUNCHER, SIGNALS, stop_with_parent, without_ignored
from pipeline.stage.stage import EXIT_BAD_INPUT, guarded, with_removed_outputs_named

log = logging.getLogger("charlstm")

TRAINING = "pipeline.train"
DEFAULTS = {
    # Without it, restarted processes find the addresses of those before them, and connect to nothing (torchrun 2.13).
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    # Below it, `accelerate launch` warns in eight lines of each value that it chooses, such as a process for every GPU.
    "ACCELERATE_LOG_LEVEL": "error",
    "PYTHONFAULTHANDLER": "1",  # a crash shows where Python was
}
# How long threads that wait for others spin. An LSTM's wait at every time step, for less time than it takes to wake
# one; with libgomp's default, a step beside other work takes many times as long.
SPIN_COUNT = "10000"


def main(command: Sequence[str]) -> int:
    """Become `command`; the exit code if that cannot be."""
    if not command:
        sys.stderr.write("usage: python -m pipeline.launch accelerate launch ... | torchrun ...\n")
        return EXIT_BAD_INPUT
    return with_removed_outputs_named(lambda: guarded(lambda: _become(command)))


def _become(command: Sequence[str]) -> int:
    stop_with_parent()
    if TRAINING not in command or _can_start():
        signals = ",".join(number.name for number in without_ignored(SIGNALS))
        defaults = {**DEFAULTS, "TORCHELASTIC_SIGNALS_TO_HANDLE": signals}
        if "OMP_WAIT_POLICY" not in os.environ:
            defaults["GOMP_SPINCOUNT"] = SPIN_COUNT
        os.execvpe(command[0], list(command), {**defaults, **os.environ, LAUNCHER: str(os.getpid())})
    return EXIT_BAD_INPUT


def _can_start() -> bool:
    findings = examine_training()
    for finding in findings:
        log.log(logging.ERROR if finding.is_error else logging.WARNING, " ".join(finding.text.split("\n")))
    return not any(finding.is_error for finding in findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
