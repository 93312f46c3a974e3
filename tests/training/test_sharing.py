"""Muon's products, shared out: the same bits for any number of processes."""

import json
import subprocess
from pathlib import Path
from threading import Barrier, Thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learning import needs_bf16
from torch import Tensor

from benchmarks.projects import torchrun, write_params
from charlstm.optimization.muon import Muon, compute_sharded, num_flops, shares

NUM_STEPS = 3
SIZES = ((48, 8), (48, 12), (12, 12), (20, 12), (12, 20), (8, 8))  # of parameters; the first two have four matrices
NUM_ROWS = (12, 12, 12, 20, 12, 8)
NUM_MATRICES = 12  # of which the last has no gradient


class Together:
    """Threads that give each other tensors."""

    def __init__(self, world_size: int) -> None:
        self.world_size, self.given = world_size, [torch.empty(0)] * world_size
        self.barrier = Barrier(world_size, timeout=60)
        self.num_numbers: list[int] = []


class OneOf:
    """One thread, as the optimizer sees it."""

    def __init__(self, rank: int, together: Together) -> None:
        self.rank, self.world_size, self.together = rank, together.world_size, together

    def all_gather(self, mine: Tensor, /) -> Tensor:
        self.together.given[self.rank] = mine
        self.together.num_numbers.append(mine.numel())
        self.together.barrier.wait()
        everyones = torch.stack(self.together.given)
        self.together.barrier.wait()
        return everyones


def draw(seed: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def trained(peer: OneOf, dtype: torch.dtype) -> list[Tensor]:
    weights = [torch.nn.Parameter(draw(0, size)) for size in SIZES]
    groups = [{"params": [weight], "num_rows": rows} for weight, rows in zip(weights, NUM_ROWS, strict=True)]
    muon = Muon(groups, 0.1, momentum=0.9, weight_decay=0.1, dtype=dtype, peers=peer)
    for step in range(NUM_STEPS):
        for place, weight in enumerate(weights[:-1]):
            weight.grad = draw(100 * step + place, SIZES[place])
        muon.step()
    return [weight.detach() for weight in weights]


def trained_together(world_size: int, dtype: torch.dtype) -> tuple[list[list[Tensor]], Together]:
    together = Together(world_size)
    results: dict[int, list[Tensor]] = {}

    def train(rank: int) -> None:
        results[rank] = trained(OneOf(rank, together), dtype)

    threads = [Thread(target=train, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(world_size)], together


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("world_size", [2, 3, 5, 16])
def test_weights_have_the_same_bits_for_any_number_of_processes(world_size: int, dtype: torch.dtype) -> None:
    alone, nothing = trained_together(1, dtype)
    assert nothing.num_numbers == []
    assert not torch.equal(alone[0][0], draw(0, SIZES[0])) and torch.equal(alone[0][-1], draw(0, SIZES[-1]))
    everyones, together = trained_together(world_size, dtype)
    assert len(everyones) == world_size
    for weights in everyones:
        assert all(torch.equal(one, other) for one, other in zip(weights, alone[0], strict=True))
    assert len(together.num_numbers) == NUM_STEPS * world_size and len(set(together.num_numbers)) == 1


def test_each_matrix_is_made_once() -> None:
    """And everybody has what was made, also of pieces that are not alike."""
    together, made, received = Together(3), [], {}
    like = [torch.empty(2, size) for size in range(1, 8)]

    def make(rank: int, piece: int) -> Tensor:
        made.append(piece)
        return torch.full((2, piece + 1), 10.0 * rank + piece)

    def train(rank: int) -> None:
        peer = OneOf(rank, together)
        received[rank] = compute_sharded(lambda piece: make(rank, piece), like, torch.float32, peer)

    threads = [Thread(target=train, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(7))
    for rank in range(3):
        assert all(torch.equal(mine, first) for mine, first in zip(received[rank], received[0], strict=True))
        assert [tensor[0, 0] % 10 for tensor in received[rank]] == list(range(7))


@given(costs=st.lists(st.integers(1, 1000), min_size=1, max_size=40), num_processes=st.integers(1, 12))
def test_shares_are_nearly_equal(costs: list[int], num_processes: int) -> None:
    found = shares(costs, num_processes)
    assert sorted(piece for share in found for piece in share) == list(range(len(costs)))
    loads = [sum(costs[piece] for piece in share) for share in found]
    # Graham 1966: nobody has more than the mean and one piece.
    assert max(loads) <= sum(costs) / num_processes + max(costs)
    assert found == shares(list(costs), num_processes)


def test_two_processes_share_the_default_recipe_equally() -> None:
    matrices = [(320, 128)] * 4 + [(320, 320)] * 6
    first, second = shares([num_flops(*matrix) for matrix in matrices], 2)
    assert sorted(matrices[piece] for piece in first) == sorted(matrices[piece] for piece in second)


IN_PROCESSES = """
import hashlib, json, sys
from pathlib import Path
import torch
from charlstm.optimization import muon
from charlstm.params import load_params
from charlstm.text.encoded import load_encoded
from charlstm.text.vocabulary import load_vocab
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes

num_made = 0
def counted(matrix, original=muon.orthogonalize):
    global num_made
    num_made += 1
    return original(matrix)
muon.orthogonalize = counted

params = load_params(Path("params.yaml"))
encoded = Path("Datasets/encoded")
vocab = load_vocab(encoded / "vocab.json")
text = load_encoded(encoded / "train.npy", vocab)
processes = Processes(params.train.precision)
learner = Learner(text, len(vocab), params.model, params.train, processes)
skipped = []
for step in range(6):
    if step == 3 and processes.rank == 1:  # an overflow in one process
        learner.state.hidden.fill_(float("nan"))
    if learner.take_step(step, 1, step) is None:
        skipped.append(step)
weights = b"".join(weight.detach().numpy().tobytes() for weight in learner.model.parameters())
assert processes.all_equal(hashlib.sha256(weights).hexdigest())
assert all(weight.isfinite().all() for weight in learner.model.parameters())
made = processes.gather(torch.tensor(num_made)).tolist()
if processes.is_main:
    print(json.dumps({"skipped": skipped, "made": made}))
processes.close()
"""


@pytest.mark.parametrize(
    "precision", [pytest.param("bf16", marks=needs_bf16), pytest.param("fp64", marks=pytest.mark.slow)]
)
def test_processes_share_matrices_and_have_the_same_weights_also_after_a_skipped_step(
    encoded: Path, tmp_path: Path, precision: str
) -> None:
    override = {"train.on_nonfinite": "skip", "train.precision": precision, "train.batch_size": 5}
    write_params(tmp_path, {**override, "train.state_reset_probability": 0.0, "model.feed_forward_size": 24})
    (tmp_path / "Datasets").symlink_to(encoded / "Datasets")
    (tmp_path / "share.py").write_text(IN_PROCESSES)
    done = subprocess.run([*torchrun(3), "share.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["skipped"] == [3]
    assert sum(found["made"]) == 5 * 10 and min(found["made"]) >= 5 * 3
