"""Makes batches of ids, as pure functions of (seed, epoch, step), whatever the number of processes.

`StreamBatches` reads the text as `batch_size` contiguous streams, left to right, state carried from step to step.
`WindowBatches` reads overlapping windows, in random order from zero states or sliding along the text.
Ids are read where they lie, so memory does not grow with the text, but for the random order of windows.
A process holds its share of the `rows` of each global batch.
Shapes: B rows of this process, T time steps.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.errors import TrainingError
from charlstm.model.loss import IGNORE
from charlstm.seeds import numpy_generator
from charlstm.text.encoded import EncodedText, num_chars_of
from charlstm.training.sizes import num_windows, stream_steps


class Batch(NamedTuple):
    """Characters to read and the ones to guess, both (B, T) int64; targets may be IGNORE.

    `starts_BT`, bool, is which of the characters to read begin a document; None where no separator is known.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    starts_BT: Tensor | None = None


def rows_of(rank: int, world_size: int, batch_size: int) -> slice:
    """The rows of a global batch that a process holds: contiguous, sizes differ by at most one.

    Raises:
        TrainingError: there are more processes than rows.
    """
    if world_size > batch_size:
        raise TrainingError(
            f"train.batch_size is {batch_size} rows over all processes, but {world_size} processes were started; "
            f"start at most {batch_size} or raise train.batch_size"
        )
    return slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)


class StreamBatches:
    """`batch_size` contiguous streams. Each epoch scores each (character, next character) pair exactly once.

    The pairs form a ring, turned by a random offset each epoch and cut into `batch_size` streams whose lengths
    differ by at most one pair; the last step of an epoch is as short as what is left.
    """

    carries_state = True

    def __init__(
        self,
        text: EncodedText,
        *,
        batch_size: int,
        context_len: int,
        seed: int,
        rows: slice = slice(None),
    ) -> None:
        self.text, self.rows, self._context_len, self._seed = text, rows, context_len, seed
        self._num_pairs = self.ids_per_epoch = len(text) - 1
        self.steps_per_epoch = stream_steps(len(text), batch_size, context_len, text.unit)
        starts = self._num_pairs * np.arange(batch_size + 1) // batch_size
        self._starts, self._lengths = starts[:-1], np.diff(starts)

    def batch(self, epoch: int, step: int) -> Batch:
        """Columns [step * T, (step + 1) * T) of this process's streams; `step` counts from 0 in each epoch."""
        is_scored = self._columns(step) < self._lengths[self.rows, None]
        return read_batch(self.text, self.positions(epoch, step, self.rows), is_scored)

    def positions(self, epoch: int, step: int, rows: slice) -> np.ndarray:
        """The places (B, T) in the text of the characters that `rows` read."""
        offset = numpy_generator(self._seed, "stream offset", epoch).integers(self._num_pairs)
        positions: np.ndarray = (
            offset + self._starts[rows, None] + self._columns(step)
        ) % self._num_pairs
        return positions

    def num_chars(self, epoch: int, step: int) -> int:
        """Scored characters of the global batch at `step`: the ids that are guessed, or those that begin one."""
        is_scored = self._columns(step) < self._lengths[:, None]
        if self.text.unit == "character":
            return int(is_scored.sum())
        positions = self.positions(epoch, step, slice(None))
        return self.text.num_chars_at(positions[is_scored] + 1)

    @property
    def chars_per_epoch(self) -> int:
        """All characters but the first, which nothing predicts. Where ids are bytes, they are all read for it."""
        return num_chars_of(self.text.ids[1:], self.text.unit)

    def _columns(self, step: int) -> np.ndarray:
        start = step * self._context_len
        return np.arange(start, min(start + self._context_len, self._lengths.max()))


class WindowBatches:
    """Windows of `context_len` at every `stride` characters, each once an epoch, in random order, from a zero state.

    Or sliding, as in the original: in the order of the text. Each row takes up the state of the same row in the batch
    before, though that state was left at another place in the text.
    The last global batch of an epoch is filled up with rows that are not scored.
    """

    def __init__(
        self,
        text: EncodedText,
        *,
        batch_size: int,
        context_len: int,
        stride: int,
        seed: int,
        is_sliding: bool = False,
        rows: slice = slice(None),
    ) -> None:
        self.carries_state, self.rows = is_sliding, rows
        self.text, self._context_len, self._seed, self._batch_size = (
            text,
            context_len,
            seed,
            batch_size,
        )
        self._stride, self._num_windows = (
            stride,
            num_windows(len(text), batch_size, context_len, stride, text.unit),
        )
        self.steps_per_epoch = -(-self._num_windows // batch_size)
        self.ids_per_epoch = self._num_windows * context_len

    def batch(self, epoch: int, step: int) -> Batch:
        """This process's rows of the `step`-th `batch_size` windows of the epoch's order."""
        order = self._starts_at(epoch, step)
        starts = np.zeros(self._batch_size, np.int64)
        starts[: len(order)] = order
        positions = starts[self.rows, None] + np.arange(self._context_len)
        is_scored = np.arange(self._batch_size)[self.rows, None] < len(order)
        return read_batch(self.text, positions, is_scored)

    def num_chars(self, epoch: int, step: int) -> int:
        """Scored characters of the global batch at `step`."""
        if self.text.unit == "character":
            return (
                min(self._batch_size, self._num_windows - step * self._batch_size)
                * self._context_len
            )
        return self._num_chars_after(self._starts_at(epoch, step))

    @property
    def chars_per_epoch(self) -> int:
        """Scored characters of all windows together."""
        if self.text.unit == "character":
            return self.ids_per_epoch
        firsts = range(0, self._num_windows, self._batch_size)
        return sum(
            self._num_chars_after(self._windows_from(first) * self._stride) for first in firsts
        )

    def _num_chars_after(self, starts: np.ndarray) -> int:
        positions = starts[:, None] + np.arange(1, self._context_len + 1)
        return self.text.num_chars_at(positions)

    def _starts_at(self, epoch: int, step: int) -> np.ndarray:
        windows = self._windows_from(step * self._batch_size)
        if not self.carries_state:
            windows = window_order(self._num_windows, self._seed, epoch)[windows]
        starts: np.ndarray = windows * self._stride
        return starts

    def _windows_from(self, first: int) -> np.ndarray:
        return np.arange(first, min(first + self._batch_size, self._num_windows))


@lru_cache(maxsize=1)
def window_order(num_windows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return a random order (num_windows,) of an epoch's windows: 8 bytes of memory each."""
    return numpy_generator(seed, "window order", epoch).permutation(num_windows)


def read_batch(text: EncodedText, positions: np.ndarray, is_scored: np.ndarray) -> Batch:
    """The ids at `positions` (B, T), and those after them as targets where `is_scored`."""
    inputs, targets, starts = text.windows(positions)
    targets = np.where(is_scored, targets, IGNORE)
    return Batch(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        None if starts is None else torch.from_numpy(starts),
    )


Batches = StreamBatches | WindowBatches
