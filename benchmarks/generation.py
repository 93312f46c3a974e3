"""How fast texts are written, by us and by others, and what 8 bits cost.

Usage: python -m benchmarks.generation [--model artifacts/model] [--char-rnn PATH]

The first table is what a user has: `charlstm.load(...).generate(...)` in new processes, with the engine that the
library chooses, after one process has compiled it into an empty cache. PATH is a checkout of spro/char-rnn.pytorch,
whose own sampler is measured then. Where there is no model, one of the default's shape that has learned nothing takes
its place: it is as fast. All that is compared takes turns; figures are medians. All draw at temperature 1; ours are
whole calls of the sampler. All have as many threads as our sampler takes: one with up to 31 texts, and the compiled
engine one for each text.

Shapes: B rows, H hidden units.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import nn

from benchmarks.harness import console, new_parser, print_table, seconds_of, take_turns
from benchmarks.projects import ROOT
from benchmarks.trials import load_data
from charlstm.errors import CharlstmError
from charlstm.evaluation.windows import LanguageModel, windowed
from charlstm.generation.quantized import QuantizedLanguageModel, Stepper, quantize
from charlstm.generation.sampler import Request, Sampler, compiled_stepper, few_threads
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.model_folder import TrainedModel, load_model, save_model
from charlstm.model.shape import ModelShape
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Vocab
from pipeline.stage.hardware import set_num_threads
from pipeline.stage.stage import guarded

NUM_ROUNDS = 3
ROW_COUNTS = (1, 18, 256, 2048)
SECONDS_PER_TURN = 0.25
MOST_CHARS, FEW_CHARS = 20_000, 8  # of a row
DEFAULT_SHAPE = ModelShape(65, 128, 320, 1, 320)
CONTEXT_LEN = 100
CHAR_RNN_MODULES = ("helpers", "model", "generate")
RULE = Sampling(temperature=1.0)
USES: dict[str, tuple[dict[str, object], int, str]] = {  # what is asked for, characters in all, and the goal
    "3,000 characters, with all that is loaded for them": ({"num_chars": 3000}, 3000, ""),
    "20,000 characters, which compiles": ({"num_chars": 20_000}, 20_000, ""),
    "3,000 characters more": ({"num_chars": 3000}, 3000, "30,000 a second"),
    "18 texts of 500 characters, as in stage sample": ({"num_chars": 500, "num_texts": 18}, 18 * 500, ""),
    "256 texts of 500 characters": ({"num_chars": 500, "num_texts": 256}, 256 * 500, "200,000 a second"),
    "a prompt of 1 MB": ({"num_chars": 1, "prompt": "\n" * 10**6}, 10**6, "20 s"),
}
USER = """
import json, sys, time
import charlstm

model = charlstm.load(sys.argv[1])
seconds = {}
for name, (options, *_) in json.load(sys.stdin).items():
    started = time.perf_counter()
    model.generate(**options)
    seconds[name] = time.perf_counter() - started
