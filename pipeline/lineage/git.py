"""Questions to git: the answers of its commands, and why there are none."""

import subprocess
from pathlib import Path

from charlstm.errors import CharlstmError

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
    return done.stderr.decode(errors="replace").strip().partition("\n")[0] or None if done else "it does not run"


def check_git() -> None:
    """Raise a CharlstmError if git does not work in this repository, so that "nothing" is no answer of its own."""
    if reason := fault():
        raise CharlstmError(f"git does not work here: {reason}")


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    command = ["git", "-c", "log.showSignature=false", *arguments]  # a signature would stand before what is asked for
    try:
        return subprocess.run(command, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
