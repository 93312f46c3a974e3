"""How often `charlstm sweep` is right when it says "more than chance", on the encoded text.

Usage: python -m benchmarks.verdicts [--count 40] [--into build/verdicts.jsonl]

Trains `quick` and variants of it with many seeds, and compares small sweeps that are drawn from
these trainings. The first table shows how often a recipe is called better than itself. The second
shows how often the difference between `quick` and a variant, over all seeds, is found.
"""

import json
from itertools import islice
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.harness import new_parser, print_table
from benchmarks.trials import fresh_processes, load_data
from charlstm.evaluation import difference
from charlstm.evaluation.difference import Blocks, RecipeLosses
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import stateful_nats
from charlstm.training.loop import fit
from tests.support.projects import ROOT, compose

VARIANTS = {
    "quick": (),
    "Muon's rate 0.022": ("train.muon.learning_rate=0.022",),
    "Muon's rate 0.025": ("train.muon.learning_rate=0.025",),
    "Muon's rate 0.03": ("train.muon.learning_rate=0.03",),
    "64 units, one epoch": ("model.hidden_size=64", "model.feed_forward_size=64", "train.epochs=1"),
}
SIZES = (1, 2, 3, 5, 8, 12)  # seeds per recipe
NUM_SWEEPS = 2000


def main() -> int:
    """Train what is missing, and print both tables."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=40, help="seeds of each recipe")
    parser.add_argument("--into", type=Path, default=ROOT / "build/verdicts.jsonl", help="the file")
    arguments = parser.parse_args()
    arguments.into.parent.mkdir(exist_ok=True)
    arguments.into.touch()
    kept = {tuple(key): blocks for key, *blocks in map(json.loads, arguments.into.open())}
    pools: dict[str, list[Blocks]] = {name: [] for name in VARIANTS}
    for seed in range(1, arguments.count + 1):
        for name, overrides in VARIANTS.items():
            if (name, seed) not in kept:
                kept[name, seed] = [column.tolist() for column in train(*overrides, seed=seed)]
                with arguments.into.open("a") as file:
                    file.write(json.dumps([(name, seed), *kept[name, seed]]) + "\n")
            pools[name].append(Blocks(*map(np.array, kept[name, seed])))

    errors, powers = [], []
    for name, pool in pools.items():
        losses = [[loss_of(blocks) for blocks in one] for one in (pools["quick"], pool)]
        false = [share_found([pool] * number, size) for number in (2, 5) for size in SIZES[:3]]
        loss = difference.mean_and_deviation(losses[1])
        errors.append([name, loss, *(f"{share:.1%}" for share in false)])
        nats = abs(fmean(losses[1]) - fmean(losses[0]))
        shares = [f"{share_found([pools['quick'], pool], size):.0%}" for size in SIZES]
        needed = difference.seeds_needed(nats, losses, difference.LEVEL)
        powers.append([name, f"{nats:.4f}", *shares, needed])
    sweeps = [f"{number} recipes, {size}" for number in (2, 5) for size in SIZES[:3]]
    print_table(("nothing is better: seeds", "loss", *sweeps), errors)
    print_table(("a variant: seeds", "difference", *map(str, SIZES), "by formula"), powers[1:])
    return 0


def train(*overrides: str, seed: int) -> Blocks:
    """Return the losses of a new training on the validation text."""
    params = compose(ROOT, (*overrides, f"train.seed={seed}"))
    data = load_data()
    result = fit(data, params.model, params.train, fresh_processes(params), [])
    model = CharLSTM(result.shape, params.model.implementation)
    model.load_state_dict(result.weights)
    return difference.blocks_of(stateful_nats(model, data.val), data.val)


def share_found(pools: list[list[Blocks]], size: int) -> float:
    """Return the share of sweeps that call a difference real, with `size` seeds per recipe."""
    generator = np.random.default_rng(1)
    num_found = 0
    for _ in range(NUM_SWEEPS):
        orders = {id(pool): iter(generator.permutation(len(pool))) for pool in pools}
        drawn = [[pool[index] for index in islice(orders[id(pool)], size)] for pool in pools]
        recipes = [RecipeLosses("", [loss_of(one) for one in blocks], blocks) for blocks in drawn]
        num_found += any(one.is_real for one in difference.compare(recipes))
    return num_found / NUM_SWEEPS


def loss_of(blocks: Blocks) -> float:
    """Return the `stateful` loss in nats per character."""
    return float(blocks.nats.sum() / blocks.num_chars.sum())


if __name__ == "__main__":
    raise SystemExit(main())
