"""How the next character is drawn."""

from typing import NamedTuple


class SamplingRule(NamedTuple):
    """How the next character is drawn.

    `temperature` divides the logits; 0 takes the most likely character. `top_k` keeps the k most likely characters.
    `top_p` keeps the smallest set of most likely characters that together have at least this probability (nucleus
    sampling, Holtzman et al. 2020).
    """

    temperature: float
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
