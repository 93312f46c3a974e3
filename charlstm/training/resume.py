"""The whole state of a training between two steps: into a checkpoint, and back out of the newest that can be used."""

import json
import logging
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import Tensor

from charlstm.training import snapshot
from charlstm.training.checkpoint import Checkpoint, CheckpointFolder
from charlstm.training.learner import Learner
from charlstm.training.memory import is_out_of_memory
from charlstm.training.meter import StepMeter
from charlstm.training.progress import Progress

log = logging.getLogger(__name__)

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
    return Checkpoint(snapshot.take(learner) | best, metadata)


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
        untouched = untouched or snapshot.take(learner)
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
        snapshot.restore(learner, untouched)
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
    snapshot.check_same(best, fresh.best_weights)
    snapshot.restore(learner, checkpoint.tensors)
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
