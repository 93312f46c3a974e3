"""Which spans of a generated text stand in the training text, character for character, where first, and how often.

Two passes over the training ids, a chunk at a time, one to find the spans and one to count them: memory does not grow
with the training text, and time grows with its length. Every window of MIN_SPAN ids of the chunk is hashed and looked
up among the hashes of the texts' windows. Hits are compared id by id and get a number, the name of that window. A
longer window is a pair of names of shorter ones (Karp, Miller and Rosenberg 1972), so whether a text's window of any
length is in the chunk takes one comparison of pairs. The longest window at each place of a text is then found by
galloping and bisection, for all places at once. So texts that repeat themselves ("aaaa...") cost no more than a small
multiple of others.

Shapes: N ids of all texts one after another, P places of a chunk.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.text.vocabulary import Ids

MIN_SPAN = 12  # characters; shorter ones are everywhere, and say nothing
CHUNK = 2**18  # ids of the training text at a time
FILTER_BITS = 20  # a table of 2^20 bits holds which hashes may be a text's
MULTIPLIERS = tuple(0x9E3779B97F4A7C15 * odd % 2**64 for odd in range(1, 16, 2))  # odd: a product loses no bit
STRIDES = (64, 1)  # first a few places of a text, which tell much of the places between them
Ints = NDArray[np.int64]


class Span(NamedTuple):
    """`length` ids of a text from `start` on that the training text has, too: `num_times`, first at `train_start`."""

    start: int
    length: int
    train_start: int
    num_times: int


class Texts(NamedTuple):
    """The texts one after another."""

    ids: NDArray[np.uint64]  # (N,)
    remaining: Ints  # (N,), ids from here to the end of the text
    firsts: Ints  # where each text begins


def copied_spans(train: Ids, texts: Sequence[Ids], min_len: int = MIN_SPAN) -> list[list[Span]]:
    """For each text, its spans of at least `min_len` ids that `train` has, too, by their start.

    A span that is part of a longer one is left out; spans may overlap otherwise.
    """
    joined = _join(texts)
    lengths, places, num_times = np.zeros((3, len(joined.ids)), np.int64)
    if joined.remaining.max(initial=0) >= min_len:
        windows = _Windows(joined, min_len)
        for chunk in _chunks(train, windows):
            _lengthen(windows, chunk, lengths, places)
        lengths[~_is_maximal(joined, lengths)] = 0
        for chunk in _chunks(train, windows) if lengths.any() else ():
            _count(chunk, lengths, num_times)
    found = []
    for first, size in zip(joined.firsts, map(len, texts), strict=True):
        starts = np.flatnonzero(lengths[first : first + size])
        columns = (starts, *(one[first + starts] for one in (lengths, places, num_times)))
        found.append([Span(*row) for row in zip(*(one.tolist() for one in columns), strict=True)])
    return found


def covered(spans: Iterable[Span]) -> int:
    """How many ids of a text are in one of its spans, which are in order."""
    total, end = 0, 0
    for span in spans:
        total += max(0, span.start + span.length - max(span.start, end))
        end = max(end, span.start + span.length)
    return total


def _join(texts: Sequence[Ids]) -> Texts:
    sizes = [len(text) for text in texts]
    parts = [np.arange(size, 0, -1) for size in sizes]
    return Texts(
        np.concatenate([np.zeros(0, np.uint64), *(text.astype(np.uint64) for text in texts)]),
        np.concatenate([np.zeros(0, np.int64), *parts]),
        np.cumsum([0, *sizes])[:-1],
    )


class _Windows:
    """The names of the texts' windows by length: one number from 1 for the same ids; 0 where a text ends before."""

    def __init__(self, texts: Texts, min_len: int) -> None:
        self.texts, self.min_len = texts, min_len
        self.whole = np.flatnonzero(texts.remaining >= min_len)
        for multiplier in MULTIPLIERS:
            self.multiplier = multiplier
            hashes = _hashes(texts.ids, min_len, self.multiplier)[self.whole]
            self.hashes, firsts, names = np.unique(hashes, return_index=True, return_inverse=True)
            self.examples = self.whole[firsts]  # of each name, where it is in the texts
            if self._same(texts.ids, self.whole, names).all():
                break
        else:
            raise AssertionError("eight hash functions with a collision each among so few windows")
        self.filter = np.zeros(2**FILTER_BITS, bool)
        self.filter[self.hashes >> np.uint64(64 - FILTER_BITS)] = True
        base = np.zeros(len(texts.ids), np.int64)
        base[self.whole] = names + 1
        self.levels = [base]  # of windows of min_len, 2 min_len, 4 min_len ... ids
        self.pairs: list[Ints] = []  # for each level above the first, its pairs of names below, in order

    def _same(self, ids: NDArray[np.uint64], places: Ints, names: Ints) -> NDArray[np.bool_]:
        """Whether the window of `ids` at each place is the one that the name stands for."""
        examples, same = self.examples[names], np.ones(len(places), bool)
        for offset in range(self.min_len):
            same &= ids[places + offset] == self.texts.ids[examples + offset]
        return same

    def names_in(self, chunk: Ids) -> Ints:
        """The names of the chunk's windows of min_len ids; 0 where no text has such a window."""
        ids = chunk.astype(np.uint64)
        hashes = _hashes(ids, self.min_len, self.multiplier)
        places = np.flatnonzero(self.filter[hashes >> np.uint64(64 - FILTER_BITS)])
        names = np.minimum(np.searchsorted(self.hashes, hashes[places]), len(self.hashes) - 1)
        is_text = self.hashes[names] == hashes[places]
        places, names = places[is_text], names[is_text]
        is_text = self._same(ids, places, names)
        found = np.zeros(len(chunk), np.int64)
        found[places[is_text]] = names[is_text] + 1
        return found

    def level(self, index: int) -> Ints:
        """The names (N,) of the texts' windows of min_len 2^index ids."""
        while len(self.levels) <= index:
            below, length = self.levels[-1], self.min_len * 2 ** len(self.levels)
            whole = np.flatnonzero(self.texts.remaining >= length)
            pairs, names = np.unique(self.keys(below, whole, length // 2), return_inverse=True)
            self.levels.append(np.zeros_like(below))
            self.levels[-1][whole] = names + 1
            self.pairs.append(pairs)
        return self.levels[index]

    def keys(self, names: Ints, places: Ints, distance: int) -> Ints:
        """One number for the pair of names at each place and `distance` after it."""
        return names[places] * np.int64(len(self.texts.ids) + 1) + names[places + distance]


class _Chunk:
    """Where the texts' windows are in a chunk of the training text.

    A chunk is `size` ids from `start` on, with what follows them, so that each window is whole in the chunk in which
    it begins.
    """

    def __init__(self, windows: _Windows, ids: Ids, start: int, size: int) -> None:
        self.start = start
        self._windows, self._size = windows, size
        names = windows.names_in(ids)
        self._levels = [(names, np.flatnonzero(names))]

    def find(self, places: Ints, length: int) -> Ints:
        """Where the texts' windows of `length` ids at `places` stand in the training text, first; -1 where they do
        not stand in this chunk."""
        which, hits, here = self._hits(places, length)
        firsts = np.full(which.max(initial=0) + 1, -1)
        firsts[hits[::-1]] = here[::-1] + self.start  # the last assignment stays, which is the first place
        return firsts[which]

    def count(self, places: Ints, length: int) -> Ints:
        """How many windows like the texts' of `length` ids at `places` begin in the chunk's first `size` ids."""
        which, hits, here = self._hits(places, length)
        return np.bincount(hits[here < self._size], minlength=which.max(initial=0) + 1)[which]

    def _hits(self, places: Ints, length: int) -> tuple[Ints, Ints, Ints]:
        """The windows of `length` ids at `places` by number, and the numbers of those that the chunk has, with their
        offsets in it."""
        index = (length // self._windows.min_len).bit_length() - 1
        distance = length - self._windows.min_len * 2**index
        names, here = self._level(index)
        here = here[here + distance < len(names)]
        distinct, which = np.unique(
            self._windows.keys(self._windows.level(index), places, distance), return_inverse=True
        )
        have = self._windows.keys(names, here, distance)
        hits = np.minimum(np.searchsorted(distinct, have), len(distinct) - 1)
        is_hit = distinct[hits] == have
        return which, hits[is_hit], here[is_hit]

    def _level(self, index: int) -> tuple[Ints, Ints]:
        """The names of windows of min_len 2^index ids at every place of the chunk, and the places that have one."""
        while len(self._levels) <= index:
            names, here = self._levels[-1]
            half = self._windows.min_len * 2 ** (len(self._levels) - 1)
            self._windows.level(len(self._levels))
            pairs = self._windows.pairs[len(self._levels) - 1]
            here = here[here + half < len(names)]
            have = self._windows.keys(names, here, half)
            found = np.searchsorted(pairs, have)
            is_text = np.zeros(len(have), bool)
            if len(pairs) > 0:
                found = np.minimum(found, len(pairs) - 1)
                is_text = pairs[found] == have
            above = np.zeros_like(names)
            above[here[is_text]] = found[is_text] + 1
            self._levels.append((above, here[is_text]))
        return self._levels[index]


def _chunks(train: Ids, windows: _Windows) -> Iterator[_Chunk]:
    longest = int(windows.texts.remaining.max())
    size = max(CHUNK, longest)
    for start in range(0, len(train) - windows.min_len + 1, size):
        yield _Chunk(windows, np.asarray(train[start : start + size + longest - 1]), start, size)


def _count(chunk: _Chunk, lengths: Ints, num_times: Ints) -> None:
    """Add to `num_times` (N,) how often the windows of `lengths` (N,), where there are any, begin in this chunk."""
    for length in np.unique(lengths[lengths > 0]):
        places = np.flatnonzero(lengths == length)
        num_times[places] += chunk.count(places, int(length))


def _lengthen(windows: _Windows, chunk: _Chunk, lengths: Ints, places: Ints) -> None:
    """Raise `lengths` (N,), the longest known window at each place of the texts, by what this chunk has.

    `places` (N,) is where the longest begins in the training text. Places that cannot matter any more are left as they
    are: those whose longest possible window is part of one that is known at an earlier place.
    """
    tops, steps = windows.texts.remaining.copy(), np.zeros_like(lengths)
    for stride in STRIDES:
        while len(open_ := _open(lengths, tops, windows.min_len, stride)) > 0:
            tries = _tries(lengths[open_], tops[open_], steps[open_], windows.min_len)
            for length in np.unique(tries):
                asked = open_[tries == length]
                firsts = chunk.find(asked, int(length))
                hit, missed = asked[firsts >= 0], asked[firsts < 0]
                lengths[hit], places[hit] = length, firsts[firsts >= 0]
                steps[hit] += 1
                tops[missed] = length - 1


def _open(lengths: Ints, tops: Ints, min_len: int, stride: int) -> Ints:
    """Of every `stride`-th place, where a longer window than the known one is possible, and part of no other known one.

    A window never ends after the longest possible one of a later place: that lowers `tops` first.
    """
    here = np.arange(len(lengths))
    tops[:] = np.minimum.accumulate((here + tops)[::-1])[::-1] - here
    known_end = np.maximum.accumulate(np.where(lengths > 0, here + lengths, 0))
    return np.flatnonzero((tops >= min_len) & (tops > lengths) & (here + tops > known_end) & (here % stride == 0))


def _tries(lengths: Ints, tops: Ints, steps: Ints, min_len: int) -> Ints:
    """The next length to try at each place: a little more than is known, then twice as much, then by bisection."""
    low = np.maximum(lengths + 1, min_len)
    reach = np.minimum(np.where(lengths < min_len, low, lengths + 2 ** np.minimum(steps, 40)), tops)
    return _roundest(low, reach)


def _roundest(low: Ints, high: Ints) -> Ints:
    """A number from `low` to `high` that many places share: the one with the most zeros at its end, in binary."""
    differing = (low - 1) ^ high
    power = 2 ** np.floor(np.log2(differing)).astype(np.int64)
    found: Ints = high // power * power
    return found


def _hashes(ids: NDArray[np.uint64], length: int, multiplier: int) -> NDArray[np.uint64]:
    """Polynomial hashes modulo 2^64 of all windows of `length` ids, by doubling."""
    done, hashes, power = 0, np.zeros(max(0, len(ids) - length + 1), np.uint64), multiplier
    block, size = ids, 1
    while True:
        if length & size:
            hashes = hashes * np.uint64(power) + block[done : done + len(hashes)]
            done += size
        if done == length:
            return hashes
        block = block[:-size] * np.uint64(power) + block[size:]
        power, size = power * power % 2**64, 2 * size


def _is_maximal(texts: Texts, lengths: Ints) -> NDArray[np.bool_]:
    """Which of the windows at each place are part of no other that begins before them in their text."""
    ends = np.where(lengths > 0, np.arange(len(lengths)) + lengths, 0)
    before = np.zeros_like(ends)
    before[1:] = np.maximum.accumulate(ends)[:-1]
    return ends > before
