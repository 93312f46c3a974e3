"""Git: commits, DVC experiments, and the contents of `dvc.lock` and metrics in them."""

import json
import subprocess
from pathlib import Path

from charlstm.errors import CharlstmError
from pipeline.run.dvc import Lock, Paths, parse_lock
from pipeline.run.project import LOCK

SECONDS = 60  # time limit, enough for a large history on a slow disk


def git(*arguments: str) -> str | None:
    """Return the output of a git command, or None if the command fails or git is missing."""
    done = _run(*arguments)
    return done.stdout.decode(errors="replace").strip() if done and done.returncode == 0 else None


def fault() -> str | None:
    """Return the reason why git fails here, or None if git works or there is no repository.

    For example, git refuses to work in a repository that belongs to another user.
    """
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        return None
    done = _run("rev-parse", "--git-dir")
    if done is None:
        return "it does not run"
    return done.stderr.decode(errors="replace").strip().partition("\n")[0] or None


def check_git() -> None:
    """Raise CharlstmError if git fails here, so that no failure is mistaken for an empty answer."""
    if reason := fault():
        raise CharlstmError(f"git does not work here: {reason}")


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    # A user's git configuration may add a commit's signature before the requested text.
    command = ["git", "-c", "log.showSignature=false", *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None


def find_commit(name: str) -> str | None:
    """Return the commit with this hash, branch, tag or DVC experiment, or None if there is none.

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
    """Return each DVC experiment's name and baseline commit, keyed by the experiment's commit."""
    refs = git("for-each-ref", "--format=%(objectname)/%(refname)", "refs/exps") or ""
    # Each reference is COMMIT/refs/exps/AB/CDEF.../NAME, where ABCDEF... is the baseline.
    parts = [ref.split("/") for ref in refs.splitlines()]
    return {part[0]: (part[5], part[3] + part[4]) for part in parts if len(part) == 6}


def lock_at(commit: str) -> Lock:
    """Return a commit's `dvc.lock`, or an empty lock if the file is missing or unreadable."""
    # `./` means the current folder, which may be below the root of the repository.
    return parse_lock(git("show", f"{commit}:./{LOCK}") or "")


def commits_with(md5: str) -> list[str]:
    """Return the commits, in all branches and experiments, that added an output to `dvc.lock`.

    Args:
        md5: DVC's hash of the output.
    """
    commits = git("log", "--all", "--format=%H", f"-S{md5}", "--", str(LOCK))
    if commits is None:
        check_git()
    # `git log -S` also finds the commits that removed the hash.
    return [
        commit
        for commit in (commits or "").splitlines()
        if md5 in lock_at(commit).files("outs").values()
    ]


def losses_at(commit: str, paths: Paths) -> dict[str, float]:
    """Return the losses (nats per character) in a commit's metrics file, keyed by protocol."""
    try:
        metrics = json.loads(git("show", f"{commit}:./{paths.evaluate / 'metrics.json'}") or "{}")
        return {protocol: float(loss["nats_per_char"]) for protocol, loss in metrics.items()}
    except (ValueError, TypeError, AttributeError, LookupError):
        return {}
