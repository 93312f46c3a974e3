"""A folder of checkpoints, from which an unfinished training resumes as if it had never stopped.

A checkpoint is a folder `step-N` with `state.safetensors` and its SHA-256. The file contains the
tensors, and all other values as JSON in its header. The folder is written under a temporary name,
synced and renamed. A damaged checkpoint is reported and moved aside, and the previous checkpoint is
used. No file is a pickle.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from charlstm.errors import CharlstmError, ChecksumError
from charlstm.files.atomic import atomic_folder
from charlstm.files.checksums import ABSENT, SUMS, read_sums, sha256, write_sums

log = logging.getLogger(__name__)
STATE = "state.safetensors"
NUM_KEPT = 2  # the newest checkpoint, and the previous one in case the newest is damaged


class Checkpoint(NamedTuple):
    """The training state between two steps: tensors on the CPU, and all other values as JSON."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Return the checkpoint as the content of a safetensors file."""
        contiguous = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return bytes(safetensors.torch.save(contiguous, {"metadata": json.dumps(self.metadata)}))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint in `folder` and verify its checksum.

    Raises:
        ChecksumError: the checkpoint is damaged or incomplete.
        OSError: the checkpoint cannot be read now, but may be intact.
    """
    file = folder / STATE
    try:
        if read_sums(folder / SUMS) != {STATE: sha256(file)}:
            raise ChecksumError(f"the checksum of {STATE} does not match {SUMS}")
        # Tensors are copied to memory, because the file may be removed while they are in use.
        tensors = safetensors.torch.load(file.read_bytes())
        with safe_open(file, "pt") as header:
            return Checkpoint(tensors, json.loads(header.metadata()["metadata"]))
    except ABSENT as error:
        raise ChecksumError(str(error)) from None


class CheckpointFolder:
    """The checkpoints of one training. Only process 0 writes and reads them.

    Only one training at a time may use a folder.

    Args:
        folder: its name must depend on everything that affects the result, so that training with
            changed inputs never resumes from an old checkpoint.
        seconds_between: time between two checkpoints.
    """

    def __init__(self, folder: Path, seconds_between: float) -> None:
        self.folder = folder
        self.seconds_between = seconds_between
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def newest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, or None if there is no intact checkpoint.

        Move damaged checkpoints aside with a warning. Remove checkpoints that a killed process left
        incomplete.

        Raises:
            CharlstmError: a checkpoint cannot be read now, but may be intact. It stays in place, so
                that a later start finds it.
        """
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        found = sorted(self.folder.glob("step-*"), reverse=True)
        for path in found:
            try:
                return read_checkpoint(path)
            except ChecksumError as error:
                reason = " ".join(str(error).split())[:300]
            except OSError as error:
                raise CharlstmError(
                    f"the checkpoint {path} cannot be read ({error.strerror}), but may be intact: "
                    "run the same command again when the disk can be read, or move the checkpoint "
                    "away to resume from the previous checkpoint"
                ) from None
            log.warning(
                "the checkpoint %s is damaged (%s); "
                "training resumes from the previous checkpoint, if there is one",
                path,
                reason,
            )
            # Keep the damaged checkpoint for inspection, but free its name for a new checkpoint.
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        if found:
            log.warning("no intact checkpoint is left in %s", self.folder)
        return None

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Start writing a checkpoint in the background, after the previous write is complete.

        Raises:
            OSError: the previous write failed. Older checkpoints are unchanged.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, step, checkpoint)

    @property
    def is_writing(self) -> bool:
        """True while the last checkpoint is still being written to disk."""
        return self._pending is not None and not self._pending.done()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            OSError: the checkpoint could not be written. Older checkpoints are unchanged.
        """
        if self._pending is not None:
            pending = self._pending
            self._pending = None  # so that a failure is reported only once
            pending.result()

    def _write(self, step: int, checkpoint: Checkpoint) -> None:
        with atomic_folder(self.folder / f"step-{step:09d}") as temporary:
            (temporary / STATE).write_bytes(checkpoint.to_bytes())
            write_sums(temporary / SUMS, [STATE])
        for old in sorted(self.folder.glob("step-*"), reverse=True)[NUM_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
