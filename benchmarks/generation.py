"""How fast texts are written, by us and by others; what 8 bits cost; and whether all ways give the same texts.

Usage: python -m benchmarks.generation [--model artifacts/model] [--char-rnn PATH]

The first table is what a user has: `charlstm.load(...).generate(...)` in new processes, with the engine that the
library chooses, after one process has compiled it into an empty cache. PATH is a checkout of spro/char-rnn.pytorch,
whose own sampler is measured then. Where there is no model, one of the default's shape that has learned nothing takes
its place: it is as fast. All that is compared takes turns, so that a noisy machine disturbs all alike; figures are
medians. All draw at temperature 1; ours are whole calls of the sampler. All have as many threads as our sampler takes:
one with up to 31 texts, and the compiled engine one for each text.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import torch
from rich.console import Console

from benchmarks.projects import ROOT
from benchmarks.samplers import Write, char_rnn, former_loop, on_few_threads, plain_lstm
from benchmarks.trials import load_data
from charlstm.errors import CharlstmError
from charlstm.evaluation.windows import LanguageModel, windowed
from charlstm.generation.quantized import QuantizedLanguageModel, Stepper, quantize
from charlstm.generation.sampler import Request, Sampler, compiled_stepper
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.model.model_folder import TrainedModel, load_model, save_model
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Vocab
from pipeline.stage.hardware import set_num_threads
from pipeline.stage.stage import guarded

NUM_ROUNDS = 3
ROW_COUNTS = (1, 18, 256, 2048)
SECONDS_PER_TURN = 0.25
MOST_CHARS = 20_000  # of a row
FEW_CHARS = 8
DEFAULT_SHAPE = ModelShape(65, 128, 320, 1, 320)
CONTEXT_LEN = 100
RULE = Sampling(temperature=1.0)
USES = {  # characters, and the goal
    "3,000 characters, with all that is loaded for them": (3000, ""),
    "3,000 characters more": (3000, "30,000 a second"),
    "18 texts of 500 characters, as in stage sample": (18 * 500, ""),
    "256 texts of 500 characters": (256 * 500, "200,000 a second"),
    "a prompt of 1 MB": (10**6, "20 s"),
}
USER = """
import json, sys, time
import charlstm

model = charlstm.load(sys.argv[1])
calls = [
    ("3,000 characters, with all that is loaded for them", dict(num_chars=3000)),
    ("compile", dict(num_chars=20_000)),
    ("3,000 characters more", dict(num_chars=3000)),
    ("18 texts of 500 characters, as in stage sample", dict(num_chars=500, num_texts=18)),
    ("256 texts of 500 characters", dict(num_chars=500, num_texts=256)),
    ("a prompt of 1 MB", dict(num_chars=1, prompt="\\n" * 10**6)),
]
found = {}
for name, options in calls:
    started = time.perf_counter()
    model.generate(**options)
    found[name] = time.perf_counter() - started
