"""`charlstm reproduce`: a training repeated by DVC in a git worktree, and compared byte by byte."""

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
from pipeline.run.project import LOCK, PIPELINE, from_here

# Run git without hooks, because DVC's hook would check out all outputs.
ADD = ("git", "-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach")


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE|REV",
            help="A training, named as for `charlstm trace`.",
            callback=from_here,
        ),
    ],
) -> int:
    """Train a model again and compare every output.

    The commit that records the model is checked out into a temporary git worktree. Text and ids
    come from DVC's cache or remote, or are re-created. Training, evaluation and sampling always
    run.

    Exit code: 0 if all outputs are identical, 1 if not, 2 if the model cannot be reproduced at all.
    """
    commits = {commits[-1]: match.run for match in find(name)[1] if (commits := match.commits())}
    if not commits:
        raise CharlstmError(
            f"{name}: no commit has a dvc.lock that records this training's outputs: commit "
            "dvc.lock, or train with `dvc exp run`"
        )
    if len(commits) > 1:
        raise CharlstmError(
            f"{name}: expected the name of one model, found models of several commits: "
            f"{', '.join(commits)}; choose one of these commits"
        )
    ((commit, run),) = commits.items()
    tags = run.tags if run else {}

    with _worktree(commit) as folder:
        recorded = _outputs(folder)
        # Use the recorded number of threads, because the last bits of sums depend on this number.
        threads = tags.get("hardware.threads")
        _repeat(folder, {"OMP_NUM_THREADS": threads} if threads else {})
        now = _outputs(folder)

    num_different = 0
    for path, md5 in recorded.items():
        if now.get(path) != md5:
            num_different += 1
            typer.echo(f"different  {path}  {md5}, now {now.get(path)}")
    if not num_different:
        typer.echo(f"identical: all {len(recorded)} outputs of {commit}")
        return 0
    processor = tags.get("hardware.processor", "an unknown processor")
    typer.echo(
        f"different: {num_different} of {len(recorded)}; the model was trained on {processor}"
    )
    return 1


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    """Yield the project's folder in a temporary git worktree at `commit`."""
    with tempfile.TemporaryDirectory(prefix="charlstm-reproduce-") as parent:
        root = str(Path(parent) / "project")
        try:
            done = subprocess.run([*ADD, root, commit], capture_output=True, text=True)
            if done.returncode:
                reason = " ".join(done.stderr.split())
                raise CharlstmError(f"git could not create a worktree of commit {commit}: {reason}")
            yield Path(root, git("rev-parse", "--show-prefix") or "")
        finally:
            git("worktree", "remove", "--force", root)


def _outputs(folder: Path) -> dict[str, str]:
    return parse_lock((folder / LOCK).read_text(encoding="utf-8")).files("outs")


def _repeat(folder: Path, environment: dict[str, str]) -> None:
    """Get the data from DVC's cache, its remote or the source. Then train, evaluate and sample.

    DVC's cache stays unchanged.
    """
    if (local := Path(".dvc/config.local")).is_file():
        shutil.copy(local, folder / local)
    initial = str(load_paths(folder / PIPELINE).initial)
    data = ["download", "split", "encode", *([] if initial == NOTHING else [f"{initial}.dvc"])]
    _dvc(folder, "cache", "dir", "--local", str(cache_folder(Path.cwd()).resolve()))

    ways = (
        ["checkout", "--quiet", *data],
        ["pull", "--quiet", *data],
        ["repro", "--no-commit", "encode"],
    )
    again = ["repro", "--force", "--no-commit", "--downstream", "train"]
    if all(_dvc(folder, *way) for way in ways) or _dvc(folder, *again, **environment):
        raise CharlstmError("the model cannot be reproduced: DVC failed, see its error above")


def _dvc(folder: Path, *arguments: str, **environment: str) -> int:
    """Run DVC and return its exit code.

    Hide MLflow, so that this training is not tracked.
    """
    hidden = ("MLFLOW_", "DVC_ROOT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    env = {**kept, "DVC_NO_ANALYTICS": "true", **environment}
    # DVC prints to standard error, because standard output is reserved for the comparison.
    return run_dvc(*arguments, environment=env, folder=folder, stdout=sys.__stderr__)
