"""How often luck is called a real difference: many trainings of one small recipe, which differ in nothing but the seed.

Usage: python -m benchmarks.differences [--trainings 120] [--shuffles 100] [--models FOLDER FOLDER ...]

Needs the encoded corpus (`dvc repro encode`) and a few seconds a training. What is trained is kept in
`build/differences/` and not repeated. Printed: how often the difference of two groups of trainings is beyond the
interval by blocks, beyond what seeds explain, and beyond both, which is what `charlstm review` calls real. Then, how
much a block resembles its neighbor, by the length of blocks.

The first rows use each training once, so comparisons are independent. `--shuffles` deals the same trainings out again
and again: more comparisons, which are not independent. `--models` trains nothing, and prints the last table for models
that are there.

Shapes: N characters, K blocks.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import console, new_parser, print_table
from benchmarks.projects import ROOT
from benchmarks.trials import Record, Trial, data_md5, load_data, train
from charlstm.evaluation.blocks import Blocks, blocks_of
from charlstm.evaluation.difference import Difference, Trained, difference
from charlstm.evaluation.protocols import stateful_nats
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.model_folder import load_model
from charlstm.text.encoded import EncodedText
from charlstm.training.train import Data
from pipeline.stage.stage import guarded

SMALL = (
    "recipe=quick",
    "model.embedding_size=16",
    "model.hidden_size=64",
    "model.feed_forward_size=64",
    "train.batch_size=16",
    "train.epochs=2",
    "train.validation_chars=2000",
)
NUM_CHARS = 200_000  # of the training part
SIZES = (1, 2, 3)  # trainings on each side
LENGTHS = (100, 250, 500, 1000, 2000)  # characters of a block
NEIGHBORS = ("characters of a block", "losses", "differences")
FOLDER = ROOT / "build/differences"


class Measured(NamedTuple):
    """A training: its nats by character (N,), and its blocks."""

    nats_N: NDArray[np.float64]
    blocks: Blocks


def main() -> int:
    """Train what is missing, and print Markdown tables."""
    parser = new_parser(__doc__)
    parser.add_argument("--trainings", type=int, default=120, help="with the seeds 1, 2, ...; at least 6")
    parser.add_argument("--shuffles", type=int, default=100, help="how often they are dealt out again")
    parser.add_argument("--models", nargs="+", type=Path, default=[], metavar="FOLDER", help="two at least")
    arguments = parser.parse_args()
    if len(arguments.models) == 1:
        parser.error("--models: expected two at least")
    if arguments.trainings < 2 * max(SIZES) or arguments.shuffles < 0:
        parser.error(f"expected at least {2 * max(SIZES)} trainings and no negative number of shuffles")
    data = load_data()
    if arguments.models:
        models = [load_model(folder, "fused").model for folder in arguments.models]
        print_table(NEIGHBORS, rows_of_neighbors([stateful_nats(model, data.val) for model in models]))
        return 0
    small = data._replace(train=data.train.first(NUM_CHARS))
    trainings = [measured(Trial(SMALL, seed), small) for seed in range(1, arguments.trainings + 1)]
    losses = [one.blocks.nats_per_char for one in trainings]
    spread = f"mean {np.mean(losses):.4f}, standard deviation {np.std(losses, ddof=1):.4f}"
    console.print(f"{len(losses)} trainings, {len(trainings[0].blocks.nats)} blocks; stateful: {spread}\n")
    alarms = ("beyond the text's interval", "beyond seeds", "called real")
    print_table(
        ("trainings", "dealt out", "comparisons", *alarms),
        rows_of_alarms([one.blocks for one in trainings], arguments.shuffles),
    )
    console.print()
    print_table(NEIGHBORS, rows_of_neighbors([one.nats_N for one in trainings]))
    return 0


def measured(trial: Trial, data: Data) -> Measured:
    """A training of this data, unless it was trained before."""
    folder = FOLDER / f"{trial.fingerprint()}-{data_md5()[:8]}-{len(data.train)}"
    file = folder / "nats.npy"
    if not file.exists():
        console.print(f"seed {trial.seed}:")
        folder.mkdir(parents=True, exist_ok=True)

        def measure(model: CharLSTM) -> Record:
            np.save(folder / "new.npy", stateful_nats(model, data.val))
            (folder / "new.npy").replace(file)
            return {"seed": trial.seed}

        train(trial.params(), data, folder / "checkpoints", folder / "model", FOLDER / "records.jsonl", measure)
    return in_blocks(np.load(file), data.val)


def in_blocks(nats_N: NDArray[np.float64], text: EncodedText) -> Measured:
    """With its blocks."""
    return Measured(nats_N, blocks_of(nats_N, text))


def rows_of_alarms(trainings: Sequence[Blocks], num_shuffles: int) -> Iterator[Sequence[str]]:
    """How many of the comparisons find something, although there is nothing."""
    generator = random.Random(0)
    shuffled = [generator.sample(trainings, len(trainings)) for _ in range(num_shuffles)]
    for size in SIZES:
        for name, orders in (("once", [trainings]), (f"{num_shuffles} times", shuffled)):
            found = [one for order in orders for one in comparisons(order, size)]
            if found:
                alarms = (
                    [one.is_beyond_text for one in found],
                    [one.is_beyond_seeds for one in found],
                    [one.is_real for one in found],
                )
                shares = [f"{sum(alarm)} ({sum(alarm) / len(found):.1%})" for alarm in alarms]
                shares[1] = shares[1] if size > 1 else "unknown"
                yield f"{size} and {size}", name, f"{len(found):,}", *shares


def comparisons(order: Sequence[Blocks], size: int) -> Iterator[Difference]:
    """Groups of `size` trainings, each compared with the next; each training is in one of them at most."""
    starts = range(0, len(order) - 2 * size + 1, 2 * size)
    for start in starts:
        sides = [order[start : start + size], order[start + size : start + 2 * size]]
        groups = [Trained("one", [one.nats_per_char for one in side], side) for side in sides]
        best, other = sorted(groups, key=lambda one: one.loss)
        yield difference(best, other)


def rows_of_neighbors(trainings: Sequence[NDArray[np.float64]]) -> Iterator[Sequence[str]]:
    """The correlation of a block with the next one, by length: of losses, and of differences of two trainings."""
    pairs = list(pairwise(trainings))[::2]
    for length in LENGTHS:
        losses = np.mean([neighbors(one, length) for one in trainings])
        differences = np.mean([neighbors(first - second, length) for first, second in pairs])
        yield f"{length:,}", f"{losses:.2f}", f"{differences:.2f}"


def neighbors(values_N: NDArray[np.float64], length: int) -> float:
    """The correlation of means of `length` values with those of the next `length`."""
    means_K = values_N[: len(values_N) // length * length].reshape(-1, length).mean(1)
    rest_K = means_K - means_K.mean()
    return float((rest_K[1:] * rest_K[:-1]).sum() / (rest_K**2).sum())


if __name__ == "__main__":
    sys.exit(guarded(main))
