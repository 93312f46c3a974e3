"""How the next character is chosen."""

from typing import NamedTuple


class SamplingRule(NamedTuple):
    """How the next character is drawn: what is kept of the model's distribution, in this order.

    `temperature` divides the logits; 0 takes the most likely character. `min_p` keeps what has at least this share of
    the most likely character's probability (Nguyen et al. 2024). `top_k` keeps the k most likely characters. `top_p`
    keeps the smallest set of most likely characters that together have at least this share of what is left (nucleus
    sampling, Holtzman et al. 2020). Characters as likely as the last one that is kept are kept, too.
    """

    temperature: float
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
