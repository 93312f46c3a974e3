"""Questions to git: the answers of its commands, and why there are none."""

import subprocess
from pathlib import Path

from charlstm.errors import CharlstmError

SECONDS = 60  # a large history on a slow disk takes its time
GIT = ("git", "-c", "log.showSignature=false")  # a signature would stand before what is asked for


def git(*arguments: str) -> str | None:
    """The output of a git command here; None if it fails, as outside a repository or without git."""
    printed = _printed(*arguments)
    return None if printed is None else printed.decode(errors="replace").strip()


def content_at(path: Path, commit: str = "HEAD") -> bytes | None:
    """The bytes that a commit has of a file; None if it has none."""
    return _printed("cat-file", "blob", f"{commit}:./{path.as_posix()}")


def _printed(*arguments: str) -> bytes | None:
    try:
        done = subprocess.run([*GIT, *arguments], capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def fault() -> str | None:
    """Why git does not work here, where there is a repository, e.g. because it is another user's; None if it does."""
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        return None
    try:
        done = subprocess.run([*GIT, "rev-parse", "--git-dir"], capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return done.stderr.decode(errors="replace").strip().partition("\n")[0] or None if done.returncode else None


def check_git() -> None:
    """Check that an answer of "nothing" is git's own.

    Raises:
        CharlstmError: git does not work in this repository.
    """
    if reason := fault():
        raise CharlstmError(f"git does not work here: {reason}")
