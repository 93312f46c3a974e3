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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from charlstm.files.atomic import atomic_folder, sha256
from charlstm.model.gates import LSTMState
from charlstm.training.batches import rows_of
from charlstm.training.learner import Learner
from charlstm.training.meter import StepMeter
from charlstm.training.needs import is_out_of_memory
from charlstm.training.progress import Progress

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


# The whole state of a training between two steps: into a checkpoint, and back out of the newest that can be used. What
# a learner is after a step, as tensors by name: taken from any number of processes, given back to any other.
#
# Shapes: N processes, L layers, B rows of the global batch, H hidden units.


def take(learner: Learner) -> dict[str, Tensor]:
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
    }
    return {
        f"{section}.{name}": tensor.detach().to("cpu", copy=True)
        for section, tensors in sections.items()
        for name, tensor in tensors.items()
    }


def restore(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    """Make of a fresh learner, of any number of processes, the one that `take` saw.

    Raises:
        ValueError: names, shapes or dtypes are not those of this learner; it may be half restored.
    """
    state_LBH = torch.empty(
        (learner.shape.num_layers, learner.params.batch_size, learner.shape.hidden_size), dtype=learner.dtype
    )
    optimizers = {str(place): optimizer for place, optimizer in enumerate(learner.optimizers)}
    model, average, state = (_section(tensors, name) for name in ("model", "average", "state"))
    check_same(model, learner.model.state_dict())
    check_same(average, learner.average.state_dict())
    check_same(state, dict.fromkeys(LSTMState._fields, state_LBH))
    if unknown := {key.split(".")[1] for key in tensors if key.startswith("optimizers.")} - set(optimizers):
        raise ValueError(f"the state of an unknown optimizer, {min(unknown)}")

    learner.model.load_state_dict(model)
    learner.average.load_state_dict(average)
    for place, optimizer in optimizers.items():
        _restore_optimizer(optimizer, _section(tensors, f"optimizers.{place}"))
    mine = LSTMState(**state).rows(learner.batches.rows)
    learner.state = LSTMState(*(part.to(learner.processes.device) for part in mine))


def check_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and dtypes.

    Raises:
        ValueError: one differs.
    """
    for name in sorted(found.keys() | expected.keys()):
        have, want = (_describe(tensors, name) for tensors in (found, expected))
        if have != want:
            raise ValueError(f"{name}: expected {want}, found {have}")


def _describe(tensors: Mapping[str, Tensor], name: str) -> str:
    if name not in tensors:
        return "nothing"
    return f"{str(tensors[name].dtype).removeprefix('torch.')} {tuple(tensors[name].shape)}"


def _section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Torch itself compares neither names nor shapes."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if moments:  # none before the first step
        if set(moments) != set(range(len(weights))):
            raise ValueError(f"the optimizer's state is of {len(moments)} weights, expected {len(weights)}")
        names = set.union(*(set(values) for values in moments.values()))
        for place, weight in enumerate(weights):
            count = torch.empty((), dtype=torch.float32)  # AdamW's `step`
            check_same(moments[place], {name: count if name == "step" else weight for name in names})
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _gather_rows(learner: Learner, mine_LBH: Tensor) -> Tensor:
    """The rows of the whole global batch, in order. Messages are equally long, so short shares are padded."""
    world_size, batch_size = learner.processes.world_size, learner.params.batch_size
    shares = [rows_of(rank, world_size, batch_size) for rank in range(world_size)]
    counts = [share.stop - share.start for share in shares]
    padding_LBH = mine_LBH.new_zeros((mine_LBH.shape[0], max(counts) - mine_LBH.shape[1], mine_LBH.shape[2]))
    all_NLBH = learner.processes.gather(torch.cat([mine_LBH, padding_LBH], dim=1))
    return torch.cat([part[:, :count] for part, count in zip(all_NLBH, counts, strict=True)], dim=1)


# A training's whole state.

BEST = "best."  # before the names of the best weights


@dataclass
class TrainingState:
    """What a training is, beside its learner."""

    progress: Progress
    meter: StepMeter
    best_weights: dict[str, Tensor]


def to_checkpoint(learner: Learner, state: TrainingState) -> Checkpoint:
    """The state as copies on the CPU. Collective.

    Raises:
        TrainingError: it is not worth keeping: a loss is not finite.
    """
    state.meter.flush(learner.processes.gather)
    best = {f"{BEST}{name}": weight.to("cpu") for name, weight in state.best_weights.items()}
    metadata = {
        "progress": json.loads(state.progress.to_json()),
        "meter": json.loads(state.meter.to_json()),
        "num_skipped": learner.num_skipped,
        "environment": environment_of(learner),
    }
    return Checkpoint(take(learner) | best, metadata)


def restore_newest(learner: Learner, folder: CheckpointFolder | None, fresh: TrainingState) -> TrainingState:
    """The state of the newest checkpoint that process 0 has, with `learner` as it was then; `fresh` if there is none.

    Collective. A checkpoint that cannot be restored is damaged, whatever its checksum says: it is reported and put
    aside, and the one before it is tried.
    """
    processes, untouched = learner.processes, None
    damage = (KeyError, IndexError, TypeError, ValueError, ArithmeticError, RuntimeError, SafetensorError)
    while True:
        found = folder.newest() if folder is not None and processes.is_main else None
        content = processes.broadcast_bytes(found.to_bytes() if found is not None else b"")
        if not content:
            return fresh
        untouched = untouched or take(learner)
        reason = ""
        try:
            checkpoint = Checkpoint.from_bytes(content)
            state = _restore(learner, checkpoint, fresh)
        except damage as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {error}"
        if processes.all_reduce_max([float(bool(reason))])[0] == 0:
            _warn_if_elsewhere(learner, checkpoint)
            return state
        restore(learner, untouched)
        if folder is not None and processes.is_main:
            folder.quarantine_newest(reason or "another process cannot restore it")


def environment_of(learner: Learner) -> list[str]:
    """What else decides the bits of a result; another machine may have another."""
    processes = learner.processes
    return [
        f"torch {torch.__version__}",
        f"{processes.world_size} process(es)",
        processes.describe_device(),
        learner.precision,
    ]


def _restore(learner: Learner, checkpoint: Checkpoint, fresh: TrainingState) -> TrainingState:
    metadata = checkpoint.metadata
    progress = Progress.from_json(json.dumps(metadata["progress"]))
    meter = StepMeter.from_json(json.dumps(metadata["meter"]))
    _check_progress(progress, learner)
    num_skipped, _ = int(metadata["num_skipped"]), ", ".join(metadata["environment"])
    best = {key.removeprefix(BEST): value for key, value in checkpoint.tensors.items() if key.startswith(BEST)}
    check_same(best, fresh.best_weights)
    restore(learner, checkpoint.tensors)
    learner.num_skipped = num_skipped
    return TrainingState(
        progress, meter, {name: best[name].to(weight.device) for name, weight in fresh.best_weights.items()}
    )


def _check_progress(progress: Progress, learner: Learner) -> None:
    per_epoch = learner.batches.steps_per_epoch
    expected = len(progress.epochs) * per_epoch + progress.step_in_epoch
    if not (0 <= progress.step == expected <= learner.num_steps and 0 <= progress.step_in_epoch <= per_epoch):
        raise ValueError(
            f"step {progress.step} is impossible: {len(progress.epochs)} epochs of {per_epoch} steps are over, and "
            f"{progress.step_in_epoch} steps of the next"
        )
    if (progress.best is not None) != bool(progress.epochs) or progress.best not in [None, *progress.epochs]:
        raise ValueError("the best epoch is none of the epochs that are over")


def _warn_if_elsewhere(learner: Learner, checkpoint: Checkpoint) -> None:
    before, now = checkpoint.metadata["environment"], environment_of(learner)
    if before != now and learner.processes.is_main:
        log.warning(
            "the checkpoint was made with %s, training resumes with %s: the result will differ in its last bits from "
            "that of either alone",
            ", ".join(before),
            ", ".join(now),
        )
