"""What the names of protocols say, for those who only read losses and need no torch."""

from collections.abc import Mapping

TEST_PREFIX = "test_"  # of the test part, which no choice may see: what compares models leaves it out


def num_measured(num_chars: Mapping[str, int]) -> int:
    """How many characters of the validation part were measured: one more than are scored.

    `num_chars` is by protocol. With `evaluate.max_chars` they may be fewer than the part has.
    """
    counts = [count for protocol, count in num_chars.items() if not protocol.startswith(TEST_PREFIX)]
    return 1 + max(counts, default=0)
