"""How fast texts are written, beside `nn.LSTM` fed with what it drew, and what 8 bits cost.

Usage: python -m benchmarks.generation [--model artifacts/model]

The first table is what a user has: `charlstm.load(...).generate(...)` in new processes, after one that compiles into an
empty folder. `nn.LSTM` is stepped in the same processes, in turns. Where there is no model, one of the default's shape
that has learned nothing takes its place: it is as fast. Figures are medians.

Shapes: B rows, H hidden units.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.harness import console, new_parser, print_table
from benchmarks.projects import ROOT
from benchmarks.trials import load_data
from charlstm.errors import CharlstmError
from charlstm.generation.quantized import quantize
from charlstm.generation.sampler import QuantizedState, Stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.model_folder import TrainedModel, load_model, save_model
from charlstm.model.shape import ModelShape
from charlstm.model.windows import LanguageModel, windowed
from charlstm.text.vocabulary import Vocab
from pipeline.hardware import set_num_threads
from pipeline.stage.stage import guarded

NUM_ROUNDS = 3
DEFAULT_SHAPE = ModelShape(65, 128, 320, 1, 320)
CONTEXT_LEN = 100
USES: dict[str, tuple[dict[str, object], int]] = {  # what is asked for, and characters in all
    "20 characters, with all that is loaded or compiled for them": ({"num_chars": 20}, 20),
    "one text of 3,000 characters": ({"num_chars": 3000}, 3000),
    "18 texts of 500 characters, as in stage sample": ({"num_chars": 500, "num_texts": 18}, 18 * 500),
    "256 texts of 500 characters": ({"num_chars": 500, "num_texts": 256}, 256 * 500),
    "a prompt of 1 MB": ({"num_chars": 1, "prompt": "\n" * 10**6}, 10**6),
}
PLAIN = {"`nn.LSTM`, one text of 1,000 characters": (1, 1000), "`nn.LSTM`, 256 texts of 40 characters": (256, 40)}
USER = """
import json, sys, time
import charlstm
from benchmarks.generation import PLAIN, write_with_plain_lstm

model = charlstm.load(sys.argv[1])
info = model.info
shape = [info["vocab_size"], info["embedding_size"], info["hidden_size"], info["num_layers"]]
seconds = {}
for name, (options, *_) in json.load(sys.stdin).items():
    started = time.perf_counter()
    model.generate(**options)
    seconds[name] = time.perf_counter() - started
for name, sizes in PLAIN.items():
    started = time.perf_counter()
    write_with_plain_lstm(shape, *sizes)
    seconds[name] = time.perf_counter() - started
print(json.dumps(seconds))
"""


class QuantizedLanguageModel:
    """`model` in 8 bits as the protocols ask for one, so that 8-bit weights are scored as float32 ones are."""

    def __init__(self, model: CharLSTM) -> None:
        self.shape = model.shape
        self._stepper = Stepper(quantize(model))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state (L, B, H) before anything was read."""
        return self._stepper.zero_state(num_rows).dequantized()

    def __call__(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the character after each of `ids_BT`, and the state after the last."""
        logits_BTV, after = self._stepper.score(ids_BT.contiguous().numpy(), QuantizedState.of(state))
        return torch.from_numpy(logits_BTV), after.dequantized()


def main() -> int:
    """Measure and print."""
    parser = new_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path("artifacts/model"))
    arguments = parser.parse_args()
    set_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.model if arguments.model.exists() else _save_untrained(Path(name) / "model")
        trained = load_model(folder, "fused")
        console.print(f"{trained.model.shape}; at most {torch.get_num_threads()} threads")
        first, *later = [_seconds_of_uses(folder, name) for _ in range(1 + NUM_ROUNDS)]
    console.print(f"compiled once for this machine: the first 20 characters took {first[next(iter(USES))]:.1f} s\n")
    num_chars = {use: number for use, (_, number) in USES.items()}
    num_chars |= {use: num_rows * length for use, (num_rows, length) in PLAIN.items()}
    rows = []
    for use, number in num_chars.items():
        seconds = statistics.median(figures[use] for figures in later)
        rows.append((use, f"{seconds:.2f}", f"{number / seconds:,.0f}"))
    print_table(("in a new process", "seconds", "characters a second"), rows)
    _print_loss(trained)
    return 0


def _save_untrained(folder: Path) -> Path:
    torch.manual_seed(1)
    vocab = Vocab.of("".join(map(chr, range(33, 33 + DEFAULT_SHAPE.vocab_size - 1))) + "\n")
    save_model(folder, CharLSTM(DEFAULT_SHAPE, "fused").state_dict(), DEFAULT_SHAPE, vocab)
    return folder


def _seconds_of_uses(folder: Path, cache: str) -> dict[str, float]:
    """Through the public interface, in a new process that keeps compiled code in `cache`."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", USER, str(folder)]
    done = subprocess.run(
        command, input=json.dumps(USES), env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout))


@torch.inference_mode()
def write_with_plain_lstm(shape: list[int], num_rows: int, num_chars: int) -> None:
    """`nn.LSTM`, fed with what it drew: what somebody would write in torch. Without a feed-forward block."""
    vocab_size, embedding_size, hidden_size, num_layers = shape
    embedding = nn.Embedding(vocab_size, embedding_size)
    lstm = nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True)
    head = nn.Linear(hidden_size, vocab_size)
    ids_B1, state = torch.zeros(num_rows, 1, dtype=torch.int64), None
    written = []
    for _ in range(num_chars):
        hidden_B1H, state = lstm(embedding(ids_B1), state)
        ids_B1 = torch.multinomial(head(hidden_B1H[:, 0]).softmax(1), 1)
        written.append(ids_B1)
    torch.cat(written, 1).tolist()


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
