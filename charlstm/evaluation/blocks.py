"""What a model lost on each block of a text: consecutive stretches of characters, all of one length but the last.

A block is counted in characters also for a model of bytes. So all models that were measured on one text have the same
blocks, and can be compared block by block: see `difference.py`. Nothing here takes torch to import.

Shapes: N ids, K blocks.
"""

import io
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.text.encoded import EncodedText, begins_character, num_chars_of

HEADLINE = "stateful"  # the protocol whose loss names, orders and compares models; that of the blocks
BLOCKS = "blocks.csv"
BLOCK_LEN = 500  # characters; docs/review.md says why
MAX_BLOCKS = 10_000  # of a longer text, a block has twice as many characters, or four times, ...


class Blocks(NamedTuple):
    """The loss by blocks (K,): a row of the table each."""

    start: NDArray[np.int64]
    """Of its first character, from 0."""
    num_chars: NDArray[np.int64]
    """That are scored: all but the first of the text."""
    nats: NDArray[np.float64]
    """Their sum."""

    @property
    def nats_per_char(self) -> float:
        """The loss of all blocks together."""
        return math.fsum(self.nats) / int(self.num_chars.sum())

    def is_beside(self, other: "Blocks") -> bool:
        """Whether both have the same blocks."""
        return np.array_equal(self.start, other.start) and np.array_equal(self.num_chars, other.num_chars)


def block_len(num_chars: int) -> int:
    """The characters of a block of a text: BLOCK_LEN, doubled until there are at most MAX_BLOCKS."""
    length = BLOCK_LEN
    while num_chars > length * MAX_BLOCKS:
        length *= 2
    return length


def blocks_of(nats_N: NDArray[np.float64], text: EncodedText) -> Blocks:
    """The blocks of a text, from the nats of each of its ids but the first."""
    begins: Sequence[int] | NDArray[np.intp] = range(len(text))  # the ids with which a character begins
    if text.unit == "byte":
        begins = np.flatnonzero(begins_character(np.asarray(text.ids), text.unit))
    length = block_len(len(begins))
    ends = np.array([*begins[length::length], len(text)])
    starts = np.append(text.first_input + 1, ends[:-1])  # the first character is not scored
    pairs = list(zip(starts, ends, strict=True))
    num_chars = [num_chars_of(text.ids[start:end], text.unit) for start, end in pairs]
    nats = [math.fsum(nats_N[start - 1 : end - 1]) for start, end in pairs]
    return Blocks(np.arange(len(pairs)) * length, np.array(num_chars), np.array(nats))


def mean_of(several: Sequence[Blocks]) -> Blocks:
    """The blocks of models that were measured on one text, with the mean of their nats."""
    return several[0]._replace(nats=np.mean([one.nats for one in several], axis=0))


def parse_blocks(table: str, where: object) -> Blocks:
    """The blocks of a table as stage evaluate writes it; `where` names it in an error.

    Raises:
        CharlstmError: it is no such table, or damaged.
    """
    head, _, rows = table.partition("\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # that it has no rows
            start, num_chars, nats = np.loadtxt(io.StringIO(rows), delimiter=",", ndmin=2, unpack=True)
        is_whole = head == ",".join(Blocks._fields) and np.isfinite(nats).all() and (num_chars > 0).all()
        if not (is_whole and start[0] == 0 and (np.diff(start) > 0).all()):
            raise ValueError
    except (ValueError, UserWarning):
        expected = f"expected a table of {', '.join(Blocks._fields)}"
        raise CharlstmError(
            f"{where}: {expected}, found something else; `dvc repro --force --single-item evaluate` rewrites it"
        ) from None
    return Blocks(start.astype(np.int64), num_chars.astype(np.int64), nats)
