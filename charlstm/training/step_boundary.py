"""The boundary between two steps, where a checkpoint may be saved and training may stop.

All processes make the same decision. Agreement takes a message, so the processes agree only about
once a second, all after the same step.
"""

import time
from collections.abc import Callable

from charlstm.training.checkpoint_folder import Checkpoint, CheckpointFolder
from charlstm.training.processes import Processes

MAX_STEPS_BETWEEN_AGREEMENTS = 100


class StepBoundary:
    """Decisions between two steps: whether to save a checkpoint, and whether to stop.

    Args:
        checkpoints: where process 0 saves checkpoints. None on every process disables saving.
        should_stop: returns True after this process was asked to stop.
    """

    def __init__(
        self,
        processes: Processes,
        checkpoints: CheckpointFolder | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.processes = processes
        self.checkpoints = checkpoints
        self._should_stop = should_stop

    def start(self, step: int) -> None:
        """Start the timers when training starts, or resumes after `step`."""
        # After this first call, a request to stop takes effect only at the end of a step.
        self._should_stop()
        self._saved = time.monotonic()
        self._agreed = self._saved
        self._agreed_step = step
        self._next_step = step

    def check(self, step: int, make_checkpoint: Callable[[], Checkpoint]) -> bool:
        """Save a checkpoint if one is due. Return whether training must stop now.

        If training must stop, a checkpoint is already on disk. Collective: every process must call
        this after each step.
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
        """Save a checkpoint now, and return when the checkpoint is on disk.

        Collective: every process must call this.
        """
        if self.checkpoints is None:
            return
        checkpoints = self.checkpoints
        checkpoint = make_checkpoint()

        def write() -> None:
            checkpoints.save(step, checkpoint)
            checkpoints.wait()

        self.processes.on_main(write)

    def _agree(self, step: int) -> tuple[bool, bool]:
        """Return whether a checkpoint is due, and whether any process was asked to stop."""
        now = time.monotonic()
        seconds_per_step = (now - self._agreed) / max(1, step - self._agreed_step)
        is_due = (
            self.processes.is_main
            and self.checkpoints is not None
            and now - self._saved >= self.checkpoints.seconds_between
            # Training does not wait if a slow disk is still writing the previous checkpoint.
            and not self.checkpoints.is_writing
        )
        must_stop = self._should_stop()
        if self.processes.world_size > 1:
            due, stop, seconds_per_step = self.processes.all_reduce_max(
                [is_due, must_stop, seconds_per_step]
            )
            is_due = due > 0
            must_stop = stop > 0
            self._next_step = step + steps_until_next(seconds_per_step)
        self._agreed = now
        self._agreed_step = step
        return is_due, must_stop


def steps_until_next(seconds_per_step: float) -> int:
    """Return the number of steps until the next agreement: those in a second, at most 100."""
    num_steps = 1 / max(seconds_per_step, 1e-9)
    return int(min(max(1, num_steps), MAX_STEPS_BETWEEN_AGREEMENTS))
