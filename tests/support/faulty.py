"""Train stage with a fault in one process: `faulty.py RANK STEP ...` or `faulty.py RANK PHASE WAY`.

With numbers of steps, the process's loss is not a number at these steps. With a phase of training,
the process fails there in one of `WAYS`, after it has created the file `fault`.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.model import loss
from charlstm.model.loss import summed_nats
from charlstm.training import loop
from charlstm.training.learner import Learner
from pipeline import train
from pipeline.run import stage

# Phase -> owner and name of a function, and the number of the call that fails.
PHASES: dict[str, tuple[Any, str, int]] = {
    "load": (train, "_load", 1),
    "meet": (train, "_shared_fingerprint", 1),
    "restore": (loop, "restore_newest", 1),
    "step": (Learner, "take_step", 40),
    "validation": (loop, "windowed", 1),
    "checkpoint": (loop, "to_checkpoint", 1),
}
WAYS = ("raise", "memory", "exit", "kill", "stop")
EXIT_CODE = 3


def fail(way: str) -> None:
    """Fail now."""
    Path("fault").touch()
    if way == "raise":
        raise CharlstmError("a defect on purpose")
    if way == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory")
    if way == "exit":
        os._exit(EXIT_CODE)
    os.kill(os.getpid(), signal.SIGKILL if way == "kill" else signal.SIGSTOP)


def fail_in(phase: str, way: str) -> None:
    """Let the function of a phase fail."""
    owner, name, number = PHASES[phase]
    function = getattr(owner, name)
    num_calls = 0

    def faulty(*arguments: Any, **options: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls == number:
            fail(way)
        return function(*arguments, **options)

    setattr(owner, name, faulty)


def make_not_finite(steps: list[int]) -> None:
    """Let the loss of these steps not be a number."""
    # Several processes warm up with one call before the first step.
    num_calls = -1 if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0

    def faulty(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
        nonlocal num_calls
        num_calls += 1
        return summed_nats(logits_BTV, targets_BT) * (float("nan") if num_calls in steps else 1.0)

    vars(loss)["summed_nats"] = faulty


if __name__ == "__main__":
    rank, *words = sys.argv[1:]
    if rank == os.environ.get("RANK", "0"):
        if words[0] in PHASES:
            fail_in(*words)
        else:
            make_not_finite([*map(int, words)])
    stage.end_process(stage.main(["train"]))
