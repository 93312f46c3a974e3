"""Damaged files of every kind: the outcome must be one line of error, a recovery, or no change.

Usage: python -m benchmarks.fuzz [--count 2000] [--seed 0]

An input of a stage is cut, gets a flipped bit or noise, or is replaced by another run's file. Then
the stage runs. `error` is exit code 2 and one line. `recovered` and `identical` are the outputs of
the undamaged run, with and without a warning about a checkpoint. Everything else is wrong.
"""

import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import console, new_parser
from tests.support.projects import (
    PYTHON,
    captured,
    kill,
    make_encoded_project,
    start,
    text,
    training_command,
)

OVERRIDE = {"train.epochs": 2, "train.log_every_steps": 20, "sample.num_chars": 5}
CHECKPOINTS = ".charlstm/*/step-*"
ENCODED = "Datasets/encoded"
MODEL_FILES = [
    f"artifacts/model/{name}" for name in ("model.safetensors", "config.json", "vocab.json")
]
READS = {
    "split": ["Datasets/shakespear.txt", "Datasets/shakespear.txt.sha256"],
    "encode": ["Datasets/split/train.txt", "Datasets/split/val.txt", "Datasets/split/SHA256SUMS"],
    "train": [
        *(f"{ENCODED}/{name}" for name in ("train.npy", "val.npy", "vocab.json", "SHA256SUMS")),
        *(f"{CHECKPOINTS}/{name}" for name in ("state.safetensors", "SHA256SUMS")),
    ],
    "evaluate": [
        *MODEL_FILES,
        *(f"artifacts/train/{name}" for name in ("history.csv", "steps.csv", "SHA256SUMS")),
        *(f"{ENCODED}/{name}" for name in ("val.npy", "vocab.json")),
    ],
    "sample": MODEL_FILES,
}
WRITES = {
    "split": ["Datasets/split"],
    "encode": ["Datasets/encoded"],
    "train": ["artifacts/model", "artifacts/train"],
    "evaluate": ["artifacts/evaluate"],
    "sample": ["artifacts/samples"],
}
WRONG = ("traceback", "wrong result")
OUTCOMES = ("error", "identical", "recovered", *WRONG)
DAMAGES = ("cut", "flipped bit", "noise", "file of another run")


def damage(kind: str, file: Path, other: Path, generator: random.Random) -> None:
    """Damage a file. `other` is the same file of another run."""
    content = bytearray(file.read_bytes())
    first = generator.randrange(len(content))
    match kind:
        case "cut":
            del content[first:]
        case "flipped bit":
            content[first] ^= 1 << generator.randrange(8)
        case "noise":  # it may go beyond the end
            noise = generator.randbytes(generator.randint(1, 64))
            content[first : first + len(noise)] = noise
        case "file of another run":
            content = bytearray(other.read_bytes())
    file.write_bytes(content)


def main() -> int:
    """Damage files, run stages, compare. Return 1 if an outcome is wrong."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=2000, help="number of damaged files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="charlstm-fuzz-") as temporary:
        project = Path(temporary) / "project"
        others = Path(temporary) / "others"
        _make_run(project, text()[:6000])
        _make_run(others, text()[6000:12000])
        for index in range(arguments.count):
            stage = generator.choice(list(READS))
            kind = generator.choice(DAMAGES)
            paths = [path for pattern in READS[stage] for path in project.glob(pattern)]
            file = generator.choice(sorted(paths))
            other = others / file.relative_to(project)
            if not other.exists():  # the runs have checkpoints of different steps
                other = min(others.glob(f"{CHECKPOINTS}/{file.name}"))
            outcome, said = _run_damaged(project, stage, kind, file, other, generator)
            outcomes[outcome] += 1
            if outcome in WRONG:
                name = file.relative_to(project)
                console.print(f"case {index}: {stage}, {name}, {kind}: {outcome}\n{said}")
    said = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in OUTCOMES)
    console.print(f"{arguments.count} damaged files: {said}")
    return int(any(outcomes[outcome] for outcome in WRONG))


def _make_run(project: Path, text: str) -> None:
    """Create a finished run that has two checkpoints from the middle of its training."""
    make_encoded_project(project, OVERRIDE, text)
    log = project.with_suffix(".log")
    process = start(project, training_command(1), log, CHARLSTM_CHECKPOINT_SECONDS="0.1")
    while process.poll() is None and len(list(project.glob(CHECKPOINTS))) < 2:
        pass
    kill(process)
    kept = project.with_suffix(".kept")
    shutil.copytree(project / ".charlstm", kept)
    for stage in ("train", "evaluate", "sample"):
        done = _run(project, stage)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(project / ".charlstm")
    shutil.copytree(kept, project / ".charlstm")
    # The kill must come between the second checkpoint and the end.
    assert len(list(project.glob(CHECKPOINTS))) == 2


def _run_damaged(
    project: Path, stage: str, kind: str, file: Path, other: Path, generator: random.Random
) -> tuple[str, str]:
    """Run a stage with a damaged file, and undo everything. Return the outcome and the errors."""
    copy = project.with_suffix(".copy")
    shutil.copytree(project, copy)
    expected = _contents(project, stage)
    for output in WRITES[stage]:  # as DVC does before a stage
        shutil.rmtree(project / output)
    damage(kind, file, other, generator)
    done = _run(project, stage)
    outputs = _contents(project, stage)
    shutil.rmtree(project)
    copy.rename(project)
    num_errors = done.stderr.count("ERROR: ")
    if "Traceback" in done.stderr:
        return "traceback", done.stderr
    if done.returncode == 2 and num_errors == 1 and not outputs:
        return "error", done.stderr
    if done.returncode == 0 and num_errors == 0 and outputs == expected:
        warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING: ")]
        is_recovered = any("checkpoint" in line for line in warnings)
        return "recovered" if is_recovered else "identical", done.stderr
    return "wrong result", f"exit code {done.returncode}\n{done.stderr}"


def _run(project: Path, stage: str) -> "subprocess.CompletedProcess[str]":
    command = [*PYTHON, "pipeline", stage]
    return captured(command, project, OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true")


def _contents(project: Path, stage: str) -> dict[str, str]:
    folders = [project / output for output in WRITES[stage]]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    sys.exit(main())
