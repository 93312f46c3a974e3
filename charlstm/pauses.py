"""Between two steps: is it time for a checkpoint, does any process have to stop? The processes agree on the answers.

Agreeing costs a message, so with many processes it is done about once a second, after the same step everywhere.
"""

import time
from collections.abc import Callable

from charlstm.checkpoint import Checkpoint, CheckpointFolder
from charlstm.processes import Processes

SECONDS_BETWEEN_AGREEMENTS = 1.0
MAX_STEPS_BETWEEN_AGREEMENTS = 100


class Pauses:
    """Saves when it is time, and says when to stop.

    Args:
        checkpoints: where process 0 saves; None on every process if nothing is to be saved.
        is_asked_to_stop: whether this process was told to end.
    """

    def __init__(
        self, processes: Processes, checkpoints: CheckpointFolder | None, is_asked_to_stop: Callable[[], bool]
    ) -> None:
        self.processes, self.checkpoints, self._is_asked_to_stop = processes, checkpoints, is_asked_to_stop
        self.begin(0)

    def begin(self, step: int) -> None:
        """Training starts, or goes on, after this step; it may have taken a while to get here."""
        self._saved = self._agreed = time.monotonic()
        self._agreed_step = self._next_step = step

    def pause(self, step: int, make_checkpoint: Callable[[], Checkpoint]) -> bool:
        """Called by every process after each step; `make_checkpoint` is collective. Whether to stop now.

        When it is, a checkpoint is on disk.
        """
        if step < self._next_step:
            return False
        is_due, must_stop = self._agree(step)
        if must_stop:
            self.save(step, make_checkpoint)
        elif is_due and self.checkpoints is not None:
            self._saved = time.monotonic()
            checkpoint = make_checkpoint()
            if self.processes.is_first:
                self.checkpoints.save(step, checkpoint)
        return must_stop

    def save(self, step: int, make_checkpoint: Callable[[], Checkpoint]) -> None:
        """Save now, and return when it is on disk."""
        if self.checkpoints is None:
            return
        checkpoint = make_checkpoint()
        if self.processes.is_first:
            self.checkpoints.save(step, checkpoint)
            self.checkpoints.wait()
        self.processes.wait_for_all()

    def _agree(self, step: int) -> tuple[bool, bool]:
        now = time.monotonic()
        seconds_per_step = (now - self._agreed) / max(1, step - self._agreed_step)
        is_due = self.checkpoints is not None and now - self._saved >= self.checkpoints.seconds_between
        mine = [float(is_due), float(self._is_asked_to_stop()), seconds_per_step]
        due, stop, seconds_per_step = self.processes.largest(mine) if self.processes.count > 1 else mine
        if self.processes.count > 1:
            num_steps = SECONDS_BETWEEN_AGREEMENTS / max(seconds_per_step, 1e-9)
            self._next_step = step + int(min(max(1, num_steps), MAX_STEPS_BETWEEN_AGREEMENTS))
        self._agreed, self._agreed_step = now, step
        return due > 0, stop > 0
