"""Training batches, which depend only on (seed, epoch, step), for any number of processes.

`StreamBatches` reads the text as `batch_size` contiguous streams, left to right. The model's state
is carried from step to step. `WindowBatches` reads overlapping windows, either in random order from
zero states or in text order.

Ids stay in their memory-mapped file. Only the random order of windows takes memory that grows with
the text. Each process holds its `rows` of the global batch.

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
    """Input ids and target ids (B, T) on the CPU, in the dtype of the encoded text."""

    inputs_BT: Tensor
    targets_BT: Tensor
    is_scored_BT: Tensor | None  # (B, T) or (B, 1); None if all targets are scored

    def ids_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets as int64 on `device`. Unscored targets are IGNORE."""
        inputs_BT = self.inputs_BT.to(device, non_blocking=True).long()
        targets_BT = self.targets_BT.to(device, non_blocking=True).long()
        if self.is_scored_BT is not None:
            is_scored_BT = self.is_scored_BT.to(device, non_blocking=True)
            targets_BT = targets_BT.masked_fill(~is_scored_BT, IGNORE)
        return inputs_BT, targets_BT


def rows_of(rank: int, world_size: int, batch_size: int) -> slice:
    """Return which contiguous rows of the global batch a process holds.

    The shares of two processes differ by at most one row.

    Raises:
        TrainingError: there are more processes than rows.
    """
    if world_size > batch_size:
        raise TrainingError(
            f"train.batch_size is {batch_size}, but {world_size} processes were started, and each "
            f"needs a row: start at most {batch_size} processes or raise train.batch_size"
        )
    return slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)


class StreamBatches:
    """Batches from contiguous streams. Each epoch scores every (id, next id) pair exactly once.

    The pairs form a ring. Each epoch rotates the ring by a random offset and cuts it into
    `batch_size` streams, whose lengths differ by at most one pair. The last step of an epoch may be
    shorter than the others.
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
        self.text = text
        self.rows = rows
        self._context_len = context_len
        self._seed = seed
        self.ids_per_epoch = len(text) - 1
        self.steps_per_epoch = stream_steps(len(text), batch_size, context_len, text.unit)

        bounds = self.ids_per_epoch * np.arange(batch_size + 1) // batch_size
        self._starts = bounds[:-1]
        self._lengths = np.diff(bounds)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return this process's rows of the batch at `step` of an epoch.

        The batch has columns [step * T, (step + 1) * T) of the streams. `step` counts from 0 in
        each epoch.
        """
        is_scored = self._columns(step) < self._lengths[self.rows, None]
        return _read_batch(self.text, self._positions(epoch, step, self.rows), is_scored)

    def num_chars(self, epoch: int, step: int) -> int:
        """Return the number of scored characters in the global batch at `step`.

        If ids are bytes, a character counts in the batch that predicts its first byte.
        """
        is_scored = self._columns(step) < self._lengths[:, None]
        if self.text.unit == "character":
            return int(is_scored.sum())
        positions = self._positions(epoch, step, slice(None))
        return self.text.num_chars_at(positions[is_scored] + 1)

    @property
    def chars_per_epoch(self) -> int:
        """Number of scored characters in an epoch: all except the first, which is never predicted.

        If ids are bytes, this reads the whole text to count its characters.
        """
        return num_chars_of(self.text.ids[1:], self.text.unit)

    def _positions(self, epoch: int, step: int, rows: slice) -> NDArray[np.int64]:
        """Return the positions (B, T) of the inputs of `rows` in the text."""
        offset = numpy_generator(self._seed, "stream offset", epoch).integers(self.ids_per_epoch)
        unwrapped = offset + self._starts[rows, None] + self._columns(step)
        return np.asarray(unwrapped % self.ids_per_epoch)

    def _columns(self, step: int) -> NDArray[np.int64]:
        start = step * self._context_len
        return np.arange(start, min(start + self._context_len, self._lengths.max()))


class WindowBatches:
    """Batches of windows, one starting every `stride` ids. Each epoch reads every window once.

    By default, windows are read in random order from zero states. If `is_sliding`, windows are read
    in text order, as in the original. Each row then continues from its state in the previous batch,
    although this state belongs to another place in the text. Rows that are not scored fill up the
    last global batch of an epoch.
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
        self.text = text
        self.rows = rows
        self.carries_state = is_sliding
        self._batch_size = batch_size
        self._context_len = context_len
        self._stride = stride
        self._seed = seed
        self._num_windows = num_windows(len(text), batch_size, context_len, stride, text.unit)
        self.ids_per_epoch = self._num_windows * context_len
        self.steps_per_epoch = -(-self._num_windows // batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return this process's rows of the batch at `step` of an epoch."""
        scored_starts = self._starts(epoch, step)
        starts = np.zeros(self._batch_size, np.int64)
        starts[: len(scored_starts)] = scored_starts
        positions = starts[self.rows, None] + np.arange(self._context_len)
        is_scored = np.arange(self._batch_size)[self.rows, None] < len(scored_starts)
        return _read_batch(self.text, positions, is_scored)

    def num_chars(self, epoch: int, step: int) -> int:
        """Return the number of scored characters in the global batch at `step`."""
        starts = self._starts(epoch, step)
        # Ids are not read here, because `chars_per_epoch` calls this function for every step.
        if self.text.unit == "character":
            return len(starts) * self._context_len
        return self.text.num_chars_at(starts[:, None] + np.arange(1, self._context_len + 1))

    @property
    def chars_per_epoch(self) -> int:
        """Number of scored characters in an epoch, which is the same for every epoch."""
        return sum(self.num_chars(1, step) for step in range(self.steps_per_epoch))

    def _starts(self, epoch: int, step: int) -> NDArray[np.int64]:
        first = step * self._batch_size
        windows = np.arange(first, min(first + self._batch_size, self._num_windows))
        if not self.carries_state:
            windows = _window_order(self._num_windows, self._seed, epoch)[windows]
        return windows * self._stride


@lru_cache(maxsize=1)
def _window_order(num_windows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the random order (num_windows,) of an epoch's windows, in 8 bytes per window."""
    return numpy_generator(seed, "window order", epoch).permutation(num_windows)


def _read_batch(
    text: EncodedText, positions_BT: NDArray[np.int64], is_scored_BT: NDArray[np.bool_]
) -> Batch:
    """Read the ids at `positions_BT` as a batch. Only the targets in `is_scored_BT` are scored."""
    return Batch(
        torch.from_numpy(text.ids[positions_BT]),
        torch.from_numpy(text.ids[positions_BT + 1]),
        None if is_scored_BT.all() else torch.from_numpy(is_scored_BT),
    )


Batches = StreamBatches | WindowBatches
