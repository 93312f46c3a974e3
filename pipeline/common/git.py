"""Questions to git."""

import subprocess

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
