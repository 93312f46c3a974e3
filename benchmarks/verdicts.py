"""How often `charlstm sweep` is right when it says "more than chance", on the encoded text.

Usage: python -m benchmarks.verdicts [--count 40] [--into build/verdicts.jsonl]

Trains the recipe `quick` and variants of it with many seeds, each kept in a file. Small sweeps are
then drawn at random from these trainings and compared, as `charlstm sweep` compares them. The first
table shows how often a recipe is called better than itself. The second shows how often the true
difference between `quick` and a variant, that of the means over all seeds, is called real.
"""

import json
from itertools import islice
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.harness import new_parser, print_table
from benchmarks.trials import fresh_processes, load_data
from charlstm.evaluation.difference import (
    LEVEL,
    Blocks,
    RecipeLosses,
    blocks_of,
    compare,
    mean_and_deviation,
    seeds_needed,
)
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import stateful_nats
from charlstm.training.loop import fit
from tests.support.projects import ROOT, compose

VARIANTS = {
    "quick": (),
    "Muon's rate 0.055": ("train.muon.learning_rate=0.055",),
    "Muon's rate 0.045": ("train.muon.learning_rate=0.045",),
    "Muon's rate 0.035": ("train.muon.learning_rate=0.035",),
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
    trained: dict[str, dict[int, Blocks]] = {name: {} for name in VARIANTS}
    for name, seed, *blocks in map(json.loads, arguments.into.read_text().splitlines()):
        trained[name][seed] = Blocks(*map(np.array, blocks))
    for seed in range(1, arguments.count + 1):
        for name, overrides in VARIANTS.items():
            if seed not in trained[name]:
                trained[name][seed] = found = train(*overrides, f"train.seed={seed}")
                with arguments.into.open("a") as file:
                    file.write(json.dumps([name, seed, *(part.tolist() for part in found)]) + "\n")

    errors, powers = [], []
    pools = {name: list(by_seed.values()) for name, by_seed in trained.items()}
    for name, pool in pools.items():
        losses = [[loss_of(blocks) for blocks in one] for one in (pools["quick"], pool)]
        rates = [
            share_called_real([pool] * number, size) for number in (2, 5) for size in SIZES[:3]
        ]
        errors.append([name, mean_and_deviation(losses[1]), *(f"{rate:.1%}" for rate in rates)])
        nats = abs(fmean(losses[1]) - fmean(losses[0]))
        shares = [f"{share_called_real([pools['quick'], pool], size):.0%}" for size in SIZES]
        powers.append([name, f"{nats:.4f}", *shares, seeds_needed(nats, losses, LEVEL)])
    columns = [f"{number} recipes, {size}" for number in (2, 5) for size in SIZES[:3]]
    print_table(("nothing is better: seeds", "loss", *columns), errors)
    print_table(("a variant: seeds", "difference", *map(str, SIZES), "by formula"), powers[1:])
    return 0


def train(*overrides: str) -> Blocks:
    """Return the losses of a new training on the validation text."""
    params = compose(ROOT, overrides)
    data = load_data()
    result = fit(data, params.model, params.train, fresh_processes(params), [])
    model = CharLSTM(result.shape, params.model.implementation)
    model.load_state_dict(result.weights)
    return blocks_of(stateful_nats(model, data.val), data.val)


def share_called_real(pools: list[list[Blocks]], size: int) -> float:
    """Return the share of sweeps that call a difference more than chance.

    Each recipe has `size` trainings of its pool. No training is drawn twice for a sweep.
    """
    generator = np.random.default_rng(1)
    num_real = 0
    for _ in range(NUM_SWEEPS):
        drawn = {id(pool): iter(generator.permutation(len(pool))) for pool in pools}
        recipes = []
        for pool in pools:
            blocks = [pool[index] for index in islice(drawn[id(pool)], size)]
            recipes.append(RecipeLosses("", [loss_of(one) for one in blocks], blocks))
        num_real += any(difference.is_real for difference in compare(recipes))
    return num_real / NUM_SWEEPS


def loss_of(blocks: Blocks) -> float:
    """Return the `stateful` loss in nats per character."""
    return float(blocks.nats.sum() / blocks.num_chars.sum())


if __name__ == "__main__":
    raise SystemExit(main())