print(json.dumps(found))
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("artifacts/model"))
    parser.add_argument("--char-rnn", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    set_num_threads()
    console = Console(highlight=False, soft_wrap=True)
    trained, has_learned = _model(arguments.model)
    console.print(f"{trained.model.shape}; at most {torch.get_num_threads()} threads")
    _print_as_users_have_it(arguments.model, trained, console)
    console.print("\n| texts at once | by | characters a second | against `nn.LSTM` |\n|---|---|---|---|")
    for num_rows in ROW_COUNTS:
        rates = _take_turns(_ways(trained, num_rows, arguments.char_rnn), num_rows)
        for name, rate in rates.items():
            console.print(f"| {num_rows:,} | {name} | {rate:,.0f} | {rate / rates['`nn.LSTM`']:.1f}× |")
    if arguments.char_rnn is None:
        console.print("spro/char-rnn.pytorch was not measured: name a checkout (--char-rnn PATH)")
    _print_equality(trained, console)
    _print_loss(trained, has_learned, console)
    return 0


def _model(folder: Path) -> tuple[TrainedModel, bool]:
    """And whether it has learned anything."""
    if folder.exists():
        return load_model(folder, "fused"), True
    torch.manual_seed(1)
    vocab = Vocab.of("".join(map(chr, range(33, 33 + DEFAULT_SHAPE.vocab_size - 1))) + "\n")
    return TrainedModel(CharLSTM(DEFAULT_SHAPE, "fused").eval().requires_grad_(False), vocab, ""), False


def _ways(trained: TrainedModel, num_rows: int, char_rnn_path: Path | None) -> dict[str, Write]:
    """Names and functions; those that write one text after the other are there for one text only."""
    ways = {
        "`nn.LSTM`": on_few_threads(plain_lstm(trained.model.shape)),
        "charlstm, torch": _ours(trained, Stepper(quantize(trained.model))),
    }
    if compiled := compiled_stepper(quantize(trained.model)):
        ways["charlstm, compiled"] = _ours(trained, compiled)
    if num_rows == 1:
        ways["one row, fp32, `addmv`"] = on_few_threads(former_loop(trained.model))
        if char_rnn_path:
            ways["spro/char-rnn.pytorch"] = on_few_threads(char_rnn(char_rnn_path, trained.model.shape))
    return ways


def _ours(trained: TrainedModel, stepper: Stepper) -> Write:
    sampler = _sampler_with(trained, stepper)

    def write(num_rows: int, num_chars: int) -> None:
        sampler.generate(
            [Request("\n", RULE._replace(num_chars=num_chars, seed=1), number=number) for number in range(num_rows)]
        )

    return write


def _sampler_with(trained: TrainedModel, stepper: Stepper) -> Sampler:
    """One that does not choose its engine."""
    sampler = Sampler(trained.model, trained.vocab)
    sampler._engines.best = lambda num_rows, num_chars: stepper  # type: ignore[method-assign]
    return sampler


def _take_turns(ways: dict[str, Write], num_rows: int) -> dict[str, float]:
    """Characters a second: the median of a few rounds, each of about `SECONDS_PER_TURN`."""
    counts, seconds = {}, {name: list[float]() for name in ways}
    for name, write in ways.items():
        write(num_rows, 2)  # compiles, allocates
        per_char = _seconds(write, num_rows, FEW_CHARS) / FEW_CHARS
        counts[name] = int(min(MOST_CHARS, max(FEW_CHARS, SECONDS_PER_TURN / per_char)))
    for _ in range(NUM_ROUNDS):
        for name, write in ways.items():
            seconds[name].append(_seconds(write, num_rows, counts[name]))
    return {name: num_rows * counts[name] / statistics.median(seconds[name]) for name in ways}


def _seconds(write: Write, num_rows: int, num_chars: int) -> float:
    started = time.perf_counter()
    write(num_rows, num_chars)
    return time.perf_counter() - started


def _print_as_users_have_it(folder: Path, trained: TrainedModel, console: Console) -> None:
    """Through the public interface, in new processes."""
    with tempfile.TemporaryDirectory() as cache:
        if not folder.exists():
            folder = Path(cache) / "model"
            save_model(folder, trained.model.state_dict(), trained.model.shape, trained.vocab)
        first, *later = [_process(folder, cache) for _ in range(1 + NUM_ROUNDS)]
    console.print(f"compiled once for this machine, in {first['compile']:.1f} s")
    console.print("\n| in a new process | seconds | characters a second | goal |\n|---|---|---|---|")
    for name, (num_chars, goal) in USES.items():
        seconds = statistics.median(figures[name] for figures in later)
        console.print(f"| {name} | {seconds:.2f} | {num_chars / seconds:,.0f} | {goal} |")


def _process(folder: Path, cache: str) -> dict[str, float]:
    """Seconds of each use in a process that has this folder for caches."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", USER, str(folder)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return {str(name): float(value) for name, value in json.loads(done.stdout).items()}


def _print_equality(trained: TrainedModel, console: Console) -> None:
    """Of engines and batches, by 256 texts with all kinds of rules."""
    rules = [
        RULE,
        Sampling(temperature=0),
        Sampling(temperature=0.8, top_p=0.9),
        Sampling(temperature=1.2, top_k=20, min_p=0.01),
    ]
    requests = [
        Request("\n", rules[number % 4]._replace(num_chars=200, seed=1), number=number) for number in range(256)
    ]
    found = []
    model = quantize(trained.model)
    for stepper in (Stepper(model), compiled_stepper(model)):
        if stepper:
            sampler = _sampler_with(trained, stepper)
            found += [sampler.generate(requests[:num_rows]) for num_rows in (256, 18, 2, 1)]
    is_equal = all(one.text == two.text for texts in found for one, two in zip(texts, found[0], strict=False))
    console.print(f"texts of both engines, and of 1, 2, 18 and 256 rows: {'equal' if is_equal else 'DIFFERENT'}")


def _print_loss(trained: TrainedModel, has_learned: bool, console: Console) -> None:
    """On the validation text, of the model as it is and in 8 bits."""
    try:
        data = load_data()
    except CharlstmError as error:
        data, reason = None, str(error)
    if not has_learned or data is None or data.vocab != trained.vocab:
        reason = reason if data is None else "there is no trained model of the encoded corpus"
        console.print(f"the loss in 8 bits was not measured: {reason}")
        return
    in_8_bits = QuantizedLanguageModel(trained.model)
    losses = [
        windowed(model, data.val_ids, CONTEXT_LEN).nats_per_char
        for model in (trained.model, cast(LanguageModel, in_8_bits))
    ]
    cost = losses[1] - losses[0]
    console.print(f"windowed_{CONTEXT_LEN} in nats/char: {losses[0]:.5f}; in 8 bits {losses[1]:.5f} ({cost:+.5f})")


if __name__ == "__main__":
    sys.exit(guarded(main))
