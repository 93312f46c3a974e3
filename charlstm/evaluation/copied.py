"""Which spans of a generated text stand in the training text, character for character, where first, and how often.

Seed and extend: every window of the texts is looked for in the training text, a chunk at a time, and a place where it
stands grows to both sides as far as the text goes on alike. Memory does not grow with the training text, and time grows
with its length.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from charlstm.text.vocabulary import Ids

MIN_SPAN = 12  # characters; shorter ones are everywhere, and say nothing
CHUNK = 2**19  # ids of the training text at a time


class Span(NamedTuple):
    """`length` ids of a text from `start` on that the training text has, too: `num_times`, first at `train_start`."""

    start: int
    length: int
    train_start: int
    num_times: int


def copied_spans(train: Ids, texts: Sequence[Ids], min_len: int = MIN_SPAN) -> list[list[Span]]:
    """For each text, its spans of at least `min_len` ids that `train` has, too, by their start.

    A span that is part of a longer one is left out; spans may overlap otherwise.
    """
    strings = [_string(text) for text in texts]
    longest = max(map(len, strings), default=0)
    seeds = {text[end - min_len : end] for text in strings for end in range(min_len, len(text) + 1)}
    found: list[dict[tuple[int, int], Span]] = [{} for _ in texts]  # by start and the negative length
    size = max(CHUNK, longest)
    for first in range(0, len(train) if seeds else 0, size):
        # What follows the chunk is read, too, so that a span is whole in the chunk in which it begins.
        chunk = _string(train[first : first + size + longest - 1])
        ends = _ends_of(seeds, chunk, min_len)
        for text, spans in zip(strings, found, strict=True):
            for start, length, places in _matches(text, chunk, ends, min_len):
                if begun := [place for place in places if place < size]:
                    before = spans.get((start, -length), Span(start, length, first + begun[0], 0))
                    spans[start, -length] = before._replace(num_times=before.num_times + len(begun))
    return [_without_parts([spans[key] for key in sorted(spans)]) for spans in found]


def covered(spans: Iterable[Span]) -> int:
    """How many ids of a text are in one of its spans, which are in order."""
    total, end = 0, 0
    for span in spans:
        total += max(0, span.start + span.length - max(span.start, end))
        end = max(end, span.start + span.length)
    return total


def _string(ids: Ids) -> str:
    """A character for each id: strings are compared and hashed quickly."""
    return np.asarray(ids).astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _ends_of(seeds: set[str], chunk: str, min_len: int) -> dict[str, list[int]]:
    """The places in the chunk at which each seed ends, ascending."""
    ends: dict[str, list[int]] = {}
    for end in range(min_len, len(chunk) + 1):
        if (window := chunk[end - min_len : end]) in seeds:
            ends.setdefault(window, []).append(end)
    return ends


def _matches(text: str, chunk: str, ends: dict[str, list[int]], min_len: int) -> Iterator[tuple[int, int, list[int]]]:
    """The spans of `text` that the chunk has and that are part of no longer one: start, length, and all places there.

    Each is found by the first seed that ends behind the span before. It grows to the left as far as any place of the
    seed allows, then to the right as far as any of the places that are left.
    """
    stop = 0
    for seed_end in range(min_len, len(text) + 1):
        if seed_end <= stop or (seed_ends := ends.get(text[seed_end - min_len : seed_end])) is None:
            continue
        start, stop = seed_end - min_len, seed_end
        for end in seed_ends:
            if chunk.endswith(text[start:stop], 0, end):
                before = end - stop  # from an offset in the text to one in the chunk
                while start > max(0, -before) and text[start - 1] == chunk[before + start - 1]:
                    start -= 1
        places = [end - (stop - start) for end in seed_ends if chunk.endswith(text[start:stop], 0, end)]
        for place in places:
            if chunk.startswith(text[start:stop], place):
                before = place - start
                while stop < min(len(text), len(chunk) - before) and text[stop] == chunk[before + stop]:
                    stop += 1
        yield start, stop - start, [place for place in places if chunk.startswith(text[start:stop], place)]


def _without_parts(spans: Iterable[Span]) -> list[Span]:
    """The spans of a text, given in order, without those that are part of an earlier one."""
    kept: list[Span] = []
    for span in spans:
        if not kept or span.start + span.length > kept[-1].start + kept[-1].length:
            kept.append(span)
    return kept
