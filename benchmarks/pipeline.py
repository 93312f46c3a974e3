"""What the pipeline costs around training: imports, the way to the first step, whole runs, and texts of any size.

Usage: python -m benchmarks.pipeline [--rounds 5]
       python -m benchmarks.pipeline --gigabytes 1 [--kinds ascii cyrillic mixed] [--training]

Without `--gigabytes`: a new project in a temporary folder, with tiny parameters, so that what is left is overhead.
Figures are medians. The exit code is 1 if the first step comes too late.

With it: how fast texts become ids, and in how much memory. They are made from a seed in a temporary folder ($TMPDIR),
which needs room for three times their size. Each stage runs in a process of its own, as `dvc repro` runs it. Memory is
the most that it had beyond what it had after its imports.

With `--training`, random ids of that size are written as encode writes them (a tenth more for validation, with
checksums), and those of a text as long as tiny Shakespeare. The real train stage starts on them with the default
recipe's sizes, and is stopped after its first checkpoint. RSS is what the process holds: `RssAnon` is its own;
`RssFile` are pages of files that it has touched, which the system shares, and takes back when it needs memory. The exit
code is 1 if a limit is exceeded.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.harness import console, line, median_seconds, new_parser, print_table
from benchmarks.projects import (
    ACCELERATE,
    LAUNCH,
    ROOT,
    kill,
    make_project,
    shipped_params,
    start,
    training_command,
)
from charlstm.files.atomic import sha256, write_text
from charlstm.files.checksums import SUMS, sums_of, write_digests
from charlstm.text.vocabulary import Vocab
from pipeline.dvc.paths import load_paths
from pipeline.stage.presets import with_values

STAGES = ("download", "split", "encode", "train", "evaluate", "sample")
TRAIN = [*LAUNCH, *ACCELERATE, "-m", "pipeline.train"]
MAX_SECONDS_TO_FIRST_STEP = 5.0
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
NUM_BLOCKS = 8  # different ones of which a text consists, in random order
BLOCK_CHARS = 100_000
GB, MB = 1e9, 1e6
NUM_SYMBOLS, TINY_NUM_CHARS = 65, 1_003_854  # as in tiny Shakespeare
PIECE = 2**24  # ids
SECONDS_WATCHED = 3.0  # after the first step
MAX_SECONDS, MAX_MORE_MB = 20.0, 200.0
MEMORY = ("VmHWM", "RssAnon", "RssFile")


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--gigabytes", type=float, help="of each text")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--training", action="store_true", help="start training on ids of that size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="charlstm-pipeline-") as name:
        folder = Path(name)
        if arguments.gigabytes is None:
            return measure_overhead(folder / "project", arguments.rounds)
        num_bytes = int(arguments.gigabytes * GB)
        if arguments.training:
            return start_trainings(folder, num_bytes)
        print_table(
            ("text", "stage", "GB/s", "seconds", "of a core", "memory"),
            (row for kind in arguments.kinds for row in _stages(folder / kind, kind, num_bytes)),
        )
    return 0


def measure_overhead(project: Path, num_rounds: int) -> int:
    """Print seconds; 1 if the first step comes too late."""
    make_project(project)
    for program in ("git", "dvc"):
        _run([program, "init", "--quiet"], project)
    commands = {"`python` alone": [sys.executable, "-c", "pass"]}
    for stage in STAGES:
        commands[f"import of `pipeline.{stage}`"] = [sys.executable, "-c", f"import pipeline.{stage}"]
    commands["`dvc repro --force`, six stages"] = ["dvc", "repro", "--force"]
    commands["`dvc repro` with nothing to do"] = ["dvc", "repro"]
    medians = (
        (what, median_seconds(partial(_run, command, project), num_rounds)) for what, command in commands.items()
    )
    print_table(("what", "seconds"), ((what, f"{seconds:.2f}") for what, seconds in medians))
    to_first_step = statistics.median(_seconds_to_first_step(project) for _ in range(num_rounds))
    console.print(line(("from the launcher's start to the first step", f"{to_first_step:.2f}")))
    return int(to_first_step > MAX_SECONDS_TO_FIRST_STEP)


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def _seconds_to_first_step(project: Path) -> float:
    """Until the line that is printed right before it."""
    log = project / "log"
    log.unlink(missing_ok=True)
    started = time.perf_counter()
    process = start(project, TRAIN, log)
    while b"parameters, " not in log.read_bytes():
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    kill(process)
    return seconds


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
        "memory": memory_of(os.getpid())["VmHWM"] - rss,
    }
    sys.stdout.write(json.dumps(used))


def memory_of(pid: int) -> dict[str, int]:
    """What Linux says of a process, in bytes. It counts the process that started it into `getrusage`, but not here."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {name: 1024 * int(kilobytes) for name, kilobytes in re.findall(r"(\w+):\s+(\d+) kB", status)}


