"""How often `charlstm sweep` is right when it says "more than chance", on the encoded text.

Usage: python -m benchmarks.verdicts [--count 40]

Trains `quick` with many seeds, and variants with half as many. Small sweeps are drawn from these
runs. In some sweeps, a fixed amount is added to every loss of the last recipe.
"""

import json
import math
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.harness import console, new_parser, print_table
from benchmarks.trials import fresh_processes, load_data
from charlstm.evaluation import difference
from charlstm.evaluation.difference import Blocks, RecipeLosses
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import stateful_nats
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.loop import fit
from tests.support.projects import ROOT, compose

RUNS = ROOT / "build/verdicts.jsonl"
VARIANTS = {
    "quick": (),
    "rate 0.022": ("train.muon.learning_rate=0.022",),
    "64 units": ("model.hidden_size=64", "model.feed_forward_size=64", "train.epochs=1"),
}
SWEEPS = [
    *(([name] * number, 0.0) for name in ("quick", "64 units") for number in (2, 5)),
    *((["quick", "quick"], effect) for effect in (0.002, 0.004, 0.008, 0.016, 0.032)),
    (["quick", "rate 0.022"], 0.0),
]
SIZES = (1, 2, 3, 5, 8, 12)  # seeds per recipe
NUM_SWEEPS = 2000


def main() -> int:
    """Train what is missing, and print the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=40, help="seeds of `quick`")
    count = parser.parse_args().count
    RUNS.parent.mkdir(exist_ok=True)
    RUNS.touch()
    kept = {tuple(key): blocks for key, *blocks in map(json.loads, RUNS.open())}
    pools: dict[str, list[Blocks]] = {name: [] for name in VARIANTS}
    for name, overrides in VARIANTS.items():
        for seed in range(1, (count if name == "quick" else count // 2) + 1):
            if (name, seed) not in kept:
                kept[name, seed] = [column.tolist() for column in train(*overrides, seed=seed)]
                with RUNS.open("a") as file:
                    file.write(json.dumps([(name, seed), *kept[name, seed]]) + "\n")
            pools[name].append(Blocks(*map(np.array, kept[name, seed])))

    losses = {name: [loss_of(blocks) for blocks in pool] for name, pool in pools.items()}
    for name, found in losses.items():
        console.print(f"{name}: {difference.mean_and_deviation(found)} over {len(found)} seeds")
    rows = []
    for names, effect in SWEEPS:
        shares = [share_found([pools[name] for name in names], size, effect) for size in SIZES]
        nats = effect + abs(fmean(losses[names[-1]]) - fmean(losses[names[0]]))
        needed = difference.seeds_needed(nats, [losses[names[0]]], difference.LEVEL) or ""
        rows.append([", ".join(names), f"{nats:.4f}", *shares, needed])
    print_table(("recipes: seeds of each", "difference", *map(str, SIZES), "by formula"), rows)
    return 0


def train(*overrides: str, seed: int) -> Blocks:
    """Return the losses of a new run on the validation text."""
    params = compose(ROOT, (*overrides, f"train.seed={seed}"))
    data = load_data()
    with TemporaryDirectory() as folder:
        checkpoints = CheckpointFolder(Path(folder), math.inf)
        result = fit(data, params.model, params.train, fresh_processes(params), checkpoints)
    model = CharLSTM(result.shape, params.model.implementation)
    model.load_state_dict(result.weights)
    return difference.blocks_of(stateful_nats(model, data.val), data.val)


def share_found(pools: list[list[Blocks]], size: int, effect: float) -> str:
    """Return the share of sweeps with `size` seeds that report a difference, or "" if too few."""
    if any(len(pool) < size * sum(one is pool for one in pools) for pool in pools):
        return ""
    generator = np.random.default_rng(1)
    num_found = 0
    for _ in range(NUM_SWEEPS):
        orders = {id(pool): iter(generator.permutation(len(pool))) for pool in pools}
        drawn = [[pool[index] for index in islice(orders[id(pool)], size)] for pool in pools]
        drawn[-1] = [one._replace(nats=one.nats + effect * one.num_chars) for one in drawn[-1]]
        recipes = [RecipeLosses("", [loss_of(one) for one in blocks], blocks) for blocks in drawn]
        num_found += any(one.is_real for one in difference.compare(recipes))
    return f"{num_found / NUM_SWEEPS:.1%}"


def loss_of(blocks: Blocks) -> float:
    """Return the `stateful` loss in nats per character."""
    return float(blocks.nats.sum() / blocks.num_chars.sum())


if __name__ == "__main__":
    raise SystemExit(main())
