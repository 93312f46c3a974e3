"""A commit, with what was changed in it, in a temporary folder that is gone afterwards."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlstm.errors import LineageError
from pipeline.common.git import git

GIT = ("git", "-c", "core.hooksPath=/dev/null")  # DVC's hooks would check out the outputs of the commit


@contextmanager
def worktree(commit: str, changes: str | None) -> Iterator[Path]:
    """The project's folder in a temporary git worktree at `commit`, with `changes` (a diff) applied.

    It shares nothing with the user's working tree but the repository, and goes also when the work is interrupted.

    Raises:
        LineageError: git cannot make it, or the changes do not apply.
    """
    git("worktree", "prune")  # what a killed process left in git's list
    prefix = git("rev-parse", "--show-prefix") or ""
    with tempfile.TemporaryDirectory(prefix="charlstm-reproduce-") as parent:
        root = Path(parent) / "project"
        try:
            _check([*GIT, "worktree", "add", "--quiet", "--detach", str(root), commit], f"a worktree of {commit}")
            if changes:
                what = "the recorded changes to apply to their commit"
                _check([*GIT, "-C", str(root), "apply", "--whitespace=nowarn", "-"], what, changes)
            yield root / prefix
        finally:
            git("worktree", "remove", "--force", str(root))


def _check(command: list[str], expected: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text.encode() if text else None, capture_output=True)
    if done.returncode != 0:
        reason = " ".join(done.stderr.decode(errors="replace").split())[:300]
        raise LineageError(f"git: expected {expected}, got: {reason}")
