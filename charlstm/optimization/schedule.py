"""The learning-rate schedule."""

import math


def learning_rate(step: int, *, warmup_steps: int, num_steps: int, final_fraction: float) -> float:
    """Return the learning rate of a step (0 to num_steps - 1) as a fraction of the peak.

    The warm-up is linear. Then half a cosine (Loshchilov & Hutter 2017) falls to `final_fraction`
    at the last step; `final_fraction=1` keeps the rate constant.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - 1 - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return final_fraction + (1 - final_fraction) * cosine
