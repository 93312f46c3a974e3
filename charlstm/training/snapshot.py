"""What a learner is after a step, as tensors by name: taken from any number of processes, given back to any other.

Shapes: N processes, L layers, B rows of the global batch, H hidden units.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from charlstm.model.gates import LSTMState
from charlstm.training.batches import rows_of
from charlstm.training.learner import Learner


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
        KeyError, ValueError, RuntimeError: tensors are missing or have other shapes; the learner may be half restored.
    """

    def section(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}

    learner.model.load_state_dict(section("model"))
    learner.average.load_state_dict(section("average"))
    for place, optimizer in enumerate(learner.optimizers):
        _restore_optimizer(optimizer, section(f"optimizers.{place}"))
    state = LSTMState(*(section("state")[name] for name in LSTMState._fields))
    expected = (learner.shape.num_layers, learner.params.batch_size, learner.shape.hidden_size)
    if any(part.shape != expected for part in state):
        raise ValueError(f"the carried state has not the shape {expected}")
    learner.state = LSTMState(*(part.to(learner.processes.device) for part in state.rows(learner.batches.rows)))


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if moments:  # torch itself compares neither names nor shapes
        expected_names = max((set(values) for values in moments.values()), key=len)
        for place, weight in enumerate(weights):
            values = moments[place]
            if set(values) != expected_names or any(value.shape not in ((), weight.shape) for value in values.values()):
                raise ValueError(f"the optimizer's state of weight {place} is incomplete or has another shape")
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
