"""Offsets in a text as line and column."""

from collections.abc import Iterable

import numpy as np

from charlstm.text.vocabulary import Ids, Vocab

CHUNK = 1_000_000  # ids at a time


def places_of(offsets: Iterable[int], ids: Ids, vocab: Vocab) -> dict[int, tuple[int, int]]:
    """Line and column of each offset, both from 1; a line ends with its newline."""
    newline, places = vocab.characters.find("\n"), {}
    pending, num_lines, line_start = sorted(offsets, reverse=True), 0, 0
    for start in range(0, len(ids), CHUNK):
        chunk = np.asarray(ids[start : start + CHUNK])
        ends = np.flatnonzero(chunk == newline) + start if newline >= 0 else np.zeros(0, np.int64)
        while pending and pending[-1] < start + CHUNK:
            offset = pending.pop()
            before = int(np.searchsorted(ends, offset))
            begin = int(ends[before - 1]) + 1 if before else line_start
            places[offset] = (num_lines + before + 1, offset - begin + 1)
        if not pending:
            break
        num_lines += len(ends)
        line_start = int(ends[-1]) + 1 if len(ends) else line_start
    return places