def _stages(project: Path, kind: str, num_bytes: int) -> Iterator[tuple[str, ...]]:
    """A row for each stage. What no later stage reads is removed at once."""
    make_project(project)
    source, outputs = project / "text.txt", project / "Datasets"
    with source.open("wb") as file:
        file.writelines(text_blocks(kind, num_bytes))
    size = source.stat().st_size
    no_longer_read = {"download": [source], "split": [outputs / "shakespear.txt"], "encode": []}
    for stage in no_longer_read:
        used = _run_stage(project, stage)
        seconds, share = used["seconds"], used["cpu_seconds"] / used["seconds"]
        yield (
            kind,
            stage,
            f"{size / GB / seconds:.2f}",
            f"{seconds:.1f}",
            f"{share:.0%}",
            f"{used['memory'] / MB:.0f} MB",
        )
        for file_read in no_longer_read[stage]:
            file_read.unlink()
    for file_written in outputs.rglob("*.*"):
        file_written.unlink()


def _run_stage(project: Path, stage: str) -> dict[str, Any]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", f"from benchmarks.pipeline import child; child({stage!r})"]
    done = subprocess.run(command, cwd=project, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout))


def start_trainings(folder: Path, num_bytes: int) -> int:
    """Print seconds and memory beside those of a small text; 1 if they are above their limits."""
    starts: list[tuple[float, ...]] = []

    def rows() -> Iterator[tuple[str, ...]]:
        for num_chars, label in ((TINY_NUM_CHARS, "1 MB"), (num_bytes, f"{num_bytes / GB:g} GB")):
            project = folder / label.replace(" ", "")
            _make_encoded(project, num_chars)
            starts.append(_start(project))
            yield label, *(f"{value:,.1f}" for value in starts[-1])

    print_table(("training text", "seconds to the first step", "peak RSS, MB", *MEMORY[1:]), rows())
    (_, small_peak, *_), (seconds, peak, *_) = starts
    more = peak - small_peak
    console.print(f"{seconds:.1f} s to the first step, {more:+.0f} MB beside the small text's")
    return int(seconds > MAX_SECONDS or more > MAX_MORE_MB)


def _make_encoded(project: Path, num_chars: int) -> None:
    """A project after its encode stage, with the shipped parameters."""
    make_project(project)
    values = {"download.watch": "text.txt", "train.log_every_steps": 1}
    (project / "params.yaml").write_text(with_values(shipped_params(), values))
    paths = load_paths(project / "dvc.yaml")
    corpus, encoded = project / paths.corpus, project / paths.encoded
    encoded.mkdir(parents=True)
    write_text(sums_of(corpus), f"{'0' * 64}  {corpus.name}\n")
    parts = {"train.npy": num_chars, "val.npy": num_chars // 9}
    digests = {name: _write_ids(encoded / name, size) for name, size in parts.items()}
    Vocab("".join(map(chr, range(32, 32 + NUM_SYMBOLS)))).save(encoded / "vocab.json")
    write_digests(encoded / SUMS, {**digests, "vocab.json": sha256(encoded / "vocab.json")})


def _write_ids(path: Path, size: int) -> str:
    """Random ids; their SHA-256."""
    random = np.random.default_rng(size)
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
    digest = hashlib.sha256(path.read_bytes())
    with path.open("ab") as file:
        for first in range(0, size, PIECE):
            piece = random.integers(0, NUM_SYMBOLS, min(PIECE, size - first), np.uint8).tobytes()
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _start(project: Path) -> tuple[float, ...]:
    """Seconds to the first checkpoint of the stage; and what it held in the next seconds, in MB."""
    state, log = project / ".charlstm", project / "log"
    shutil.rmtree(state, ignore_errors=True)
    started = time.perf_counter()
    process = start(project, training_command(1), log, CHARLSTM_CHECKPOINT_SECONDS="0.01")
    try:
        while not list(state.glob("*/step-*")):
            if process.poll() is not None:
                raise SystemExit(f"exit code {process.returncode}\n{log.read_text()[-3000:]}")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        time.sleep(SECONDS_WATCHED)
        memory = memory_of(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait()
    finally:
        kill(process)
    return seconds, *(memory[name] / MB for name in MEMORY)


if __name__ == "__main__":
    sys.exit(main())
