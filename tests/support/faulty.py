"""Train stage with a fault: in `faulty.py RANK STEP ...`, a loss is not a number at these steps.

If the environment variable `FAULT` is set, the stage fails there with that error instead.
"""

import os
import sys

from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.model import loss
from charlstm.model.loss import summed_nats

rank, *steps = map(int, sys.argv[1:])
# Several processes warm up with one call before the first step.
num_calls = -1 if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def faulty(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    global num_calls
    num_calls += 1
    is_now = int(os.environ.get("RANK", "0")) == rank and num_calls in steps
    if is_now and (fault := os.environ.get("FAULT")):
        raise CharlstmError(fault)
    return summed_nats(logits_BTV, targets_BT) * (float("nan") if is_now else 1.0)


vars(loss)["summed_nats"] = faulty

if __name__ == "__main__":
    from pipeline import train
    from pipeline.run import stage

    stage.end_process(lambda: stage.run(train.run, []))
