"""Questions to git."""

import subprocess
from pathlib import Path

SECONDS = 10


def git(*arguments: str, cwd: str | None = None) -> str | None:
    """What git prints here; None if it fails, as outside a repository or without git."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", timeout=SECONDS, cwd=cwd
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def content_at_head(path: Path) -> bytes | None:
    """The bytes that the last commit has of a file; None if it has none."""
    command = ["git", "cat-file", "blob", f"HEAD:./{path.as_posix()}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
