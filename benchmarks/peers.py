"""Other people's models on this machine: the loss after so many seconds of training, beside our recipes', as a picture.

Usage: python -m benchmarks.peers [PATH ...] [--seconds 60 180 600] [--show]

A PATH is a checkout of karpathy/nanoGPT, spro/char-rnn.pytorch or pytorch/examples; their models are imported from
there, and nothing of theirs is kept here. The loop around a model does what theirs does (sizes, batches, optimizer,
schedule, clipping, all as in their README or defaults), on our encoded corpus (`dvc repro encode`). Each number of
seconds is a training of its own. All losses are windowed_64: the longest text that the smallest of them reads.
What was measured is kept in `benchmarks/records/peers.jsonl`; `--show` only prints and draws it. Our own points are the
recipes' records (`python -m benchmarks.recipes`).
"""

import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import console, new_parser, print_table
from benchmarks.projects import ROOT
from benchmarks.recipes import available
from benchmarks.trials import Trial, append, load_data
from charlstm.model.gates import LSTMState
from charlstm.model.windows import LanguageModel, windowed
from charlstm.training.train import Data
from pipeline.hardware import set_num_threads
from pipeline.stage.stage import guarded

RECORDS = ROOT / "benchmarks/records/peers.jsonl"
PICTURE = ROOT / "benchmarks/records/loss_against_time.png"
TICKS = (60, 180, 600, 1800, 3600, 10800)  # seconds
CONTEXT_LEN = 64
SEED = 1


class Peer(NamedTuple):
    """Somebody's model, and what their loop does with it."""

    system: str
    marker: str  # a file by which a checkout is known
    model_file: str
    train: Callable[[ModuleType, Data, "Clock"], Iterator["Scored"]]


class Clock:
    """Seconds of training; the loops ask it how much of their time is over."""

    def __init__(self, limit: float) -> None:
        self._limit, self._started = limit, time.perf_counter()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """While something else is done."""
        before = time.perf_counter()
        yield
        self._started += time.perf_counter() - before

    def share(self) -> float:
        """0 at the beginning, 1 at the end."""
        return min(1.0, (time.perf_counter() - self._started) / self._limit)


class Scored(nn.Module):
    """A model as `evaluate.windowed` wants it; its zero states are its own business."""

    def __init__(self, model: nn.Module, vocab_size: int, logits_of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.logits_of = model, logits_of
        self.shape = SimpleNamespace(vocab_size=vocab_size)

    def forward(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """The state is what it was: empty."""
        self.model.eval()
        logits_BTV = self.logits_of(ids_BT)
        self.model.train()
        return logits_BTV, state

    def zero_state(self, num_rows: int) -> LSTMState:
        """An empty state, where our models have theirs."""
        return LSTMState(torch.zeros(0), torch.zeros(0))


def train_nanogpt(module: ModuleType, data: Data, clock: Clock) -> Iterator[Scored]:
    """The README's setting for a CPU: 4 layers of 128, 12 random windows of 64, AdamW, cosine to a tenth."""
    peak, num_warmup_steps = 1e-3, 100
    config = module.GPTConfig(
        n_layer=4, n_head=4, n_embd=128, block_size=CONTEXT_LEN, bias=False, vocab_size=len(data.vocab), dropout=0.0
    )
    model = module.GPT(config)
    optimizer = model.configure_optimizers(0.1, peak, (0.9, 0.99), "cpu")
    ids = torch.from_numpy(data.train.ids.astype("int64"))
    scored = Scored(model, len(data.vocab), lambda ids_BT: model(ids_BT, ids_BT.contiguous())[0])
    for step in range(sys.maxsize):
        starts = torch.randint(len(ids) - CONTEXT_LEN, (12,))
        rows = starts[:, None] + torch.arange(CONTEXT_LEN)
        rate = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * clock.share()))
        for group in optimizer.param_groups:
            group["lr"] = peak * min(rate, (step + 1) / (num_warmup_steps + 1))
        _, loss = model(ids[rows], ids[rows + 1])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield scored


def train_char_rnn(module: ModuleType, data: Data, clock: Clock) -> Iterator[Scored]:
    """The defaults of its command, with `--model lstm`: 2 layers of 100, 100 random windows of 200, Adam 0.01."""
    chunk_len, batch_size = 200, 100
    model = module.CharRNN(len(data.vocab), 100, len(data.vocab), model="lstm", n_layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    ids = torch.from_numpy(data.train.ids.astype("int64"))

    def logits_of(ids_BT: Tensor) -> Tensor:  # one character at a time, as in training
        hidden, outputs = model.init_hidden(len(ids_BT)), []
        for ids_B in ids_BT.t():
            output, hidden = model(ids_B, hidden)
            outputs.append(output)
        return torch.stack(outputs, dim=1)

    scored = Scored(model, len(data.vocab), logits_of)
    while True:
        starts = torch.randint(len(ids) - chunk_len, (batch_size,))
        rows = starts[:, None] + torch.arange(chunk_len)
        logits_BTV = logits_of(ids[rows])
        model.zero_grad()
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1), ids[rows + 1].flatten())
        torch.autograd.backward(loss * chunk_len)
        optimizer.step()
        yield scored


