"""Batches of two texts: the corpus, and what teachers wrote, with their distributions in the place of next characters.

The first rows of a global batch are streams of the corpus, and decide how long an epoch is. The last `num_soft_rows`
are streams of the teachers' text, which they read on and on, however many epochs that takes.
Shapes: B rows of this process, T time steps, V vocabulary.
"""

import numpy as np
import torch

from charlstm.text.soft_text import SoftText, check_soft_text
from charlstm.text.units import Unit
from charlstm.text.vocabulary import Ids
from charlstm.training.batches import Batch, StreamBatches, read_batch, rows_of


class DistillationBatches:
    """As `StreamBatches`, of both.

    Raises:
        TrainingError: one of the texts is too short for a step, or there are more processes than rows.
    """

    carries_state = True

    def __init__(
        self,
        ids: Ids,
        soft_text: SoftText,
        num_soft_rows: int,
        *,
        batch_size: int,
        context_len: int,
        seed: int,
        unit: Unit = "character",
        rank: int = 0,
        world_size: int = 1,
        separator: Ids | None = None,
    ) -> None:
        def streams(ids: Ids, num_rows: int) -> StreamBatches:
            return StreamBatches(
                ids, batch_size=num_rows, context_len=context_len, seed=seed, unit=unit, separator=separator
            )

        check_soft_text(len(soft_text.ids), num_soft_rows, context_len)
        num_hard_rows = batch_size - num_soft_rows
        self.rows = rows_of(rank, world_size, batch_size)
        self._hard, self._soft = streams(ids, num_hard_rows), streams(soft_text.ids, num_soft_rows)
        self._soft_text, self._separator = soft_text, separator
        self._steps_per_pass = (len(soft_text.ids) - 1) // num_soft_rows // context_len  # whole ones
        self._hard_rows = _part(self.rows, 0, num_hard_rows)
        self._soft_rows = _part(self.rows, num_hard_rows, batch_size)
        self.unit, self.steps_per_epoch = unit, self._hard.steps_per_epoch
        self.ids_per_epoch, self.chars_per_epoch = self._hard.ids_per_epoch, self._hard.chars_per_epoch

    def batch(self, epoch: int, step: int) -> Batch:
        """This process's rows of one global batch; the last step of an epoch is as short as what is left."""
        hard = self._hard.batch_of(self._hard_rows, epoch, step)
        length = hard.inputs_BT.shape[1]
        passes, soft_step = divmod((epoch - 1) * self.steps_per_epoch + step, self._steps_per_pass)
        positions = self._soft.positions(passes, soft_step, self._soft_rows)[:, :length]
        soft = read_batch(self._soft_text.ids, positions, self._separator, is_scored=np.zeros_like(positions, bool))
        starts_BT = None
        if hard.starts_BT is not None and soft.starts_BT is not None:
            starts_BT = torch.cat([hard.starts_BT, soft.starts_BT])
        return Batch(
            torch.cat([hard.inputs_BT, soft.inputs_BT]),
            torch.cat([hard.targets_BT, soft.targets_BT]),
            starts_BT,
            torch.from_numpy(self._soft_text.codes_at(positions + 1)),
        )

    def num_chars(self, epoch: int, step: int) -> int:
        """Scored characters of the corpus; those of teachers are not counted."""
        return self._hard.num_chars(epoch, step)


def _part(rows: slice, start: int, stop: int) -> slice:
    """Those of `rows` that lie in [start, stop), counted from `start`."""
    return slice(min(max(rows.start, start), stop) - start, min(max(rows.stop, start), stop) - start)
