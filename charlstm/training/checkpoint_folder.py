"""Checkpoints of an unfinished training, from which it resumes as if it had never stopped.

A checkpoint is a folder `step-N` with `state.safetensors` (tensors, and everything else as JSON in its header) and its
SHA-256. The folder is written under a temporary name, synced and renamed. A damaged checkpoint is reported and put
aside, and the one before it is used. Nothing is pickled.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from charlstm.errors import CharlstmError, ChecksumError
from charlstm.files.atomic import atomic_folder, remove_leftovers
from charlstm.files.checksums import ABSENT, SUMS, read_sums, sha256, write_sums

log = logging.getLogger(__name__)
STATE = "state.safetensors"
NUM_KEPT = 2  # checkpoints: the newest, and the one before in case the newest is damaged


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
        header_len = int.from_bytes(
            content[:8], "little"
        )  # the format: length, JSON header, numbers
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
            log.warning(
                "the checkpoint %s is damaged (%s); the one before it is taken, if any",
                path,
                reason,
            )
            aside = path.with_name(
                f"damaged-{path.name}"
            )  # out of the way of new ones, but there for inspection
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