def train_word_language_model(module: ModuleType, data: Data, clock: Clock) -> Iterator[Scored]:
    """The defaults of its command, fed characters: LSTM 2×200, 20 streams, 35 back in time, SGD 20, a quarter of it
    after an epoch that was no better."""
    batch_size, bptt, rate, best = 20, 35, 20.0, math.inf
    model = module.RNNModel("LSTM", len(data.vocab), 200, 200, 2, 0.2, False)
    ids = torch.from_numpy(data.train.ids.astype("int64"))
    ids_TB = ids[: len(ids) // batch_size * batch_size].view(batch_size, -1).t().contiguous()

    def logits_of(ids_BT: Tensor) -> Tensor:
        log_probabilities, _ = model(ids_BT.t(), model.init_hidden(len(ids_BT)))
        return cast(Tensor, log_probabilities).view(*ids_BT.t().shape, -1).transpose(0, 1)

    scored = Scored(model, len(data.vocab), logits_of)
    while True:
        hidden = model.init_hidden(batch_size)
        for start in range(0, len(ids_TB) - 1, bptt):
            targets = ids_TB[start + 1 : start + 1 + bptt]
            model.zero_grad()
            hidden = tuple(part.detach() for part in hidden)
            output, hidden = model(ids_TB[start : start + len(targets)], hidden)
            torch.autograd.backward(functional.nll_loss(output, targets.flatten()))
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            for weight in model.parameters():
                weight.data.add_(weight.grad, alpha=-rate)
            yield scored
        with clock.stopped():
            loss = measure(scored, data)
        rate, best = (rate, loss) if loss < best else (rate / 4, best)


PEERS = (
    Peer("nanoGPT, its CPU setting", "config/train_shakespeare_char.py", "model.py", train_nanogpt),
    Peer("char-rnn.pytorch, LSTM 2×100", "helpers.py", "model.py", train_char_rnn),
    Peer(
        "word_language_model, LSTM 2×200",
        "word_language_model/main.py",
        "word_language_model/model.py",
        train_word_language_model,
    ),
)


def main() -> int:
    """Train the peers, keep what was measured, print a table and draw the picture."""
    parser = new_parser(__doc__)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument("--seconds", nargs="+", type=int, default=[60, 180, 600])
    parser.add_argument("--show", action="store_true", help="print and draw what is recorded")
    arguments = parser.parse_args()
    set_num_threads()
    for path in [] if arguments.show else arguments.paths:
        peer = next((peer for peer in PEERS if (path / peer.marker).exists()), None)
        if peer is None:
            parser.error(f"{path}: expected a checkout of karpathy/nanoGPT, spro/char-rnn.pytorch or pytorch/examples")
        module = _import(path / peer.model_file)
        for seconds in arguments.seconds:
            _run(peer, module, load_data(), seconds)
    points = read_points()
    if len(points) == 0:
        parser.error("nothing is recorded yet: name a checkout, or run benchmarks.recipes")
    rows = (
        (row.system, f"{row.num_parameters:,}", f"{row.seconds:.0f}", f"{row.windowed_64:.4f}")
        for row in points.itertuples()
    )
    print_table(("system", "parameters", "seconds of training", "windowed_64"), rows)
    draw(points)
    return 0


def _import(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"peer_{file.parent.name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def _run(peer: Peer, module: ModuleType, data: Data, seconds: int) -> None:
    torch.manual_seed(SEED)
    clock = Clock(seconds)
    for num_steps, scored in enumerate(peer.train(module, data, clock), start=1):
        if clock.share() < 1:
            continue
        record = {
            "system": peer.system,
            "num_parameters": sum(weight.numel() for weight in scored.model.parameters()),
            "seconds": seconds,
            "num_steps": num_steps,
            "windowed_64": round(measure(scored, data), 6),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        console.print(record)
        append(RECORDS, record)
        return


def measure(scored: Scored, data: Data) -> float:
    """windowed_64, in nats/char."""
    return windowed(cast(LanguageModel, scored), data.val, CONTEXT_LEN).nats_per_char


def read_points() -> pd.DataFrame:
    """The newest record of each system and time, and our recipes."""
    rows: list[dict[Any, Any]] = pd.read_json(RECORDS, lines=True).to_dict("records") if RECORDS.exists() else []
    for recipe in available():
        if (record := Trial((f"recipe={recipe}",)).record()) is not None:
            rows.append({"system": f"charlstm, {recipe}", "seconds": float(record["train_seconds"]), **record})
    points = pd.DataFrame(rows)
    return points if len(points) == 0 else points.drop_duplicates(["system", "seconds"], keep="last")


def draw(points: pd.DataFrame) -> None:
    """Loss against seconds; ours is one line through the recipes, since each is made for its own time.

    Not so the recipe `original`, which repeats the original's setting: a point of its own.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    is_ours = points["system"].str.startswith("charlstm, ") & ~points["system"].str.startswith("charlstm, original")
    for system, rows in points[~is_ours].groupby("system"):
        axes.plot(rows["seconds"], rows["windowed_64"], marker="o", label=str(system))
    ours = points[is_ours].sort_values("seconds")
    axes.plot(ours["seconds"], ours["windowed_64"], marker="o", color="black", linewidth=2, label="charlstm")
    for index, row in enumerate(ours.itertuples()):
        offset, side = (((6, 3), "left"), ((-6, -10), "right"))[index % 2]  # neighbors do not write over each other
        name = str(row.system).removeprefix("charlstm, ")
        axes.annotate(name, (row.seconds, row.windowed_64), textcoords="offset points", xytext=offset, ha=side)
    axes.set(
        xscale="log",
        xlabel="seconds of training on 2 CPU cores",
        ylabel="validation loss, windowed_64 (nats per character)",
    )
    axes.set_xticks([seconds for seconds in TICKS if seconds <= points["seconds"].max()])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(PICTURE, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(guarded(main))
