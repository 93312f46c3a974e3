"""Strings that end a text."""

from collections.abc import Sequence


def cut_at_stop(text: str, start: int, stops: Sequence[str]) -> tuple[int, int] | None:
    """Where the first stop string that ends after `start` begins and ends in `text`; None if there is none."""
    found = [(text.find(stop, max(0, start - len(stop) + 1)), stop) for stop in stops]
    return min(((at, at + len(stop)) for at, stop in found if at >= 0), default=None, key=lambda span: span[::-1])


def num_pending(text: str, stops: Sequence[str]) -> int:
    """The number of characters at the end of `text` that may become a stop string."""
    lengths = (length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
    return max(lengths, default=0)