print(json.dumps(seconds))
"""

Write = Callable[[int, int], object]  # so many rows of so many characters, one character at a time


def main() -> int:
    """Measure and print."""
    parser = new_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path("artifacts/model"))
    parser.add_argument("--char-rnn", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    set_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.model if arguments.model.exists() else _save_untrained(Path(name) / "model")
        trained = load_model(folder, "fused")
        console.print(f"{trained.model.shape}; at most {torch.get_num_threads()} threads")
        first, *later = [_seconds_of_uses(folder, name) for _ in range(1 + NUM_ROUNDS)]
    console.print(f"compiled once for this machine, in {first['20,000 characters, which compiles']:.1f} s\n")
    rows = []
    for use, (_, num_chars, goal) in USES.items():
        seconds = statistics.median(figures[use] for figures in later)
        rows.append((use, f"{seconds:.2f}", f"{num_chars / seconds:,.0f}", goal))
    print_table(("in a new process", "seconds", "characters a second", "goal"), rows)
    console.print()
    columns = ("texts at once", "by", "characters a second", "against `nn.LSTM`")
    print_table(columns, (row for num_rows in ROW_COUNTS for row in _rows(trained, num_rows, arguments.char_rnn)))
    if arguments.char_rnn is None:
        console.print("spro/char-rnn.pytorch was not measured: name a checkout (--char-rnn PATH)")
    _print_loss(trained)
    return 0


def _save_untrained(folder: Path) -> Path:
    torch.manual_seed(1)
    vocab = Vocab.of("".join(map(chr, range(33, 33 + DEFAULT_SHAPE.vocab_size - 1))) + "\n")
    save_model(folder, CharLSTM(DEFAULT_SHAPE, "fused").state_dict(), DEFAULT_SHAPE, vocab)
    return folder


def _seconds_of_uses(folder: Path, cache: str) -> dict[str, float]:
    """Through the public interface, in a new process that has `cache` for its caches."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", USER, str(folder)]
    done = subprocess.run(
        command, input=json.dumps(USES), env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def _rows(trained: TrainedModel, num_rows: int, char_rnn_path: Path | None) -> list[tuple[str, ...]]:
    """Of all ways to write so many texts; those that write one after the other are there for one text only."""
    ways = {"`nn.LSTM`": plain_lstm(trained.model.shape)}
    if num_rows == 1 and char_rnn_path:
        ways["spro/char-rnn.pytorch"] = char_rnn(char_rnn_path, trained.model.shape)
    # More threads than our sampler takes would only wait for each other.
    ways = {name: few_threads(num_rows)(write) for name, write in ways.items()}
    model = quantize(trained.model)
    for name, stepper in (("charlstm, torch", Stepper(model)), ("charlstm, compiled", compiled_stepper(model))):
        if stepper:
            ways[name] = partial(_write, _sampler_with(trained, stepper))
    actions, counts = {}, {}
    for name, write in ways.items():
        write(num_rows, 2)  # compiles, allocates
        per_char = seconds_of(partial(write, num_rows, FEW_CHARS)) / FEW_CHARS
        counts[name] = int(min(MOST_CHARS, max(FEW_CHARS, SECONDS_PER_TURN / per_char)))
        actions[name] = partial(write, num_rows, counts[name])
    rates = {name: num_rows * counts[name] / seconds for name, seconds in take_turns(actions, NUM_ROUNDS).items()}
    return [
        (f"{num_rows:,}", name, f"{rate:,.0f}", f"{rate / rates['`nn.LSTM`']:.1f}×") for name, rate in rates.items()
    ]


def plain_lstm(shape: ModelShape) -> Write:
    """`nn.LSTM`, fed with what it drew: what somebody would write in torch. Without a feed-forward block."""
    embedding = nn.Embedding(shape.vocab_size, shape.embedding_size)
    lstm = nn.LSTM(shape.embedding_size, shape.hidden_size, shape.num_layers, batch_first=True)
    head = nn.Linear(shape.hidden_size, shape.vocab_size)

    @torch.inference_mode()
    def write(num_rows: int, num_chars: int) -> None:
        ids_B1, state = torch.zeros(num_rows, 1, dtype=torch.int64), None
        written = []
        for _ in range(num_chars):
            hidden_B1H, state = lstm(embedding(ids_B1), state)
            ids_B1 = torch.multinomial(head(hidden_B1H[:, 0]).softmax(1), 1)
            written.append(ids_B1)
        torch.cat(written, 1).tolist()

    return write


def char_rnn(path: Path, shape: ModelShape) -> Write:
    """`generate` of a checkout of spro/char-rnn.pytorch, for a model of its own with our number and size of layers."""
    sys.modules.setdefault("unidecode", ModuleType("unidecode"))  # which it needs to read texts, not to write them
    sys.path.insert(0, str(path))
    helpers, model, generate = (importlib.import_module(name) for name in CHAR_RNN_MODULES)
    sys.path.remove(str(path))
    decoder = model.CharRNN(helpers.n_characters, shape.hidden_size, helpers.n_characters, "lstm", shape.num_layers)
    return lambda num_rows, num_chars: generate.generate(decoder, "A", num_chars, temperature=1.0)


def _write(sampler: Sampler, num_rows: int, num_chars: int) -> None:
    sampler.generate(
        [Request("\n", RULE._replace(num_chars=num_chars, seed=1), number=number) for number in range(num_rows)]
    )


def _sampler_with(trained: TrainedModel, stepper: Stepper) -> Sampler:
    """One that does not choose its engine."""
    sampler = Sampler(trained.model, trained.vocab)
    sampler.engine = lambda num_rows, num_chars: stepper  # type: ignore[method-assign]
    return sampler


def _print_loss(trained: TrainedModel) -> None:
    """On the validation text, of the model as it is and in 8 bits."""
    try:
        data = load_data()
    except CharlstmError as error:
        console.print(f"the loss in 8 bits was not measured: {error}")
        return
    if data.vocab != trained.vocab:
        console.print("the loss in 8 bits was not measured: there is no trained model of the encoded corpus")
        return
    exact, in_8_bits = (
        windowed(model, data.val, CONTEXT_LEN).nats_per_char
        for model in (trained.model, cast(LanguageModel, QuantizedLanguageModel(trained.model)))
    )
    console.print(
        f"windowed_{CONTEXT_LEN} in nats/char: {exact:.5f}; in 8 bits {in_8_bits:.5f} ({in_8_bits - exact:+.5f})"
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
