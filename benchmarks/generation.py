"""How fast texts are written, by us and by others; what 8 bits cost; and whether all ways give the same texts.

Usage: python -m benchmarks.generation [--model artifacts/model] [--char-rnn PATH]

PATH is a checkout of spro/char-rnn.pytorch, whose own sampler is measured then. Where there is no model, one of the
default's shape that has learned nothing takes its place: it is as fast. All that is compared takes turns, so that a
noisy machine disturbs all alike; figures are medians. All draw at temperature 1; ours are whole calls of the sampler.
All have as many threads as our sampler takes: one with up to 31 texts, and the compiled engine one for each text.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from rich.console import Console

from benchmarks.samplers import Write, char_rnn, former_loop, on_few_threads, plain_lstm
from benchmarks.trials import load_data
from charlstm.errors import CharlstmError
from charlstm.evaluation.protocols import LanguageModel, windowed
from charlstm.generation import engines
from charlstm.generation.batch import Request
from charlstm.generation.language_model import QuantizedLanguageModel
from charlstm.generation.quantized import quantize
from charlstm.generation.rule import SamplingRule
from charlstm.generation.sampler import Sampler
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.text.vocabulary import Vocab
from pipeline.common.hardware import set_num_threads
from pipeline.common.stage import guarded

NUM_ROUNDS = 3
ROW_COUNTS = (1, 18, 256, 2048)
SECONDS_PER_TURN = 0.25
MOST_CHARS = 20_000  # of a row
FEW_CHARS = 8
DEFAULT_SHAPE = ModelShape(65, 128, 320, 1, 320)
CONTEXT_LEN = 100
RULE = SamplingRule(1.0)


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
    console.print("\n| texts at once | by | characters a second | against `nn.LSTM` |\n|---|---|---|---|")
    for num_rows in ROW_COUNTS:
        rates = _take_turns(_ways(trained, num_rows, arguments.char_rnn), num_rows)
        for name, rate in rates.items():
            console.print(f"| {num_rows:,} | {name} | {rate:,.0f} | {rate / rates['`nn.LSTM`']:.1f}× |")
    if arguments.char_rnn is None:
        console.print("spro/char-rnn.pytorch was not measured: name a checkout (--char-rnn PATH)")
    _print_sample_stage(trained, console)
    _print_compile_time(trained, console)
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
        "charlstm, torch": _ours(trained, compile_seconds=float("inf")),
    }
    if engines.compiled_stepper(quantize(trained.model)):
        ways["charlstm, compiled"] = _ours(trained, compile_seconds=0)
    if num_rows == 1:
        ways["one row, fp32, `addmv`"] = on_few_threads(former_loop(trained.model))
        if char_rnn_path:
            ways["spro/char-rnn.pytorch"] = on_few_threads(char_rnn(char_rnn_path, trained.model.shape))
    return ways


@contextlib.contextmanager
def _compiling_costs(seconds: float) -> Iterator[None]:
    """What the choice of an engine goes by; infinite seconds are torch's, and none the compiled one's."""
    before, engines.COMPILE_SECONDS = engines.COMPILE_SECONDS, seconds  # type: ignore[misc]
    try:
        yield
    finally:
        engines.COMPILE_SECONDS = before  # type: ignore[misc]


def _ours(trained: TrainedModel, compile_seconds: float) -> Write:
    sampler = Sampler(trained.model, trained.vocab)

    def write(num_rows: int, num_chars: int) -> None:
        with _compiling_costs(compile_seconds):
            sampler.generate([Request("\n", num_chars, RULE, 1, number) for number in range(num_rows)])

    return write


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


def _print_sample_stage(trained: TrainedModel, console: Console) -> None:
    """As the stage has them by default: 18 texts of 500 characters."""
    write = _ours(trained, engines.COMPILE_SECONDS)
    seconds = statistics.median(_seconds(write, 18, 500) for _ in range(NUM_ROUNDS))
    console.print(f"\n18 texts of 500 characters, as in stage sample: {seconds:.2f} s")


def _print_compile_time(trained: TrainedModel, console: Console) -> None:
    """In new processes."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = [pool.apply(_compile_seconds, (trained.model.shape,)) for _ in range(3)]
    if (seconds := statistics.median(found)) > 0:
        console.print(f"import of numba and compiling, once a process: {seconds:.1f} s")
    else:
        console.print("numba is not installed (`pip install charlstm[fast]`), so nothing was compiled")


def _compile_seconds(shape: ModelShape) -> float:
    """0 without numba."""
    model = quantize(CharLSTM(shape, "fused"))
    started = time.perf_counter()
    stepper = engines.compiled_stepper(model)
    return time.perf_counter() - started if stepper else 0.0


def _print_equality(trained: TrainedModel, console: Console) -> None:
    """Of engines and batches, by 256 texts with all kinds of rules."""
    rules = [RULE, SamplingRule(0), SamplingRule(0.8, top_p=0.9), SamplingRule(1.2, 20, min_p=0.01)]
    requests = [Request("\n", 200, rules[number % 4], 1, number) for number in range(256)]
    found = []
    for compile_seconds in (float("inf"), 0):
        sampler = Sampler(trained.model, trained.vocab)
        with _compiling_costs(compile_seconds):
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
