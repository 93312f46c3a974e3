"""The boundary between two steps, where a checkpoint may be saved and training may stop.

All processes make the same decision. Agreement takes a message, so the processes agree only about
once a second, all after the same step.
"""

import time
from collections.abc import Callable

from charlstm.training.checkpoint import Checkpoint, CheckpointFolder
from charlstm.training.processes import Processes

MAX_STEPS_BETWEEN_AGREEMENTS = 100


class StepBoundary:
    """Decisions between two steps: whether to save a checkpoint, and whether to stop.

    Args:
        checkpoints: where process 0 saves checkpoints.
        should_stop: returns True after this process was asked to stop.
    """

    def __init__(
        self, processes: Processes, checkpoints: CheckpointFolder, should_stop: Callable[[], bool]
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
        now = time.monotonic()
        is_due = (
            self.processes.is_main
            and now - self._saved >= self.checkpoints.seconds_between
            # Training does not wait if a slow disk is still writing the previous checkpoint.
            and not self.checkpoints.is_writing
        )
        seconds_per_step = (now - self._agreed) / (step - self._agreed_step)
        due, stop, seconds_per_step = self.processes.all_reduce_max(
            [is_due, self._should_stop(), seconds_per_step]
        )
        self._agreed = now
        self._agreed_step = step
        if self.processes.world_size > 1:
            self._next_step = step + steps_until_next(seconds_per_step)
        if stop:
            self.save(step, make_checkpoint)
        elif due:
            self._saved = now
            checkpoint = make_checkpoint()
            if self.processes.is_main:
                self.checkpoints.save(step, checkpoint)
        return bool(stop)

    def save(self, step: int, make_checkpoint: Callable[[], Checkpoint]) -> None:
        """Save a checkpoint now, and return when the checkpoint is on disk.

        Collective: every process must call this.
        """
        checkpoint = make_checkpoint()

        def write() -> None:
            self.checkpoints.save(step, checkpoint)
            self.checkpoints.wait()

        self.processes.on_main(write)


def steps_until_next(seconds_per_step: float) -> int:
    """Return the number of steps until the next agreement: those in a second, at most 100."""
    num_steps = 1 / max(seconds_per_step, 1e-9)
    return int(min(max(1, num_steps), MAX_STEPS_BETWEEN_AGREEMENTS))
