"""The train stage with a fault: `faulty.py RANK STEP [STEP ...]` has a loss that is no number there.

With the variable `FAULT` it ends there instead, with that error.
"""

import os
import sys

from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.model import loss
from charlstm.model.loss import summed_nats

rank, *steps = map(int, sys.argv[1:])
num_calls = (
    -1 if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0
)  # several processes warm up with a call first


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

    sys.exit(stage.run(train.run, []))
