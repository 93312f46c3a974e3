"""What is to be known of a GPU: steps beside a bare cuDNN loop, and the guesses of `benchmarks.scaling`, measured.

Usage: python -m benchmarks.gpu [--device cuda|cpu]      `benchmarks/gpu_acceptance.sh` runs it with all else

Needs the encoded corpus (`dvc repro encode`) and a GPU; without one, the exit code is 2. With `--device cpu`, the same
code runs on the processor, to try it out.

- **Steps.** Whole steps of an LSTM without a block, by the optimizers of the default recipe, 100 characters back in
  time; and of a loop that somebody would write in one file (`nn.LSTM`, Adam). They take turns; figures are medians.
- **Time step.** Forward and backward of `nn.LSTM`, 768 units, 16 rows, divided by the 1,024 time steps. For cuDNN, the
  picture in FlashRNN's README has about 5 µs.
- **Kernel.** An addition that waits for the one before.
- **Message.** A sum of one number over all GPUs, or over two processes of the processor.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import torch
from torch import distributed, nn

from benchmarks.harness import console, median_seconds, new_parser, print_table, take_turns
from benchmarks.projects import torchrun
from benchmarks.scaling import ASSUMPTIONS
from benchmarks.training import Size, make_learner, plain_loop
from pipeline.new.timing import take_steps
from pipeline.stage.stage import guarded

SIZES = [Size(2, 256, 64, 100), Size(2, 256, 1024, 100), Size(1, 1024, 256, 100)]
SIZES_TO_TRY = [Size(2, 256, 64, 20), Size(1, 512, 64, 20)]  # of a processor
PRECISIONS = ("fp32", "bf16")
NUM_ROUNDS = 7
HIDDEN_SIZE, NUM_ROWS, NUM_TIME_STEPS, NUM_TIME_STEPS_TO_TRY = 768, 16, 1024, 32
NUM_KERNELS, NUM_MESSAGES = 1000, 200
LATENCY = "--latency"


def main() -> int:
    """Measure and print two Markdown tables."""
    parser = new_parser(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(LATENCY, action="store_true", help="only the latency of a message, in one of its processes")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        console.print("no GPU here that torch can use; --device cpu tries all of this on the processor")
        return 2
    if arguments.latency:
        return _print_latency(arguments.device)
    is_cuda = arguments.device == "cuda"
    console.print(f"{_name(is_cuda)}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    columns = ("layers×units, rows × characters", "precision", "characters a second", "bare `nn.LSTM` loop", "ratio")
    print_table(
        columns, (row for size in (SIZES if is_cuda else SIZES_TO_TRY) for row in _steps(size, arguments.device))
    )
    console.print()
    guesses = {name: f"{1e6 * value:g} µs" for name, value, _ in ASSUMPTIONS}
    print_table(
        ("what", "measured", "guess of `benchmarks.scaling`"),
        (
            ("time step of an LSTM layer", _microseconds(_time_step(arguments.device)), guesses["time-step"]),
            ("small kernel", _microseconds(_kernel(arguments.device)), guesses["kernel"]),
            ("message", _latency(arguments.device), f"{guesses['latency']} for each doubling of the GPUs"),
        ),
    )
    return 0


def _name(is_cuda: bool) -> str:
    return torch.cuda.get_device_name() if is_cuda else f"processor, {torch.get_num_threads()} threads"


def _steps(size: Size, device: str) -> Iterator[tuple[object, ...]]:
    """Rows of the table of steps."""
    for precision in PRECISIONS:
        learner = make_learner(
            "model.feed_forward_size=0",
            f"model.num_layers={size.num_layers}",
            f"model.hidden_size={size.hidden_size}",
            f"train.precision={precision}",
            f"train.batch_size={size.batch_size}",
            f"train.context_len={size.context_len}",
            "train.warmup_steps=0",
        )
        steps = {"ours": _waited_for(take_steps(learner)), "bare": _waited_for(plain_loop(size, device, precision))}
        for step in steps.values():  # warms up
            step()
        seconds = take_turns(steps, NUM_ROUNDS)
        num_chars = size.batch_size * size.context_len
        speeds = (f"{num_chars / seconds[name]:,.0f}" for name in steps)
        yield size, precision, *speeds, f"{seconds['bare'] / seconds['ours']:.2f}×"


def _waited_for(step: Callable[[], object]) -> Callable[[], None]:
    """The step, to its end on the device."""

    def to_its_end() -> None:
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return to_its_end


def _time_step(device: str) -> float:
    """Seconds."""
    num_steps = NUM_TIME_STEPS if device == "cuda" else NUM_TIME_STEPS_TO_TRY
    lstm = nn.LSTM(HIDDEN_SIZE, HIDDEN_SIZE, device=device)
    inputs_TBH = torch.randn(num_steps, NUM_ROWS, HIDDEN_SIZE, device=device, requires_grad=True)

    def there_and_back() -> None:
        with torch.autocast(device, torch.bfloat16):
            torch.autograd.backward(lstm(inputs_TBH)[0].sum())

    return median_seconds(_waited_for(there_and_back), NUM_ROUNDS, 2) / num_steps


def _kernel(device: str) -> float:
    """Seconds."""
    number = torch.zeros(1, device=device)

    def add() -> None:
        for _ in range(NUM_KERNELS):
            number.add_(1)

    return median_seconds(_waited_for(add), NUM_ROUNDS, 2) / NUM_KERNELS


def _latency(device: str) -> str:
    """In words; it takes processes of its own."""
    num_processes = torch.cuda.device_count() if device == "cuda" else 2
    if num_processes < 2:
        return "not measured: there is one GPU"
    command = [*torchrun(num_processes), "-m", "benchmarks.gpu", "--device", device, LATENCY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{done.stdout.strip()} among {num_processes}"


def _print_latency(device: str) -> int:
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        torch.cuda.set_device(distributed.get_rank())
    number = torch.zeros(1, device=device)

    def send() -> None:
        for _ in range(NUM_MESSAGES):
            distributed.all_reduce(number)

    seconds = median_seconds(_waited_for(send), NUM_ROUNDS, 2) / NUM_MESSAGES
    if distributed.get_rank() == 0:
        console.print(_microseconds(seconds))
    distributed.destroy_process_group()
    return 0


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} µs"


if __name__ == "__main__":
    sys.exit(guarded(main))
