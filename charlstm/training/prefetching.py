"""Preparation of the next training batch in a thread, while the device computes a step."""

from concurrent.futures import Future, ThreadPoolExecutor

from charlstm.training.batches import Batch, Batches


class Prefetched:
    """A batch source that reads one batch ahead within an epoch.

    With `is_pinned`, batches are in page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, batches: Batches, *, is_pinned: bool) -> None:
        self._batches = batches
        self._is_pinned = is_pinned
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, int], Future[Batch]] | None = None

    def batch(self, epoch: int, step: int) -> Batch:
        """Return this process's rows of the batch at `step` of an epoch."""
        if self._next is not None and self._next[0] == (epoch, step):
            batch = self._next[1].result()
        else:
            batch = self._read(epoch, step)
        self._next = None
        if step + 1 < self._batches.steps_per_epoch:
            following = (epoch, step + 1)
            self._next = (following, self._reader.submit(self._read, *following))
        return batch

    def _read(self, epoch: int, step: int) -> Batch:
        batch = self._batches.batch(epoch, step)
        return batch.pinned() if self._is_pinned else batch
