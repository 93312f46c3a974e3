"""The learning-rate schedule."""

import math


def learning_rate(step: int, *, warmup_steps: int, num_steps: int, final_fraction: float) -> float:
    """The rate of step 0, 1, ..., num_steps - 1, as a fraction of the peak.

    Linear warm-up, then half a cosine (Loshchilov & Hutter 2017) to `final_fraction` at the last step;
    `final_fraction=1` keeps it constant.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - 1 - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return final_fraction + (1 - final_fraction) * cosine
