"""How fast a GPU trains, beside a bare cuDNN loop.

Usage: python -m benchmarks.gpu [--device cuda|cpu]      `benchmarks/gpu_acceptance.sh` runs it with all else

Needs the encoded corpus (`dvc repro encode`) and a GPU; without one, the exit code is 2. With `--device cpu`, the same
code runs on the processor, to try it out.

Timed are whole steps of an LSTM without a block, by the optimizers of the default recipe, 100 characters back in time,
and those of a loop that somebody would write in one file (`nn.LSTM`, Adam). They take turns. Figures are medians.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.harness import console, new_parser, print_table, take_turns
from benchmarks.training import Size, make_learner, plain_loop, precisions
from pipeline.new.timing import take_steps
from pipeline.stage.stage import guarded

SIZES = [Size(2, 256, 64, 100), Size(2, 256, 1024, 100), Size(1, 1024, 256, 100)]
SIZES_TO_TRY = [Size(2, 256, 64, 20), Size(1, 512, 64, 20)]  # of a processor
NUM_ROUNDS = 7


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        console.print("no GPU here that torch can use; --device cpu tries all of this on the processor")
        return 2
    is_cuda = arguments.device == "cuda"
    console.print(f"{_name(is_cuda)}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    formats = precisions(arguments.device)
    columns = ("layers×units, rows × characters", "precision", "characters a second", "bare `nn.LSTM` loop", "ratio")
    print_table(
        columns,
        (row for size in (SIZES if is_cuda else SIZES_TO_TRY) for row in _steps(size, arguments.device, formats)),
    )
    return 0


def _name(is_cuda: bool) -> str:
    return torch.cuda.get_device_name() if is_cuda else f"processor, {torch.get_num_threads()} threads"


def _steps(size: Size, device: str, formats: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """Rows of the table of steps."""
    for precision in formats:
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


if __name__ == "__main__":
    sys.exit(guarded(main))
