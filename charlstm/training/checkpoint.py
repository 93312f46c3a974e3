"""The whole state of a training between two steps: taken from any number of processes, given back to any other.

Shapes: N processes, L layers, B rows of the global batch, H hidden units.
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
from charlstm.training.batches import rows_of
from charlstm.training.checkpoint_folder import Checkpoint, CheckpointFolder
from charlstm.training.learner import Learner
from charlstm.training.processes import is_out_of_memory
from charlstm.training.progress import Progress

log = logging.getLogger(__name__)

PROGRESS = TypeAdapter(Progress)


def to_checkpoint(
    learner: Learner, progress: Progress, best_weights: Mapping[str, Tensor]
) -> Checkpoint:
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
        "state": {
            name: _gather_rows(learner, part) for name, part in learner.state._asdict().items()
        },
        "best": best_weights,
        # Numbers, since there may be millions of them, and text in a safetensors file may have 100 MB at most.
        "progress": {
            "steps": torch.tensor(progress.steps, dtype=torch.float64).reshape(
                -1, len(StepRow._fields)
            ),
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


def restore_newest(
    learner: Learner, folder: CheckpointFolder | None
) -> tuple[Progress, dict[str, Tensor]] | None:
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
    steps = [
        StepRow(int(step), int(epoch), *others) for step, epoch, *others in tables["steps"].tolist()
    ]
    return replace(PROGRESS.validate_python(checkpoint.metadata["progress"]), steps=steps)


def _section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{name}."): value
        for key, value in tensors.items()
        if key.startswith(f"{name}.")
    }


def _gather_rows(learner: Learner, mine_LBH: Tensor) -> Tensor:
    """The rows of the whole global batch, in order. Messages are equally long, so short shares are padded."""
    world_size, batch_size = learner.processes.world_size, learner.params.batch_size
    shares = [rows_of(rank, world_size, batch_size) for rank in range(world_size)]
    counts = [share.stop - share.start for share in shares]
    padding_LBH = mine_LBH.new_zeros(
        (mine_LBH.shape[0], max(counts) - mine_LBH.shape[1], mine_LBH.shape[2])
    )
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
