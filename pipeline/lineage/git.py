"""What git knows: the answers of its commands, and why there are none; commits, experiments and what they recorded."""

import json
import subprocess
from pathlib import Path

from charlstm.errors import CharlstmError
from pipeline.run.dvc import Lock, Paths, parse_lock
from pipeline.run.project import LOCK

SECONDS = 60  # a large history on a slow disk takes its time


def git(*arguments: str) -> str | None:
    """The output of a git command here; None if it fails, as outside a repository or without git."""
    done = _run(*arguments)
    return done.stdout.decode(errors="replace").strip() if done and done.returncode == 0 else None


def fault() -> str | None:
    """Why git does not work here, where there is a repository, e.g. because it is another user's; None if it does."""
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        return None
    done = _run("rev-parse", "--git-dir")
    return (
        done.stderr.decode(errors="replace").strip().partition("\n")[0] or None
        if done
        else "it does not run"
    )


def check_git() -> None:
    """Raise a CharlstmError if git does not work in this repository, so that "nothing" is no answer of its own."""
    if reason := fault():
        raise CharlstmError(f"git does not work here: {reason}")


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    command = [
        "git",
        "-c",
        "log.showSignature=false",
        *arguments,
    ]  # a signature would stand before what is asked for
    try:
        return subprocess.run(command, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None


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


def experiments() -> dict[str, tuple[str, str]]:
    """The commit of each DVC experiment -> its name, and its baseline."""
    refs = (
        git("for-each-ref", "--format=%(objectname)/%(refname)", "refs/exps") or ""
    ).splitlines()
    parts = [ref.split("/") for ref in refs]  # commit, refs, exps, ab, cdef..., name
    return {part[0]: (part[5], part[3] + part[4]) for part in parts if len(part) == 6}


def lock_at(commit: str) -> Lock | None:
    """The `dvc.lock` of a commit; None if it has none that can be read."""
    # `./`: below the current folder, also where that is not the repository's root
    return parse_lock(git("show", f"{commit}:./{LOCK}") or "")


def commits_with(md5: str) -> list[str]:
    """The commits, of all branches and experiments, that brought an output with that hash into `dvc.lock`."""
    commits = git("log", "--all", "--format=%H", f"-S{md5}", "--", str(LOCK))
    if commits is None:
        check_git()
    found = {commit: lock_at(commit) for commit in (commits or "").splitlines()}
    # A search for changes also finds the commits that removed it.
    return [commit for commit, lock in found.items() if lock and md5 in lock.files("outs").values()]


def losses_at(commit: str, paths: Paths) -> dict[str, float]:
    """The losses evaluated at a commit, by the names of MLflow's metrics; git has the file that evaluate wrote."""
    try:
        metrics = json.loads(git("show", f"{commit}:./{paths.evaluate / 'metrics.json'}") or "{}")
        return {
            f"{protocol}/{name}": float(one)
            for protocol, found in metrics.items()
            for name, one in found.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}
