"""How fast training steps are, against a plain loop and against the machine; and where the time of a step goes.

Usage: python -m benchmarks.training

Needs the encoded corpus (`dvc repro encode`). All variants of a size take turns; figures are medians. Every variant has
Adam or AdamW and a gradient clip; ours have dropout and the moving average, too. The plain loop is there twice: in a
process of its own, as somebody would run it, and in this one, which keeps freed memory as our trainings do
(`pipeline.hardware`).
"""

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.harness import console, new_parser, print_table, seconds_of, take_turns
from benchmarks.projects import ROOT, compose
from benchmarks.trials import fresh_processes, load_data
from charlstm.training import learner as learner_module
from charlstm.training.learner import Learner
from charlstm.training.processes import multiplies_bf16
from pipeline.hardware import keep_freed_memory, set_num_threads
from pipeline.new.timing import take_steps
from pipeline.stage.stage import guarded

NUM_ROUNDS = 9
PROFILED = ("quick", "best")
NUM_PROFILED_STEPS, NUM_WARM_UP_STEPS = 60, 10
PAUSE_SECONDS = 0.01  # before a step that is timed, until threads of the one before have stopped to spin
GEMM_SIZE = 2048
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Size(NamedTuple):
    """A model, and the batch that it is trained with."""

    num_layers: int
    hidden_size: int
    batch_size: int
    context_len: int

    def __str__(self) -> str:
        return f"{self.num_layers}×{self.hidden_size}, {self.batch_size} × {self.context_len}"


SIZES = [Size(2, 256, 64, 100), Size(1, 384, 32, 64), Size(1, 512, 32, 64), Size(2, 512, 32, 100)]
EMBEDDING_SIZE = 128
OURS = {
    "`gates`, fp32": ("gates", "fp32"),
    "`fused`, fp32": ("fused", "fp32"),
    "`fused`, bf16": ("fused", "bf16"),
}


def main() -> int:
    """Measure and print two Markdown tables."""
    new_parser(__doc__).parse_args()
    set_num_threads()
    keep_freed_memory()
    formats = precisions("cpu")
    peaks = (f"{_gemm_peak(DTYPES[name]) / 1e9:,.0f} GFLOP/s in {name}" for name in formats)
    console.print(
        f"products of {GEMM_SIZE}×{GEMM_SIZE} matrices, {torch.get_num_threads()} threads: {', '.join(peaks)}\n"
    )
    columns = ("size", "variant", "characters a second", "against the plain loop")
    print_table(columns, (row for size in SIZES for row in _rows(size, formats)))
    profiles = [profile(make_learner(f"recipe={recipe}")) for recipe in PROFILED]
    console.print()
    print_table(
        ["part of a step", *(cell for recipe in PROFILED for cell in (f"`{recipe}`, milliseconds", "share"))],
        (
            [part, *(cell for parts in profiles for cell in _milliseconds_and_share(part, parts))]
            for part in profiles[0]
        ),
    )
    return 0


def _milliseconds_and_share(part: str, parts: dict[str, float]) -> tuple[str, str]:
    return f"{1000 * parts[part]:.2f}", f"{100 * parts[part] / sum(parts.values()):.1f} %"


def precisions(device_type: str) -> list[str]:
    """Those that the hardware multiplies: what it emulates takes a hundred times longer, and says nothing."""
    if multiplies_bf16(device_type):
        return ["fp32", "bf16"]
    console.print("bf16 is left out: this hardware would emulate it")
    return ["fp32"]


def _rows(size: Size, formats: Sequence[str]) -> list[tuple[object, ...]]:
    steps: dict[str, Callable[[], object]] = {
        "plain `nn.LSTM` loop, fp32": _plain_loop_elsewhere(size),
        "the same, memory kept, fp32": plain_loop(size),
    }
    learners = {name: _learner(size, *kind) for name, kind in OURS.items() if kind[1] in formats}
    steps |= {name: take_steps(learner) for name, learner in learners.items()}
    if "bf16" in formats:
        steps["products of the layers alone, bf16"] = products(size)
    for step in steps.values():  # warms up
        step()
    seconds = take_turns(steps, NUM_ROUNDS, PAUSE_SECONDS)
    num_chars = size.batch_size * size.context_len
    plain, *_ = seconds.values()
    return [(size, name, f"{num_chars / value:,.0f}", f"{plain / value:.2f}×") for name, value in seconds.items()]


