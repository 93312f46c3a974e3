"""The learning-rate schedule."""

import math


def learning_rate(step: int, *, warmup_steps: int, num_steps: int, final_fraction: float) -> float:
    """Return the learning rate at `step`, counted from 0, as a fraction of the peak rate.

    The warm-up is linear. Then the rate follows half a cosine (Loshchilov & Hutter 2017) down to
    `final_fraction` at the last step. `final_fraction=1` keeps the rate constant.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - 1 - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return final_fraction + (1 - final_fraction) * cosine
