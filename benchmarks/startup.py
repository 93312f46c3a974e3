"""How long training takes to its first step, and how much memory, with a text of any size beside tiny Shakespeare's.

Usage: python -m benchmarks.startup [--gigabytes 2] [--folder PATH]

Random ids of that size are written as encode writes them (a tenth more for validation, with checksums), the real train
stage starts on them with the default recipe's sizes, and is stopped after its first checkpoint. First no hash is known
of the files, so that they are read once; then all are (`pipeline/provenance/hashes.py`), as they also are right after
encode. Then the losses of some steps from the mapped file are compared with those of the same ids in memory.

RSS is what the process holds: `RssAnon` is its own; `RssFile` are pages of files that it has touched, which the system
shares, and takes back when it needs memory. The exit code is 1 if a limit is exceeded.
"""

import argparse
import hashlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from ruamel.yaml import YAML

from benchmarks.projects import ROOT, kill, make_project, start, training_command
from benchmarks.trials import fresh_processes
from charlstm.files.atomic import sha256, write_text
from charlstm.files.checksums import SUMS, sums_of, write_digests
from charlstm.params import load_params
from charlstm.text.encoded import load_ids
from charlstm.text.vocabulary import Ids, Vocab
from charlstm.training.learner import Learner
from pipeline.dvc.paths import Paths, load_paths
from pipeline.stage.stage import guarded

CHARACTERS = "".join(map(chr, range(32, 97)))  # 65 of them, as in tiny Shakespeare
TINY_NUM_CHARS = 1_003_854
PIECE = 2**24  # ids
NUM_COMPARED_STEPS = 20
SECONDS_WATCHED = 3.0  # after the first step
MAX_SECONDS, MAX_MORE_MB = 10.0, 200.0
MEMORY = ("VmHWM", "RssAnon", "RssFile")


class Started(NamedTuple):
    """Seconds to the first step; and what the process held, in MB: at most, and of it at the end."""

    seconds: float
    peak: float
    anonymous: float
    files: float


def main() -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the training text, a byte a character")
    parser.add_argument("--folder", type=Path, help="where there is room for it; the system's folder if not given")
    arguments, console = parser.parse_args(), Console(highlight=False, soft_wrap=True)
    columns = ("training text", "hashes", "seconds to the first step", "peak RSS, MB", "RssAnon", "RssFile")
    console.print(f"| {' | '.join(columns)} |\n|---|---|{'---:|' * 4}")
    with tempfile.TemporaryDirectory(prefix="charlstm-startup-", dir=arguments.folder) as name:
        found: list[Started] = []
        for size, label in ((TINY_NUM_CHARS, "1 MB"), (int(arguments.gigabytes * 1e9), f"{arguments.gigabytes:g} GB")):
            project = Path(name) / label.replace(" ", "")
            _make(project, size)
            for is_known in ("unknown", "known"):
                one = _start(project, keeps_hashes=is_known == "known")
                console.print(f"| {label} | {is_known} | {' | '.join(f'{value:,.1f}' for value in one)} |")
                found.append(one)
        seconds, more = found[-1].seconds, found[-1].peak - found[1].peak
        are_equal = _have_equal_losses(project)
    console.print(f"with known hashes: {seconds:.1f} s to the first step, {more:+.0f} MB beside the small text's")
    same = "the same" if are_equal else "NOT THE SAME"
    console.print(f"losses of {NUM_COMPARED_STEPS} steps from the file and from memory: {same}")
    return int(seconds > MAX_SECONDS or more > MAX_MORE_MB or not are_equal)


def _make(project: Path, num_chars: int) -> None:
    """A project after its encode stage, with the shipped parameters."""
    make_project(project)
    yaml = YAML()
    document = yaml.load((ROOT / "params.yaml").read_text())
    document["train"] |= {"log_every_steps": 1}
    document["download"] |= {"watch": "text.txt"}
    with (project / "params.yaml").open("w") as file:
        yaml.dump(document, file)
    paths = _paths(project)
    paths.encoded.mkdir(parents=True)
    write_text(sums_of(paths.corpus), f"{'0' * 64}  {paths.corpus.name}\n")
    parts = {"train.npy": num_chars, "val.npy": num_chars // 9}
    digests = {name: _write_ids(paths.encoded / name, size) for name, size in parts.items()}
    Vocab(CHARACTERS).save(paths.encoded / "vocab.json")
    write_digests(paths.encoded / SUMS, {**digests, "vocab.json": sha256(paths.encoded / "vocab.json")})


def _paths(project: Path) -> Paths:
    paths = load_paths(project / "dvc.yaml")
    return paths.model_copy(update={"encoded": project / paths.encoded, "corpus": project / paths.corpus})


def _write_ids(path: Path, size: int) -> str:
    """Random ids; their SHA-256."""
    random, digest = np.random.default_rng(size), hashlib.sha256()
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
    digest.update(path.read_bytes())
    with path.open("ab") as file:
        for first in range(0, size, PIECE):
            piece = random.integers(0, 64, min(PIECE, size - first), np.uint8).tobytes()
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _start(project: Path, *, keeps_hashes: bool) -> Started:
    """Start the stage, wait for its first checkpoint, watch it for a while, and stop it."""
    state, log = project / ".charlstm", project / "log"
    for entry in state.glob("*"):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "hashes.json" or not keeps_hashes:
            entry.unlink()
    before = time.perf_counter()
    process = start(project, training_command(1), log, CHARLSTM_CHECKPOINT_SECONDS="0.01")
    try:
        while not list(state.glob("*/step-*")):
            if process.poll() is not None:
                raise SystemExit(f"exit code {process.returncode}\n{log.read_text()[-3000:]}")
            time.sleep(0.01)
        seconds = time.perf_counter() - before
        time.sleep(SECONDS_WATCHED)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        pass
    finally:
        kill(process)
    megabytes = dict(re.findall(r"(\w+):\s+(\d+) kB", status))
    return Started(seconds, *(int(megabytes[name]) / 1000 for name in MEMORY))


def _have_equal_losses(project: Path) -> bool:
    """Whether the first steps have the same losses, to the bit."""
    ids = load_ids(_paths(project).encoded / "train.npy", len(CHARACTERS))
    return _losses(project, ids) == _losses(project, np.array(ids))


def _losses(project: Path, ids: Ids) -> list[float]:
    params = load_params(project / "params.yaml")
    learner = Learner(ids, len(CHARACTERS), params.model, params.train, fresh_processes(params))
    steps = [learner.take_step(step, 1, step) for step in range(NUM_COMPARED_STEPS)]
    return [float(step.nats) for step in steps if step is not None]


if __name__ == "__main__":
    sys.exit(guarded(main))
