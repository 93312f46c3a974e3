"""How fast texts of any size become ids, and in how much memory: the stages download, split and encode.

Usage: python -m benchmarks.text [--gigabytes 1] [--kinds ascii cyrillic mixed]

Texts are made from a seed in a temporary folder ($TMPDIR), which needs room for three times their size. Each stage runs
in a process of its own, as `dvc repro` runs it. Memory is the most that it had beyond what it had after its imports.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from benchmarks.projects import ROOT, make_project
from charlstm.files.pieces import read_pieces
from charlstm.text.corpus import read_characters
from charlstm.text.vocabulary import Vocab, count_characters

LATIN = "etaoinshrdlcumwfgypbvkjxqz    .,;:'!?-\nETAOINSHRDLCUMWFGYPBVKJXQZ0123456789"
RUSSIAN = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъ     .,-\nОЕАИНТСРВЛКМДПУЯЫГЗБЧЖШЮЭ"
CHINESE = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 4000))
EMOJI = "".join(chr(code) for code in range(0x1F600, 0x1F640))
# The share of each alphabet; within one, characters are the rarer the later they stand (as 1 / rank).
KINDS = {
    "ascii": [(1.0, LATIN)],
    "cyrillic": [(1.0, RUSSIAN)],
    "mixed": [(0.6, CHINESE), (0.1, EMOJI), (0.1, "，。！？\n"), (0.2, LATIN)],
}
STAGES = ("download", "split", "encode")
NUM_BLOCKS = 8  # different ones of which a text consists, in random order
BLOCK_CHARS = 100_000
SAMPLE_BYTES = 64_000_000
GB, MB = 1e9, 1e6


def main() -> int:
    """Measure and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of each text")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="charlstm-text-") as name:
        console.print("| text | stage | GB/s | seconds | of a core | memory |\n|---|---|---|---|---|---|")
        for kind in arguments.kinds:
            for row in _stages(Path(name) / kind, kind, int(arguments.gigabytes * GB)):
                console.print(row)
        console.print("\n| text, in memory, one core | characters | count, GB/s | encode, GB/s |\n|---|---|---|---|")
        for kind in arguments.kinds:
            console.print(_in_memory(kind, min(SAMPLE_BYTES, int(arguments.gigabytes * GB)), Path(name)))
    return 0


def text_blocks(kind: str, num_bytes: int, seed: int = 1) -> Iterator[bytes]:
    """A text of about `num_bytes` bytes of UTF-8; a character may end beyond them."""
    random = np.random.default_rng(seed)
    shares = [(share / len(alphabet), alphabet) for share, alphabet in KINDS[kind]]
    weights = [np.full(len(alphabet), 1.0) / np.arange(1, len(alphabet) + 1) for _, alphabet in shares]
    chances = np.concatenate(
        [share * weight / weight.sum() for (share, _), weight in zip(KINDS[kind], weights, strict=True)]
    )
    characters = np.array(list("".join(alphabet for _, alphabet in shares)))
    blocks = ["".join(random.choice(characters, BLOCK_CHARS, p=chances)).encode() for _ in range(NUM_BLOCKS)]
    while num_bytes > 0:
        block = blocks[random.integers(NUM_BLOCKS)]
        if len(block) > num_bytes:
            block = block[:num_bytes].decode("utf-8", "ignore").encode()
            num_bytes = len(block)
        yield block
        num_bytes -= len(block)


def child(stage: str) -> None:
    """Run a stage in the current folder; what it took, as JSON on standard output."""
    module = import_module(f"pipeline.{stage}")
    load = import_module("pipeline.stage.stage").load
    rss = psutil.Process().memory_info().rss
    started, cpu_started = time.perf_counter(), time.process_time()
    module.run(*load())
    used = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "memory": _peak_rss() - rss,
    }
    sys.stdout.write(json.dumps(used))


def _peak_rss() -> int:
    """Of this process, in bytes. Linux counts the process that started it into `getrusage`, but not here."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS has bytes there


def _stages(project: Path, kind: str, num_bytes: int) -> Iterator[str]:
    """A row for each stage. What no later stage reads is removed at once."""
    make_project(project)
    source, outputs = project / "text.txt", project / "Datasets"
    with source.open("wb") as file:
        file.writelines(text_blocks(kind, num_bytes))
    size = source.stat().st_size
    no_longer_read = {"download": [source], "split": [outputs / "shakespear.txt"], "encode": []}
    for stage in STAGES:
        used = _run(project, stage)
        yield (
            f"| {kind} | {stage} | {size / GB / used['seconds']:.2f} | {used['seconds']:.1f} "
            f"| {used['cpu_seconds'] / used['seconds']:.0%} | {used['memory'] / MB:.0f} MB |"
        )
        for file_read in no_longer_read[stage]:
            file_read.unlink()
    for file_written in outputs.rglob("*.*"):
        file_written.unlink()


def _run(project: Path, stage: str) -> dict[str, Any]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", f"from benchmarks.text import child; child({stage!r})"]
    done = subprocess.run(command, cwd=project, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _in_memory(kind: str, num_bytes: int, folder: Path) -> str:
    path = folder / "sample.txt"
    with path.open("wb") as file:
        file.writelines(text_blocks(kind, num_bytes))
    pieces = list(read_pieces(path))
    num_bytes = path.stat().st_size
    counts = count_characters(read_characters(pieces, path))
    vocab = Vocab("".join(map(chr, np.flatnonzero(counts))))

    def encode() -> None:
        for piece in read_characters(pieces, path):
            vocab.ids_of(piece)

    count_speed = _speed(num_bytes, lambda: count_characters(read_characters(pieces, path)))
    return f"| {kind} | {len(vocab):,} | {count_speed:.2f} | {_speed(num_bytes, encode):.2f} |"


def _speed(num_bytes: int, action: Callable[[], object], num_rounds: int = 5) -> float:
    """The best of a few rounds, in GB per second of a core: other work on the machine only slows."""

    def seconds() -> float:
        started = time.process_time()
        action()
        return time.process_time() - started

    return num_bytes / GB / min(seconds() for _ in range(num_rounds))


if __name__ == "__main__":
    sys.exit(main())
