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
