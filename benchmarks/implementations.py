"""Forward and backward speed of the default model: gates and fused, fp32 and bf16.

Usage: python -m benchmarks.implementations

The variants take turns, so that a noisy machine disturbs all alike; the figures are medians.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from charlstm.loss import summed_nats
from charlstm.model import CharLSTM, Implementation, ModelShape
from charlstm.params import load_params
from pipeline.hardware import set_num_threads

NUM_ROUNDS = 7
VOCAB_SIZE = 65  # of tiny Shakespeare
VARIANTS: list[tuple[Implementation, bool]] = [("gates", False), ("gates", True), ("fused", False), ("fused", True)]


def main() -> int:
    """Measure and print a Markdown table."""
    set_num_threads()
    params = load_params(Path("params.yaml"))
    shape = ModelShape(VOCAB_SIZE, params.model.embedding_size, params.model.hidden_size, params.model.num_layers)
    batch_shape = (params.train.batch_size, params.train.context_len)
    models = [CharLSTM(shape, implementation) for implementation, _ in VARIANTS]
    seconds: list[list[float]] = [[] for _ in VARIANTS]
    for round_index in range(NUM_ROUNDS + 1):
        for index, (_, is_bf16) in enumerate(VARIANTS):
            elapsed_seconds = _step_seconds(models[index], batch_shape, is_bf16)
            if round_index > 0:  # the first one warms up
                seconds[index].append(elapsed_seconds)
    medians = [statistics.median(values) for values in seconds]
    console = Console(highlight=False)
    for (implementation, is_bf16), median in zip(VARIANTS, medians, strict=True):
        speed = batch_shape[0] * batch_shape[1] / median
        precision = "bf16" if is_bf16 else "fp32"
        console.print(f"| `{implementation}` | {precision} | {speed:,.0f} | {medians[0] / median:.1f}× |")
    return 0


def _step_seconds(model: CharLSTM, batch_shape: tuple[int, int], is_bf16: bool) -> float:
    """Seconds of one forward and backward pass; the optimiser and the rest of a training step are left out."""
    model.zero_grad()
    ids_BT = torch.randint(0, VOCAB_SIZE, batch_shape)
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        logits_BTV, _ = model(ids_BT)
    summed_nats(logits_BTV.float(), ids_BT).backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