def plain_loop(size: Size, device: str = "cpu", precision: str = "fp32") -> Callable[[], None]:
    """What somebody would write in one file."""
    data = load_data()
    ids, vocab_size = torch.from_numpy(data.train.ids.astype("int64")).to(device), len(data.vocab)
    embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE)
    lstm = nn.LSTM(
        EMBEDDING_SIZE, size.hidden_size, size.num_layers, batch_first=True, dropout=0.1 * (size.num_layers > 1)
    )
    head = nn.Linear(size.hidden_size, vocab_size)
    for part in (embedding, lstm, head):
        part.to(device)
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
        loss.item()

    return step


def _plain_loop_elsewhere(size: Size) -> Callable[[], None]:
    """The same in a new process, which ends with the returned function."""
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    processes.Process(target=_serve_plain_loop, args=(there, size), daemon=True).start()

    def step() -> None:
        here.send(None)
        here.recv()

    return step


def _serve_plain_loop(connection: Connection, size: Size) -> None:
    set_num_threads()
    step = plain_loop(size)
    with contextlib.suppress(EOFError):  # the other process is done
        while True:
            connection.recv()
            step()
            connection.send(None)


def products(size: Size) -> Callable[[], None]:
    """The matrix products of the layers, forward and backward, in bf16 and by torch's own, and nothing else.

    Those of the input and of the weights' gradients are made for all time steps at once.
    """
    num_rows, hidden, gates = size.batch_size * size.context_len, size.hidden_size, 4 * size.hidden_size
    input_sizes = [EMBEDDING_SIZE] + [hidden] * (size.num_layers - 1)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(shape).bfloat16()

    inputs, weights_of_input = [matrix(num_rows, i) for i in input_sizes], [matrix(gates, i) for i in input_sizes]
    weight, states, gradients = matrix(gates, hidden), matrix(num_rows, hidden), matrix(num_rows, gates)
    state, gradient = states[: size.batch_size], gradients[: size.batch_size]

    def step() -> None:
        for x, weight_of_input in zip(inputs, weights_of_input, strict=True):
            _ = x @ weight_of_input.t(), gradients @ weight_of_input, gradients.t() @ x, gradients.t() @ states
            for _ in range(size.context_len):
                _ = state @ weight.t(), gradient @ weight

    return step


def _learner(size: Size, implementation: str, precision: str) -> Learner:
    return make_learner(
        "model.feed_forward_size=0",
        f"model.implementation={implementation}",
        f"train.precision={precision}",
        f"model.num_layers={size.num_layers}",
        f"model.hidden_size={size.hidden_size}",
        f"train.batch_size={size.batch_size}",
        f"train.context_len={size.context_len}",
        "train.dropout.between_layers=0.1",
        "train.dropout.output=0.2",
        "train.ema_decay=0.99",
        "train.optimizer=adamw",
    )


def make_learner(*overrides: str) -> Learner:
    """What trains with these overrides, as `dvc exp run -S` has them."""
    params, data = compose(ROOT, overrides), load_data()
    return Learner(data.train, len(data.vocab), params.model, params.train, fresh_processes(params))


def profile(learner: Learner) -> dict[str, float]:
    """Mean seconds of the parts of a step, with a rest that makes them the whole."""
    parts: dict[str, float] = {}

    def time_part(owner: Any, name: str, part: str) -> None:  # noqa: ANN401  # a module or any object
        function = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            started = time.perf_counter()
            result = function(*args, **kwargs)
            parts[part] = parts.get(part, 0.0) + (time.perf_counter() - started) / NUM_PROFILED_STEPS
            return result

        setattr(owner, name, timed)

    step = take_steps(learner)
    for _ in range(NUM_WARM_UP_STEPS):
        step()
    time_part(learner.batches, "batch", "data")
    time_part(learner, "masks", "dropout masks")
    time_part(learner, "distributed", "forward")
    time_part(learner_module, "summed_nats", "loss")
    time_part(learner.processes, "backward", "backward")
    time_part(learner.processes, "clip_gradients", "clipping")
    for optimizer, name in zip(learner.optimizers, ("AdamW", "Muon"), strict=True):
        time_part(optimizer, "step", name)
    time_part(learner.average, "update", "moving average")
    started = time.perf_counter()
    for _ in range(NUM_PROFILED_STEPS):
        step()
    total = (time.perf_counter() - started) / NUM_PROFILED_STEPS
    return parts | {"everything else": total - sum(parts.values())}


def _gemm_peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large square product, the best of several."""
    left, right = (torch.randn(GEMM_SIZE, GEMM_SIZE).to(dtype) for _ in range(2))
    return 2 * GEMM_SIZE**3 / min(seconds_of(lambda: left @ right) for _ in range(NUM_ROUNDS))


if __name__ == "__main__":
    sys.exit(guarded(main))
