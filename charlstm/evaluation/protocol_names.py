"""What the names of protocols say, for those who only read losses and need no torch."""

from collections.abc import Mapping
from typing import Protocol

TEST_PREFIX = "test_"  # of the test part, which no choice may see: what compares models leaves it out


class Scored(Protocol):
    """A loss that knows how many characters it is of."""

    @property
    def num_chars(self) -> int:
        """Characters that were scored."""


def num_measured(losses: Mapping[str, Scored]) -> int:
    """How many characters of the validation part were measured: one more than are scored.

    `losses` are by protocol. With `evaluate.max_chars` they may be fewer than the part has.
    """
    counts = [loss.num_chars for protocol, loss in losses.items() if not protocol.startswith(TEST_PREFIX)]
    return 1 + max(counts, default=0)
