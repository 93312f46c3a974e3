"""Checkpoints, from which an unfinished training resumes as if it had never stopped.

A checkpoint has the full state between two steps, and any number of processes can restore it. It is
a folder `step-N` with `state.safetensors` and its SHA-256. The file contains the tensors, and all
other values as JSON in the tensor `json`. The folder is written under a temporary name, synced and
renamed. A damaged checkpoint is reported and moved aside, and the previous checkpoint is used. No
file is a pickle.

Shapes: L layers, B rows of one process, H hidden units.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import Tensor

from charlstm.errors import ChecksumError
from charlstm.files.atomic import atomic_folder
from charlstm.files.checksums import ABSENT, SUMS, read_sums, sha256, write_sums
from charlstm.model.gates import LSTMState
from charlstm.training.learner import Learner
from charlstm.training.progress import Progress

log = logging.getLogger(__name__)

STATE = "state.safetensors"
JSON = "json"
PROGRESS = TypeAdapter(Progress)
NUM_KEPT = 2  # the newest checkpoint, and the previous one in case the newest is damaged
Checkpoint = Mapping[str, Tensor]


def to_checkpoint(
    learner: Learner, progress: Progress, best_weights: Mapping[str, Tensor]
) -> Checkpoint:
    """Return the full training state as tensors on the CPU.

    Collective: every process must call this.
    """
    state = {
        # Each process has some rows of the global batch, in the order of ranks.
        name: torch.cat(learner.processes.gather_objects(part_LBH.cpu()), dim=1)
        for name, part_LBH in learner.state._asdict().items()
    }
    if not learner.processes.is_main:  # only process 0 saves
        return {}
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
        "state": state,
        "best": best_weights,
    }
    tensors = {
        f"{section}.{name}": tensor.detach().to("cpu", copy=True)
        for section, tensors in sections.items()
        for name, tensor in tensors.items()
    }
    values = {
        "progress": PROGRESS.dump_python(progress, mode="json"),
        "num_skipped": learner.num_skipped,
        "environment": _environment(learner),
    }
    tensors[JSON] = torch.frombuffer(bytearray(json.dumps(values).encode()), dtype=torch.uint8)
    return tensors


def restore_newest(
    learner: Learner, checkpoints: "CheckpointFolder"
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Load the newest checkpoint of process 0 into a new learner.

    Return the progress and the best weights, or None if there is no checkpoint. The checkpoint may
    come from a different number of processes. Collective: every process must call this.
    """
    tensors = learner.processes.on_main(checkpoints.newest)
    if tensors is None:
        return None
    device = learner.processes.device

    learner.model.load_state_dict(_section(tensors, "model"))
    learner.average.load_state_dict(_section(tensors, "average"))
    for place, optimizer in enumerate(learner.optimizers):
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _section(tensors, f"optimizers.{place}").items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})

    own_rows = LSTMState(**_section(tensors, "state")).rows(learner.batches.rows)
    learner.state = LSTMState(*(part.to(device) for part in own_rows))
    values = json.loads(tensors[JSON].numpy().tobytes())
    learner.num_skipped = values["num_skipped"]
    _warn_if_environment_changed(learner, values["environment"])
    best = {name: weight.to(device) for name, weight in _section(tensors, "best").items()}
    return PROGRESS.validate_python(values["progress"]), best


def _section(tensors: Checkpoint, name: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{name}."): value
        for key, value in tensors.items()
        if key.startswith(f"{name}.")
    }


def _environment(learner: Learner) -> list[str]:
    """Return the properties of the environment that affect the rounding of results."""
    processes = learner.processes
    return [
        f"torch {torch.__version__}",
        f"{processes.world_size} process(es)",
        processes.describe_device(),
        processes.precision.name,
    ]


def _warn_if_environment_changed(learner: Learner, before: list[str]) -> None:
    now = _environment(learner)
    if before == now or not learner.processes.is_main:
        return
    log.warning(
        "the checkpoint was written with %s, but training resumes with %s: the result will differ "
        "from the result of an uninterrupted training: by rounding, or by more if train.precision "
        "is auto",
        ", ".join(before),
        ", ".join(now),
    )


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
            OSError: a checkpoint cannot be read now, but may be intact. It stays in place, so that
                a later start finds it.
        """
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for path in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                return read_checkpoint(path)
            except ChecksumError as error:
                log.warning(
                    "the checkpoint %s is damaged (%s); "
                    "training resumes from the previous checkpoint, if there is one",
                    path,
                    error,
                )
            # Keep the damaged checkpoint for inspection, but free its name for a new checkpoint.
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
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
            contiguous = {name: tensor.contiguous() for name, tensor in checkpoint.items()}
            # `save_file` is not used, because it does not raise OSError if the disk is full.
            (temporary / STATE).write_bytes(safetensors.torch.save(contiguous))
            write_sums(temporary / SUMS, [STATE])
        for old in sorted(self.folder.glob("step-*"), reverse=True)[NUM_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


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
        tensors: Checkpoint = safetensors.torch.load(file.read_bytes())
    except ABSENT as error:
        raise ChecksumError(str(error)) from None
    return tensors
