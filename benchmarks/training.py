"""Speed of training steps, against a plain training loop and against bare calls of `nn.LSTM`.

Usage: python -m benchmarks.training [--device cuda|cpu]

Needs the encoded text (`dvc repro encode`). All variants of a size take turns; figures are medians.
Every variant has Adam or AdamW and a gradient clip, and reuses freed memory. This project's
variants also have dropout and the moving average. The last variants also have Muon and the
feed-forward block, as the recipe quick. A bare call is one forward and backward pass of `nn.LSTM`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.harness import console, new_parser, print_table, take_turns
from benchmarks.trials import load_data, make_learner, take_steps
from charlstm.training.processes import multiplies_bf16
from pipeline.hardware import keep_freed_memory, set_num_threads
from pipeline.run.stage import errors_reported

NUM_ROUNDS = {"cpu": 9, "cuda": 3}
NUM_STEPS = {"cpu": 1, "cuda": 200}  # in a row, because a GPU runs behind the processor
# Threads of the previous step stop spinning before a timed step.
PAUSE_SECONDS = 0.01
EMBEDDING_SIZE = 128


class Size(NamedTuple):
    """Sizes of a model and of its batches."""

    num_layers: int
    hidden_size: int
    batch_size: int
    context_len: int

    def __str__(self) -> str:
        return f"{self.num_layers}×{self.hidden_size}, {self.batch_size} × {self.context_len}"


SIZES = {
    "cpu": [
        Size(2, 256, 64, 100),
        Size(1, 384, 32, 64),
        Size(1, 512, 32, 64),
        Size(2, 512, 32, 100),
    ],
    "cuda": [Size(1, 320, 32, 64), Size(1, 320, 1024, 64), Size(4, 1024, 256, 128)],
}


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=default)
    device = parser.parse_args().device
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    set_num_threads()
    keep_freed_memory()
    name = f"processor, {torch.get_num_threads()} threads"
    if device == "cuda":
        name = torch.cuda.get_device_name()
    console.print(f"{name}, torch {torch.__version__}\n")
    # Emulated bf16 would take a hundred times longer.
    formats = ["fp32", "bf16"] if multiplies_bf16(device) else ["fp32"]
    columns = ("size", "variant", "characters a second", "of the plain loop", "of bare calls")
    print_table(columns, (row for size in SIZES[device] for row in rows(size, device, formats)))
    return 0


def rows(size: Size, device: str, formats: Sequence[str]) -> list[tuple[object, ...]]:
    """Return rows of the table of steps."""
    steps = {f"plain `nn.LSTM` loop, {one}": plain_loop(size, device, one) for one in formats}
    bare = {one: f"bare calls of `nn.LSTM`, {one}" for one in formats}
    steps |= {name: bare_calls(size, device, one) for one, name in bare.items()}
    steps["`gates`, fp32"] = own_step(size, "gates", "fp32", "adamw")
    for optimizer, words in (("adamw", ""), ("muon", ", Muon and block")):
        for precision in formats:
            step = own_step(size, "fused", precision, optimizer)
            steps[f"`fused`, {precision}{words}"] = step
    timed = {name: in_a_row(step, device) for name, step in steps.items()}
    for action in timed.values():  # warm up
        action()
    seconds = take_turns(timed, NUM_ROUNDS[device], PAUSE_SECONDS)
    num_chars = NUM_STEPS[device] * size.batch_size * size.context_len
    plain, *_ = seconds.values()
    return [
        (
            size,
            name,
            f"{num_chars / value:,.0f}",
            f"{plain / value:.2f}×",
            f"{seconds[bare['bf16' if 'bf16' in name else 'fp32']] / value:.0%}",
        )
        for name, value in seconds.items()
    ]


def in_a_row(step: Callable[[], None], device: str) -> Callable[[], None]:
    """Return a function that takes several steps and synchronizes with the device."""

    def run() -> None:
        for _ in range(NUM_STEPS[device]):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def own_step(size: Size, implementation: str, precision: str, optimizer: str) -> Callable[[], None]:
    """Return a training step of this project."""
    learner = make_learner(
        f"model.feed_forward_size={size.hidden_size if optimizer == 'muon' else 0}",
        f"train.optimizer={optimizer}",
        "train.warmup_steps=0",
        "train.dropout.between_layers=0.1",
        "train.dropout.output=0.2",
        f"model.implementation={implementation}",
        f"train.precision={precision}",
        *(f"model.{name}={getattr(size, name)}" for name in ("num_layers", "hidden_size")),
        *(f"train.{name}={getattr(size, name)}" for name in ("batch_size", "context_len")),
    )
    return take_steps(learner)


def bare_calls(size: Size, device: str, precision: str) -> Callable[[], None]:
    """Return a forward and backward pass of `nn.LSTM` alone, the least that a step must compute."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    lstm = nn.LSTM(EMBEDDING_SIZE, size.hidden_size, size.num_layers, device=device, dtype=dtype)
    shape = (size.context_len, size.batch_size, EMBEDDING_SIZE)
    x_TBI = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)

    def step() -> None:
        lstm.zero_grad()
        output_TBH, _ = lstm(x_TBI)
        torch.autograd.backward(output_TBH.sum())

    return step


def plain_loop(size: Size, device: str, precision: str) -> Callable[[], None]:
    """Return the step of a training loop that somebody would write in one file."""
    data = load_data()
    ids = torch.from_numpy(data.train.ids.astype("int64")).to(device)
    vocab_size = len(data.vocab)
    sizes = (EMBEDDING_SIZE, size.hidden_size, size.num_layers)
    dropout = 0.1 if size.num_layers > 1 else 0.0
    embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE, device=device)
    lstm = nn.LSTM(*sizes, batch_first=True, dropout=dropout, device=device)
    head = nn.Linear(size.hidden_size, vocab_size, device=device)
    weights = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, lr=1e-3)

    def step() -> None:
        starts = torch.randint(len(ids) - size.context_len - 1, (size.batch_size, 1), device=device)
        x_BT = ids[starts + torch.arange(size.context_len, device=device)]
        y_BT = ids[starts + torch.arange(size.context_len, device=device) + 1]
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            logits_BTV = head(lstm(embedding(x_BT))[0])
            loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten())
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    return step


if __name__ == "__main__":
    with errors_reported() as outcome:
        outcome.code = main()
    sys.exit(outcome.code)
