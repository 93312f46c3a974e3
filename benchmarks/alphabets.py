"""What a large alphabet costs the default recipe: characters a second, and memory.

Usage: python -m benchmarks.alphabets [--sizes 65 5000 10000]

Random ids whose frequencies fall as those of Chinese characters do, about (Zipf). Each row is a process of its own.
Where a step has more logits than `MAX_LOGITS` (`charlstm/model/loss.py`), its head works in pieces. Such a size is
measured once more with the head as a whole. Memory is RSS at its peak, beyond what the process held before there was
a model.
"""

import argparse
import multiprocessing
import resource
import sys
import time

import numpy as np
from rich.console import Console

from benchmarks.projects import ROOT, compose
from benchmarks.trials import fresh_processes
from charlstm.model.loss import MAX_LOGITS
from charlstm.text.vocabulary import Ids
from charlstm.training import learner as learner_module
from charlstm.training.learner import Learner
from pipeline.stage.hardware import keep_freed_memory, set_num_threads
from pipeline.stage.stage import guarded

NUM_CHARS, NUM_STEPS = 1_000_000, 10


def main() -> int:
    """Measure each size and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[65, 5_000, 10_000], help="of the alphabet")
    sizes, console = parser.parse_args().sizes, Console(highlight=False, soft_wrap=True)
    train = compose(ROOT).train
    console.print("| alphabet | head | characters a second | peak memory, MB |\n|---:|---|---:|---:|")
    for size in sizes:
        is_large = size * train.batch_size * train.context_len > MAX_LOGITS
        for head in ("in pieces", "whole") if is_large else ("whole",):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                speed, megabytes = pool.apply(_measure, (size, head == "whole"))
            console.print(f"| {size:,} | {head} | {speed:,.0f} | {megabytes:,.0f} |")
    return 0


def _measure(vocab_size: int, is_whole: bool) -> tuple[float, float]:
    """Characters a second and MB of a learner's steps."""
    set_num_threads()
    keep_freed_memory()
    if is_whole:
        setattr(learner_module, "MAX_LOGITS", sys.maxsize)  # noqa: B010  # it is the learner's own name for it
    params, ids = compose(ROOT), _ids(vocab_size)
    before = _peak_rss()
    learner = Learner(ids, vocab_size, params.model, params.train, fresh_processes(params))
    learner.take_step(0, 1, 0)  # warms up
    started = time.perf_counter()
    for step in range(1, NUM_STEPS + 1):
        learner.take_step(step, 1, step)
    seconds = time.perf_counter() - started
    num_chars = sum(learner.batches.num_chars(1, step) for step in range(1, NUM_STEPS + 1))
    return num_chars / seconds, (_peak_rss() - before) / 1e6


def _ids(vocab_size: int) -> Ids:
    weights = 1 / np.arange(1, vocab_size + 1)
    random = np.random.default_rng(0)
    return random.choice(vocab_size, NUM_CHARS, p=weights / weights.sum()).astype(np.uint16)


def _peak_rss() -> float:
    """In bytes."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux


if __name__ == "__main__":
    sys.exit(guarded(main))
