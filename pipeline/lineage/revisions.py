"""What git knows: commits, branches, tags and DVC experiments, and what `dvc.lock` says in each."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CharlstmError
from pipeline.dvc.record import Lock, parse_lock
from pipeline.provenance.git import check_git, git
from pipeline.stage.project import LOCK

EXPERIMENT_REF = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")


class Revision(NamedTuple):
    """A commit, and what it is called."""

    commit: str
    experiment: str | None  # the DVC experiment that it is
    baseline: str | None  # the commit that the experiment was made from
    names: list[str]  # branches and tags that stand at it
    subject: str


def find_commit(name: str) -> str | None:
    """The commit of a hash, a branch, a tag or a DVC experiment; None if there is none.

    Raises:
        CharlstmError: git does not work here.
    """
    for commit, (experiment, _) in experiments().items():
        if experiment == name:
            return commit
    if found := git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"):
        return found
    check_git()
    return None


def describe(commit: str) -> Revision:
    """A commit of this repository, with its experiment, branches, tags and subject."""
    experiment, baseline = experiments().get(commit, (None, None))
    refs = git("for-each-ref", "--points-at", commit, "--format=%(refname:short)", "refs/heads", "refs/tags") or ""
    subject = git("log", "-1", "--format=%s", commit) or ""
    return Revision(commit, experiment, baseline, refs.split(), subject)


def experiments() -> dict[str, tuple[str, str]]:
    """The commit of each DVC experiment -> its name, and its baseline."""
    found = {}
    for line in (git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps") or "").splitlines():
        commit, _, ref = line.partition(" ")
        if match := EXPERIMENT_REF.fullmatch(ref):
            found[commit] = (match[3], match[1] + match[2])
    return found


def lock_at(commit: str) -> Lock | None:
    """The `dvc.lock` of a commit; None if it has none that can be read."""
    # `./`: below the current folder, also where that is not the repository's root
    return parse_lock(git("show", f"{commit}:./{LOCK}") or "")


def commits_with(md5: str) -> list[str]:
    """The commits, of all branches and experiments, that brought an output with that hash into `dvc.lock`."""
    commits = (git("log", "--all", "--format=%H", f"-S{md5}", "--", str(LOCK)) or "").splitlines()
    # A search for changes also finds the commits that removed it.
    return [commit for commit in commits if (lock := lock_at(commit)) and md5 in lock.files("outs").values()]


# A commit in a temporary folder that is gone afterwards.

GIT = ("git", "-c", "core.hooksPath=/dev/null")  # DVC's hooks would check out the outputs of the commit
WORKTREES = "charlstm-reproduce-"  # what the folder of one begins with


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """The project's folder in a temporary git worktree at `commit`.

    It shares nothing with the user's working tree but the repository, and goes also when the work is interrupted.

    Raises:
        CharlstmError: git cannot make it.
    """
    for entry in (git("worktree", "list", "--porcelain") or "").split("\n"):  # what a killed process left in git's list
        path = Path(entry.removeprefix("worktree "))
        if path.parent.name.startswith(WORKTREES) and not path.exists():
            git("worktree", "remove", "--force", str(path))
    prefix = git("rev-parse", "--show-prefix") or ""
    with tempfile.TemporaryDirectory(prefix=WORKTREES) as parent:
        root = Path(parent) / "project"
        try:
            add = [*GIT, "worktree", "add", "--quiet", "--detach", str(root), commit]
            done = subprocess.run(add, capture_output=True)
            if done.returncode != 0:
                reason = " ".join(done.stderr.decode(errors="replace").split())[:300]
                raise CharlstmError(f"git: expected a worktree of {commit}, got: {reason}")
            yield root / prefix
        finally:
            git("worktree", "remove", "--force", str(root))
