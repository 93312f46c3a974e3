"""`charlstm reproduce`: can this be made again, to the byte? DVC does it, in a git worktree of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import CharlstmError
from charlstm.params import NOTHING
from pipeline.lineage.git import git
from pipeline.lineage.search import find
from pipeline.run.dvc import cache_folder, load_paths, parse_lock, run_dvc
from pipeline.run.project import CHECKPOINT_MIRROR, LOCK, PIPELINE, from_here


def reproduce(
    name: Annotated[
        str,
        typer.Argument(metavar="RUN|FILE|REV", help="As for `charlstm trace`.", callback=from_here),
    ],
) -> int:
    """Make a model again and compare every output.

    The commit that has the model goes to a temporary git worktree. Text and ids come from DVC's cache or remote, or are
    made anew. Training, evaluation and sampling really run.

    Exit code: 0 if all outputs are identical, 1 if not, 2 if it cannot be made again at all.
    """
    commits = {commits[-1]: match.run for match in find(name)[1] if (commits := match.commits())}
    if not commits:
        raise CharlstmError(
            f"{name}: no dvc.lock in git names its outputs: commit it, or train by `dvc exp run`"
        )
    if len(commits) > 1:
        raise CharlstmError(f"{name}: expected one model, found those of {', '.join(commits)}")
    ((commit, run),) = commits.items()
    tags = run.tags if run else {}
    if tags.get("hardware.processes", "1") != "1":
        typer.echo(
            "it was trained by several processes, and now by one: losses will differ a little",
            err=True,
        )
    with _worktree(commit) as folder:
        recorded = _outputs(folder)
        threads = (
            {"OMP_NUM_THREADS": tags["hardware.threads"]} if "hardware.threads" in tags else {}
        )
        _make(folder, threads)  # sums depend on it in their last bits
        now = _outputs(folder)
    different = [path for path, md5 in recorded.items() if md5 != now.get(path)]
    if not different:
        typer.echo(f"identical: all {len(recorded)} outputs of {commit}")
        return 0
    for path, md5 in recorded.items():
        typer.echo(
            f"different  {path}  {md5}, now {now.get(path)}"
            if path in different
            else f"identical  {path}"
        )
    where = tags.get("hardware.processor", "an unknown processor")
    typer.echo(f"different: {len(different)} of {len(recorded)}; it was trained on {where}")
    typer.echo(
        "another processor, or another number of threads or processes, rounds differently, like another seed"
    )
    return 1


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    """The project's folder in a temporary git worktree at `commit`."""
    with tempfile.TemporaryDirectory(prefix="charlstm-reproduce-") as parent:
        root = Path(parent) / "project"
        # DVC's hooks would check out all outputs.
        add = [
            "git",
            "-c",
            "core.hooksPath=/dev/null",
            "worktree",
            "add",
            "--quiet",
            "--detach",
            str(root),
            commit,
        ]
        try:
            if (done := subprocess.run(add, capture_output=True, text=True)).returncode != 0:
                raise CharlstmError(
                    f"git: expected a worktree of {commit}, got: {' '.join(done.stderr.split())}"
                )
            yield root / (git("rev-parse", "--show-prefix") or "")
        finally:
            git("worktree", "remove", "--force", str(root))


def _outputs(folder: Path) -> dict[str, str]:
    lock = parse_lock((folder / LOCK).read_text(encoding="utf-8"))
    return lock.files("outs") if lock else {}


def _make(folder: Path, environment: dict[str, str]) -> None:
    """Bring the data from the nearest that has it, then train, evaluate and sample. DVC's cache stays as it is."""
    if (local := Path(".dvc/config.local")).is_file():
        shutil.copy(local, folder / local)
    initial = load_paths(folder / PIPELINE).initial
    data = ["download", "split", "encode", *([] if str(initial) == NOTHING else [f"{initial}.dvc"])]
    _dvc(folder, "cache", "dir", "--local", str(cache_folder(Path.cwd()).resolve()))
    ways = (
        ["checkout", "--quiet", *data],
        ["pull", "--quiet", *data],
        ["repro", "--no-commit", "encode"],
    )
    again = ["repro", "--force", "--no-commit", "--downstream", "train"]
    if not any(_dvc(folder, *way) == 0 for way in ways) or _dvc(folder, *again, **environment) != 0:
        raise CharlstmError("it cannot be made again: a stage failed, see above")


def _dvc(folder: Path, *arguments: str, **environment: str) -> int:
    """The exit code of DVC. Neither MLflow nor the checkpoint mirror sees what runs, nor has its result ready."""
    hidden = ("MLFLOW_", CHECKPOINT_MIRROR, "DVC_ROOT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    env = {**kept, "DVC_NO_ANALYTICS": "true", **environment}
    return run_dvc(
        *arguments, environment=env, folder=folder, stdout=sys.__stderr__
    )  # stdout: the table's
