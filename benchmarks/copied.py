"""How long the search for copied spans takes, and how much memory.

Usage: python -m benchmarks.copied [--megabytes 1 10 100]

The training text is a Markov chain over 65 characters, with 2 bits of news in each, about as much as in English. The
texts are 36 of 500 characters from the same chain, half of each copied. That is as many as the default recipe's
samples and twice their held-out counterparts. Memory is what numpy and Python hold at the peak, without the training
text itself.
"""

import argparse
import sys
import time
import tracemalloc

import numpy as np
from rich.console import Console

from charlstm.evaluation.copied import copied_spans
from charlstm.text.vocabulary import Ids
from pipeline.common.stage import guarded

NUM_SYMBOLS, NUM_TEXTS, TEXT_LEN, NUM_CHAINS = 65, 36, 500, 1000


def main() -> int:
    """Search texts of each size and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 10, 100])
    sizes = parser.parse_args().megabytes
    console = Console(highlight=False, soft_wrap=True)
    console.print("| training text, million characters | seconds | peak memory, MB | spans |\n|---:|---:|---:|---:|")
    random = np.random.default_rng(0)
    for size in sizes:
        successors = random.integers(0, NUM_SYMBOLS, (NUM_SYMBOLS, NUM_SYMBOLS, 4), np.uint8)
        train = _markov(size * 10**6, successors, random)
        texts = [_half_copied(train, successors, random) for _ in range(NUM_TEXTS)]
        started = time.perf_counter()
        found = copied_spans(train, texts)
        seconds = time.perf_counter() - started
        tracemalloc.start()
        copied_spans(train, texts)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        console.print(f"| {size} | {seconds:.2f} | {peak / 1e6:.0f} | {sum(map(len, found))} |")
    return 0


def _markov(size: int, successors: Ids, random: np.random.Generator) -> Ids:
    """A text of `size` ids whose next one depends on the two before: 1,000 chains side by side, then end to end."""
    rows = -(-size // NUM_CHAINS)
    ids = np.zeros((rows, NUM_CHAINS), np.uint8)
    for row in range(2, rows):
        ids[row] = successors[ids[row - 2], ids[row - 1], random.integers(0, 4, NUM_CHAINS)]
    return ids.T.reshape(-1)[:size]


def _half_copied(train: Ids, successors: Ids, random: np.random.Generator) -> Ids:
    start = int(random.integers(0, len(train) - TEXT_LEN))
    other = _markov(TEXT_LEN // 2, successors, random)
    return np.concatenate([train[start : start + TEXT_LEN // 2], other])


if __name__ == "__main__":
    sys.exit(guarded(main))
