"""What happens between two steps: a checkpoint if it is due, a stop if any process was asked to.

All processes agree on the answers. Agreeing costs a message, so several processes agree about once a second, after the
same step everywhere.
"""

import time
from collections.abc import Callable

from charlstm.training.checkpoint_folder import Checkpoint, CheckpointFolder
from charlstm.training.processes import Processes

MAX_STEPS_BETWEEN_AGREEMENTS = 100


class StepBoundary:
    """Saves when a checkpoint is due, and tells when to stop.

    Args:
        checkpoints: where process 0 saves; None on every process if nothing is to be saved.
        should_stop: whether this process was told to end.
    """

    def __init__(
        self,
        processes: Processes,
        checkpoints: CheckpointFolder | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.processes, self.checkpoints, self._should_stop = processes, checkpoints, should_stop

    def start(self, step: int) -> None:
        """Training starts or resumes after this step; getting here may have taken a while.

        From this first question on, a request to stop waits for the end of a step.
        """
        self._should_stop()
        self._saved = self._agreed = time.monotonic()
        self._agreed_step = self._next_step = step

    def check(self, step: int, make_checkpoint: Callable[[], Checkpoint]) -> bool:
        """Save if it is time; return whether to stop now, with a checkpoint on disk.

        Every process calls it after each step; `make_checkpoint` is collective.
        """
        if step < self._next_step:
            return False
        is_due, must_stop = self._agree(step)
        if must_stop:
            self.save(step, make_checkpoint)
        elif is_due and self.checkpoints is not None:
            self._saved = time.monotonic()
            checkpoint = make_checkpoint()
            if self.processes.is_main:
                self.checkpoints.save(step, checkpoint)
        return must_stop

    def save(self, step: int, make_checkpoint: Callable[[], Checkpoint]) -> None:
        """Save now, and return when it is on disk."""
        if self.checkpoints is None:
            return
        checkpoints, checkpoint = self.checkpoints, make_checkpoint()

        def write() -> None:
            checkpoints.save(step, checkpoint)
            checkpoints.wait()

        self.processes.on_main(write)

    def _agree(self, step: int) -> tuple[bool, bool]:
        now = time.monotonic()
        seconds_per_step = (now - self._agreed) / max(1, step - self._agreed_step)
        is_due = (
            self.processes.is_main
            and self.checkpoints is not None
            and now - self._saved >= self.checkpoints.seconds_between
            and not self.checkpoints.is_writing  # on a slow disk, no step waits for the checkpoint before
        )
        due, stop = float(is_due), float(self._should_stop())
        if self.processes.world_size > 1:
            due, stop, seconds_per_step = self.processes.all_reduce_max(
                [due, stop, seconds_per_step]
            )
            self._next_step = step + steps_until_next(seconds_per_step)
        self._agreed, self._agreed_step = now, step
        return due > 0, stop > 0


def steps_until_next(seconds_per_step: float) -> int:
    """Steps to the next agreement: about one a second, and one after so many steps however fast they are."""
    num_steps = 1 / max(seconds_per_step, 1e-9)
    return int(min(max(1, num_steps), MAX_STEPS_BETWEEN_AGREEMENTS))
