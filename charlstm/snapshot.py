"""What a learner is after a step, as tensors by name: taken from any number of processes, given back to any other.

Shapes: N processes, L layers, B rows of the global batch, H hidden units.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from charlstm.batches import rows_of
from charlstm.gates import LSTMState
from charlstm.learner import Learner


def take(learner: Learner) -> dict[str, Tensor]:
    """All that a later start needs, as copies on the CPU. Collective: each process holds some rows of the state."""
    moments = {
        f"{place}.{index}.{name}": value
        for place, optimizer in enumerate(learner.optimizers)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    rooms = {
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict(),
        "optimizers": moments,
        "state": {name: _gather_rows(learner, part) for name, part in learner.state._asdict().items()},
    }
    return {
        f"{room}.{name}": tensor.detach().to("cpu", copy=True)
        for room, tensors in rooms.items()
        for name, tensor in tensors.items()
    }


def restore(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    """Make of a fresh learner, of any number of processes, the one that `take` saw."""

    def room(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}

    learner.model.load_state_dict(room("model"))
    learner.average.load_state_dict(room("average"))
    for place, optimizer in enumerate(learner.optimizers):
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in room(f"optimizers.{place}").items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    state = (room("state")[name] for name in LSTMState._fields)
    learner.state = LSTMState(*(part[:, learner.batches.rows].to(learner.processes.device) for part in state))


def _gather_rows(learner: Learner, mine_LBH: Tensor) -> Tensor:
    """The rows of the whole global batch, in order. Messages are equally long, so short shares are padded."""
    world_size, batch_size = learner.processes.count, learner.params.batch_size
    shares = [rows_of(rank, world_size, batch_size) for rank in range(world_size)]
    counts = [share.stop - share.start for share in shares]
    padding_LBH = mine_LBH.new_zeros((mine_LBH.shape[0], max(counts) - mine_LBH.shape[1], mine_LBH.shape[2]))
    all_NLBH = learner.processes.gather(torch.cat([mine_LBH, padding_LBH], dim=1))
    return torch.cat([part[:, :count] for part, count in zip(all_NLBH, counts, strict=True)], dim=1)
