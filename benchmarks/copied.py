"""How long the search for copied spans takes, and how much memory; or how much of real texts looks copied.

Usage: python -m benchmarks.copied [--megabytes 1 10 100]
       python -m benchmarks.copied --texts ../shared/datasets/*.txt

The training text is a Markov chain over 65 characters, with 2 bits of news in each, about as much as in English. The
texts are 36 of 500 characters from the same chain, half of each copied. That is as many as the default recipe's
samples and twice their held-out counterparts. Memory is what numpy and Python hold at the peak, without the training
text itself.

With `--texts`, the last tenth of each text is searched for in the rest of it, 500 characters at a time. No author
recites, so what is found there is chance. It is the measure of how long a span must be to be called a copy.
"""

import argparse
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from charlstm.evaluation.copied import copied_spans, covered
from charlstm.evaluation.statistics import MAX_TIMES
from charlstm.text.vocabulary import Ids
from pipeline.stage.stage import guarded

NUM_SYMBOLS, NUM_TEXTS, TEXT_LEN, NUM_CHAINS = 65, 36, 500, 1000
LENGTHS, MAX_HELD_OUT = (20, 25, 30, 40), 400  # characters; texts


def main() -> int:
    """Search texts of each size and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--texts", type=Path, nargs="+", default=[])
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if arguments.texts:
        _show_chance(arguments.texts, console)
        return 0
    sizes = arguments.megabytes
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


def _show_chance(files: Sequence[Path], console: Console) -> None:
    """Print the share of held-out characters in spans of each length that the rest has, but not often."""
    console.print(f"| text | held out | {' | '.join(f'{length} or more' for length in LENGTHS)} |")
    console.print(f"|---|---:|{'---:|' * len(LENGTHS)}")
    for file in files:
        codes = np.frombuffer(file.read_text("utf-8", errors="replace").encode("utf-32-le"), np.uint32)
        train, rest = np.split(codes, [len(codes) * 9 // 10])
        texts = [rest[start : start + TEXT_LEN] for start in range(0, len(rest), TEXT_LEN)][:MAX_HELD_OUT]
        rare = [[span for span in spans if span.num_times <= MAX_TIMES] for spans in copied_spans(train, texts)]
        num_chars = sum(map(len, texts))
        shares = [
            sum(covered(span for span in spans if span.length >= length) for spans in rare) / num_chars
            for length in LENGTHS
        ]
        console.print(f"| {file.name} | {num_chars:,} | {' | '.join(f'{share:.2%}' for share in shares)} |")


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
