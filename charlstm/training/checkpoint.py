"""Checkpoints of an unfinished training, from which it resumes as if it had never stopped.

A checkpoint is a folder `step-N` with `state.safetensors` (tensors, and everything else as JSON in its header) and,
written last, `COMPLETE.json` with the SHA-256 of that, the step and the training. The folder is written under a
temporary name, synced and renamed. A damaged checkpoint is reported and put aside, and the one before it is used.
Nothing is pickled.
"""

import hashlib
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

from charlstm.files.atomic import atomic_folder, sha256

log = logging.getLogger(__name__)

STATE, COMPLETE = "state.safetensors", "COMPLETE.json"
NUM_KEPT = 2  # the newest, and the one before in case the newest is damaged


class Checkpoint(NamedTuple):
    """The state after a whole number of steps: tensors on the CPU, and everything else as JSON values."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        contiguous = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return bytes(safetensors.torch.save(contiguous, {"metadata": json.dumps(self.metadata)}))

    @classmethod
    def from_bytes(cls, content: bytes) -> "Checkpoint":
        """What `to_bytes` gave, read back."""
        header_len = int.from_bytes(content[:8], "little")  # the format: length, JSON header, numbers
        metadata = json.loads(json.loads(content[8 : 8 + header_len])["__metadata__"]["metadata"])
        return cls(safetensors.torch.load(content), metadata)


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
        self._is_damaged = False

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None if there is none. Damaged ones are named in warnings.

        What a killed process left half-written is removed.
        """
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        found = sorted(self.folder.glob("step-*"), reverse=True)
        for path in found:
            try:
                return self._read(path)
            except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
                self._quarantine(path, str(error))
        if self._is_damaged:
            log.warning("no whole checkpoint in %s: training starts over", self.folder)
        return None

    def quarantine_newest(self, reason: str) -> None:
        """Put the newest checkpoint aside: it is damaged in a way that its checksum does not show."""
        self._quarantine(max(self.folder.glob("step-*")), reason)

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Begin to write, off the training thread; waits for the write before.

        Raises:
            OSError: the write before failed; older checkpoints are as they were.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, step, checkpoint)

    def wait(self) -> None:
        """Until the last checkpoint is on disk.

        Raises:
            OSError: it could not be written; older checkpoints are as they were.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, step: int, checkpoint: Checkpoint) -> None:
        content = checkpoint.to_bytes()
        with atomic_folder(self.folder / f"step-{step:09d}") as temporary:
            (temporary / STATE).write_bytes(content)
            (temporary / COMPLETE).write_text(json.dumps(self._manifest(step, hashlib.sha256(content).hexdigest())))
        for old in sorted(self.folder.glob("step-*"), reverse=True)[NUM_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def _read(self, path: Path) -> Checkpoint:
        manifest = self._manifest(int(path.name.removeprefix("step-")), sha256(path / STATE))
        if json.loads((path / COMPLETE).read_text()) != manifest:
            raise ValueError(f"{STATE} is not what {COMPLETE} says")
        return Checkpoint.from_bytes((path / STATE).read_bytes())

    def _quarantine(self, damaged: Path, reason: str) -> None:
        """Move it out of the way of new checkpoints, but keep it for inspection."""
        self._is_damaged = True
        reason = " ".join(reason.split())[:300]
        log.warning("the checkpoint %s is damaged (%s); the one before it is taken, if any", damaged, reason)
        aside = damaged.with_name(f"damaged-{damaged.name}")
        shutil.rmtree(aside, ignore_errors=True)
        damaged.rename(aside)

    def _manifest(self, step: int, state_sha256: str) -> dict[str, str | int]:
        """What makes a checkpoint whole, and this training's."""
        return {"training": self.folder.name, "step": step, "sha256": state_sha256}
