"""Checkpoints of an unfinished training, from which it resumes as if it had never stopped.

A checkpoint is a folder `step-N` with `state.safetensors` (tensors, and everything else as JSON in its header) and its
SHA-256. The folder is written under a temporary name, synced and renamed. A damaged checkpoint is reported and put
aside, and the one before it is used. Nothing is pickled.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from torch import Tensor

from charlstm.errors import CharlstmError, ChecksumError
from charlstm.files.atomic import ABSENT, SUMS, atomic_folder, read_sums, remove_leftovers, sha256, write_sums
from charlstm.history import StepRow
from charlstm.model.gates import LSTMState
from charlstm.training.batches import rows_of
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes, is_out_of_memory
from charlstm.training.progress import Progress

log = logging.getLogger(__name__)

STATE = "state.safetensors"
NUM_KEPT = 2  # checkpoints: the newest, and the one before in case the newest is damaged

PROGRESS = TypeAdapter(Progress)


class Checkpoint(NamedTuple):
    """The state after a whole number of steps: tensors on the CPU, and everything else as JSON values."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The checkpoint as a safetensors file."""
        contiguous = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return bytes(safetensors.torch.save(contiguous, {"metadata": json.dumps(self.metadata)}))

    @classmethod
    def from_bytes(cls, content: bytes) -> "Checkpoint":
        """The checkpoint that `to_bytes` gave, read back."""
        header_len = int.from_bytes(content[:8], "little")  # the format: length, JSON header, numbers
        metadata = json.loads(json.loads(content[8 : 8 + header_len])["__metadata__"]["metadata"])
        return cls(safetensors.torch.load(content), metadata)


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        ChecksumError: it is damaged, or something else.
        OSError: it cannot be read now, but may be whole.
    """
    try:
        if read_sums(folder / SUMS) != {STATE: sha256(folder / STATE)}:
            raise ChecksumError(f"{STATE} is not what {SUMS} says")
        return Checkpoint.from_bytes((folder / STATE).read_bytes())
    except ABSENT as error:
        raise ChecksumError(str(error)) from None
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ChecksumError(f"{STATE} is no checkpoint: {type(error).__name__}: {error}") from None


class CheckpointFolder:
    """The checkpoints of one training. Process 0 writes and reads; one process at a time may use a folder.

    Args:
        folder: to be named by all that decides the result, so that changed inputs never meet an old state.
        seconds_between: the time from one checkpoint to the next.
    """

    def __init__(self, folder: Path, seconds_between: float) -> None:
        self.folder, self.seconds_between = folder, seconds_between
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None if there is none. Damaged ones are named in warnings.

        What a killed process left half-written is removed.

        Raises:
            CharlstmError: one cannot be read now, but may be whole. Nothing is moved: another time may find it.
        """
        for name in {leftover.name.split(".")[1] for leftover in self.folder.glob(".step-*")}:
            remove_leftovers(self.folder / name)
        found = sorted(self.folder.glob("step-*"), reverse=True)
        for path in found:
            try:
                return read_checkpoint(path)
            except ChecksumError as error:
                reason = " ".join(str(error).split())[:300]
            except OSError as error:
                raise CharlstmError(
                    f"the checkpoint {path} cannot be read ({error.strerror}), but may be whole: the same command "
                    "resumes from it once it can be read; move it away to resume from the one before it"
                ) from None
            log.warning("the checkpoint %s is damaged (%s); the one before it is taken, if any", path, reason)
            aside = path.with_name(f"damaged-{path.name}")  # out of the way of new ones, but there for inspection
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        if found:
            log.warning("no whole checkpoint is left in %s", self.folder)
        return None

    def newest_bytes(self) -> bytes:
        """Return the newest whole checkpoint as a safetensors file, empty if there is none."""
        newest = self.newest()
        return b"" if newest is None else newest.to_bytes()

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Begin to write, off the training thread; waits for the write before.

        Raises:
            OSError: the write before failed; older checkpoints are as they were.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, step, checkpoint)

    @property
    def is_writing(self) -> bool:
        """Whether the last checkpoint is not on disk yet."""
        return self._pending is not None and not self._pending.done()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            OSError: it could not be written; older checkpoints are as they were.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, step: int, checkpoint: Checkpoint) -> None:
        with atomic_folder(self.folder / f"step-{step:09d}") as temporary:
            (temporary / STATE).write_bytes(checkpoint.to_bytes())
            write_sums(temporary / SUMS, [STATE])
        for old in sorted(self.folder.glob("step-*"), reverse=True)[NUM_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


# The whole state of a training between two steps: taken from any number of processes, given back to any other.
#
# Shapes: N processes, L layers, B rows of the global batch, H hidden units.


def to_checkpoint(learner: Learner, progress: Progress, best_weights: Mapping[str, Tensor]) -> Checkpoint:
    """All that a later start needs, as copies on the CPU. Collective: each process holds some rows of the state."""
    moments = {
        f"{place}.{index}.{name}": value
        for place, optimizer in enumerate(learner.optimizers)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    sections = {
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict(),
        "optimizers": moments,
        "state": {name: _gather_rows(learner, part) for name, part in learner.state._asdict().items()},
        "best": best_weights,
        # Numbers, since there may be millions of them, and text in a safetensors file may have 100 MB at most.
        "progress": {
            "steps": torch.tensor(progress.steps, dtype=torch.float64).reshape(-1, len(StepRow._fields)),
        },
    }
    tensors = {
        f"{section}.{name}": tensor.detach().to("cpu", copy=True)
        for section, tensors in sections.items()
        for name, tensor in tensors.items()
    }
    metadata = {
        "progress": PROGRESS.dump_python(replace(progress, steps=[]), mode="json"),
        "num_skipped": learner.num_skipped,
        "environment": _environment_of(learner),
    }
    return Checkpoint(tensors, metadata)


def restore_newest(learner: Learner, folder: CheckpointFolder | None) -> tuple[Progress, dict[str, Tensor]] | None:
    """Make of a fresh learner, of any number of processes, the one of the newest checkpoint that process 0 has.

    Collective. The progress and the best weights; None if there is no checkpoint.

    Raises:
        CharlstmError: it is whole, but of another form, as another version of torch may have written it.
    """
    if folder is None:
        return None
    content = learner.processes.on_main(folder.newest_bytes)  # which may take long
    if not content:
        return None
    try:
        return _restore(learner, Checkpoint.from_bytes(content))
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise CharlstmError(
            f"the checkpoint in {folder.folder} cannot be restored ({' '.join(str(error).split())[:200]}): go back to "
            "the versions that wrote it, or move that folder away to begin anew, and what a mirror has of it"
        ) from error


def _restore(learner: Learner, checkpoint: Checkpoint) -> tuple[Progress, dict[str, Tensor]]:
    processes, (tensors, metadata) = learner.processes, checkpoint
    learner.model.load_state_dict(_section(tensors, "model"))
    learner.average.load_state_dict(_section(tensors, "average"))
    for place, optimizer in enumerate(learner.optimizers):
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _section(tensors, f"optimizers.{place}").items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    own = LSTMState(**_section(tensors, "state")).rows(learner.batches.rows)
    learner.state = LSTMState(*(part.to(processes.device) for part in own))
    learner.num_skipped = metadata["num_skipped"]
    before, now = metadata["environment"], _environment_of(learner)
    if before != now and processes.is_main:
        differs = "in its last bits from that of either alone"
        if before[-1] != now[-1]:
            differs = "from that of either alone; set train.precision to keep to one precision"
        log.warning(
            "the checkpoint was made with %s, training resumes with %s: the result will differ %s",
            ", ".join(before),
            ", ".join(now),
            differs,
        )
    best = {name: weight.to(processes.device) for name, weight in _section(tensors, "best").items()}
    return _progress_in(checkpoint), best


def _progress_in(checkpoint: Checkpoint) -> Progress:
    tables = _section(checkpoint.tensors, "progress")
    steps = [StepRow(int(step), int(epoch), *others) for step, epoch, *others in tables["steps"].tolist()]
    return replace(PROGRESS.validate_python(checkpoint.metadata["progress"]), steps=steps)


def _section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _gather_rows(learner: Learner, mine_LBH: Tensor) -> Tensor:
    """The rows of the whole global batch, in order. Messages are equally long, so short shares are padded."""
    world_size, batch_size = learner.processes.world_size, learner.params.batch_size
    shares = [rows_of(rank, world_size, batch_size) for rank in range(world_size)]
    counts = [share.stop - share.start for share in shares]
    padding_LBH = mine_LBH.new_zeros((mine_LBH.shape[0], max(counts) - mine_LBH.shape[1], mine_LBH.shape[2]))
    all_NLBH = learner.processes.gather(torch.cat([mine_LBH, padding_LBH], dim=1))
    return torch.cat([part[:, :count] for part, count in zip(all_NLBH, counts, strict=True)], dim=1)


def _environment_of(learner: Learner) -> list[str]:
    """The environment, as far as it decides the bits of a result; another machine may have another."""
    processes = learner.processes
    return [
        f"torch {torch.__version__}",
        f"{processes.world_size} process(es)",
        processes.describe_device(),
        processes.precision.name,
    ]


# Between two steps: is a checkpoint due, must any process stop? All processes agree on the answers.
#
# Agreeing costs a message. With several processes it happens about once a second, after the same step everywhere.


MAX_STEPS_BETWEEN_AGREEMENTS = 100


class StepBoundary:
    """Saves when a checkpoint is due, and tells when to stop.

    Args:
        checkpoints: where process 0 saves; None on every process if nothing is to be saved.
        should_stop: whether this process was told to end.
    """

    def __init__(
        self, processes: Processes, checkpoints: CheckpointFolder | None, should_stop: Callable[[], bool]
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
            due, stop, seconds_per_step = self.processes.all_reduce_max([due, stop, seconds_per_step])
            self._next_step = step + steps_until_next(seconds_per_step)
        self._agreed, self._agreed_step = now, step
        return due > 0, stop > 0


def steps_until_next(seconds_per_step: float) -> int:
    """Steps to the next agreement: about one a second, and one after so many steps however fast they are."""
    num_steps = 1 / max(seconds_per_step, 1e-9)
    return int(min(max(1, num_steps), MAX_STEPS_BETWEEN_AGREEMENTS))
