"""The full state of a training between two steps, saved and restored by any number of processes.

Shapes: L layers, B rows of one process, H hidden units.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import TypeAdapter
from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.history import StepRow
from charlstm.model.gates import LSTMState
from charlstm.training.checkpoint_folder import Checkpoint, CheckpointFolder
from charlstm.training.learner import Learner
from charlstm.training.processes import is_out_of_memory
from charlstm.training.progress import Progress

log = logging.getLogger(__name__)

PROGRESS = TypeAdapter(Progress)


def to_checkpoint(
    learner: Learner, progress: Progress, best_weights: Mapping[str, Tensor]
) -> Checkpoint:
    """Return the full training state as a checkpoint, with all tensors copied to the CPU.

    Collective: every process must call this.
    """
    state = {
        # Each process has some rows of the global batch, in the order of ranks.
        name: torch.cat(learner.processes.gather_objects(part_LBH.cpu()), dim=1)
        for name, part_LBH in learner.state._asdict().items()
    }
    if not learner.processes.is_main:  # only process 0 saves
        return Checkpoint({}, {})
    moments = {
        f"{place}.{index}.{name}": value
        for place, optimizer in enumerate(learner.optimizers)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    # The history is saved as a tensor with one row for each logged step.
    # As JSON in the header, millions of rows would exceed the 100 MB limit of safetensors.
    steps = torch.tensor(progress.steps, dtype=torch.float64).reshape(-1, len(StepRow._fields))
    sections = {
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict(),
        "optimizers": moments,
        "state": state,
        "best": best_weights,
        "progress": {"steps": steps},
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


def restore_newest(
    learner: Learner, folder: CheckpointFolder | None
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Load the newest checkpoint of process 0 into a new learner.

    Return the progress and the best weights, or None if there is no checkpoint. The checkpoint may
    come from a different number of processes. Collective: every process must call this.

    Raises:
        CharlstmError: the checkpoint is intact, but cannot be loaded, for example because another
            version of torch wrote it.
    """
    if folder is None:
        return None
    checkpoint = learner.processes.on_main(folder.newest)
    if checkpoint is None:
        return None
    try:
        return _restore(learner, checkpoint)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise CharlstmError(
            f"cannot restore the checkpoint in {folder.folder} ({reason}): install the versions of "
            "charlstm and torch that wrote it, or, to start from the beginning, move this folder "
            "and its copy in the checkpoint mirror away"
        ) from error


def _restore(learner: Learner, checkpoint: Checkpoint) -> tuple[Progress, dict[str, Tensor]]:
    tensors, metadata = checkpoint
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
    learner.num_skipped = metadata["num_skipped"]
    _warn_if_environment_changed(learner, metadata["environment"])

    steps = [
        StepRow(int(step), int(epoch), *measured)
        for step, epoch, *measured in tensors["progress.steps"].tolist()
    ]
    progress = replace(PROGRESS.validate_python(metadata["progress"]), steps=steps)
    best = {name: weight.to(device) for name, weight in _section(tensors, "best").items()}
    return progress, best


def _section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{name}."): value
        for key, value in tensors.items()
        if key.startswith(f"{name}.")
    }


def _environment_of(learner: Learner) -> list[str]:
    """Return the properties of the environment that affect the rounding of results."""
    processes = learner.processes
    return [
        f"torch {torch.__version__}",
        f"{processes.world_size} process(es)",
        processes.describe_device(),
        processes.precision.name,
    ]


def _warn_if_environment_changed(learner: Learner, before: list[str]) -> None:
    now = _environment_of(learner)
    if before == now or not learner.processes.is_main:
        return
    log.warning(
        "the checkpoint was written with %s, but training resumes with %s: the result will differ "
        "from the result of an uninterrupted training: by rounding, or by more if train.precision "
        "is auto",
        ", ".join(before),
        ", ".join(now),
    )
