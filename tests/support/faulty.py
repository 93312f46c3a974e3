"""Train stage with a fault in one process: `faulty.py RANK [STEP ...]`.

The process's loss is not a number at these steps. Without steps, the process raises an error.
"""

import os
import sys

from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.model import loss
from charlstm.model.loss import summed_nats
from charlstm.training.learner import Learner
from charlstm.training.progress import Step
from pipeline.run import stage

FAILING_STEP = 40


def fail_in_a_step() -> None:
    """Let a step raise an error."""
    take_step = Learner.take_step

    def faulty(learner: Learner, step: int, epoch: int, index: int) -> Step | None:
        if step == FAILING_STEP:
            raise CharlstmError("a defect on purpose")
        return take_step(learner, step, epoch, index)

    setattr(Learner, "take_step", faulty)  # noqa: B010  # a method


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
    rank, *steps = sys.argv[1:]
    if rank == os.environ.get("RANK", "0"):
        if steps:
            make_not_finite([*map(int, steps)])
        else:
            fail_in_a_step()
    stage.end_process(stage.main(["train"]))
