"""A trace of 20 training steps, and the ten longest gaps in which the device did nothing.

Usage: python -m benchmarks.profile_steps [--device cuda|cpu] [--trace trace.json] [NAME=VALUE ...]

The default is the recipe quick. Overrides are parameters by dotted name. A browser shows the trace
at ui.perfetto.dev. On a GPU, a gap is the time between two kernels. On a processor, it is the time
between two operators of torch.
"""

import os
import sys
from pathlib import Path

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import console, new_parser, print_table
from benchmarks.trials import make_learner, take_steps
from pipeline.run.stage import errors_reported

NUM_STEPS = 20
NUM_GAPS = 10


def main() -> int:
    """Profile and print a Markdown table of gaps."""
    parser = new_parser(__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cuda", "cpu"), default=default)
    parser.add_argument("--trace", type=Path, default=Path("trace.json"), help="file to write")
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    step = take_steps(make_learner(*arguments.overrides))
    for _ in range(NUM_STEPS):  # warm up
        step()
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for _ in range(NUM_STEPS):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
    profiler.export_chrome_trace(str(arguments.trace))

    kind = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    spans = sorted(
        (event.time_range.start, event.time_range.end, event.name)
        for event in profiler.events() or []
        if event.device_type == kind and event.cpu_parent is None
    )
    gaps = []
    end, before = spans[0][1:]
    for start, stop, name in spans:
        if start > end:
            gaps.append((start - end, before, name))
        if stop > end:
            end, before = stop, name
    total = spans[-1][1] - spans[0][0]
    idle = sum(gap for gap, *_ in gaps)
    console.print(f"{total / NUM_STEPS:.0f} µs a step, {idle / total:.0%} of it in gaps\n")
    longest = sorted(gaps, reverse=True)[:NUM_GAPS]
    rows = ((f"{gap:.0f}", before[:50], after[:50]) for gap, before, after in longest)
    print_table(("µs", "after", "before"), rows)
    console.print(f"\nthe trace: {arguments.trace}")
    return 0


if __name__ == "__main__":
    with errors_reported() as outcome:
        outcome.code = main()
    sys.exit(outcome.code)
