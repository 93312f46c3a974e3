"""Questions to git: answers of commands, and what a working tree has that its commit has not."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from charlstm.files.urls import without_credentials

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


# What a working tree has that its commit has not, as a text that `git apply` takes.
#
# Nothing of the user's is touched: files that git does not know yet are shown through a copy of the index.

CODE = ("charlstm", "pipeline", "conf")  # a new file in there may well be imported
MAX_BYTES = 5_000_000
NOTE = "# charlstm: "  # git ignores what stands before a diff
SECONDS_TO_ADD = 60


def untracked() -> list[str] | None:
    """Files of code that git neither knows nor ignores; None if it fails."""
    printed = _printed("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE)
    return None if printed is None else [name for name in os.fsdecode(printed).split("\0") if name]


def fault() -> str | None:
    """Why git does not work here, where there is a repository, e.g. because it is another user's; None if it does."""
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        return None
    try:
        done = subprocess.run([*GIT, "rev-parse", "--git-dir"], capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return done.stderr.decode(errors="replace").strip().partition("\n")[0] or None if done.returncode else None


def changes(commit: str, results: Sequence[str]) -> str:
    """The difference of the working tree to `commit` without `results`; empty if there is none.

    Lines that begin with `NOTE` say what is not in it: a rest beyond `MAX_BYTES`, passwords of URLs.
    """
    new, are_added = "\0".join(untracked() or []), True
    command = ["git", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "diff", "--binary", "--no-color"]
    command += ["-U3", "--no-ext-diff", "--no-textconv", commit, "--", ".", *(f":(exclude){path}" for path in results)]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(git("rev-parse", "--git-path", "index") or "")
        environment = {**os.environ, "GIT_INDEX_FILE": str(Path(folder) / "index")}
        if index.is_file():
            shutil.copy(index, environment["GIT_INDEX_FILE"])
        if new:
            add = ["git", "add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul"]
            names = os.fsencode(new)  # they need not be UTF-8
            added = subprocess.run(add, input=names, env=environment, capture_output=True, timeout=SECONDS_TO_ADD)
            are_added = added.returncode == 0
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            content = process.stdout.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                process.kill()
    diff = content[:MAX_BYTES].decode("utf-8", errors="replace")
    shown = without_credentials(diff)
    notes = [f"cut after {MAX_BYTES:,} bytes, so it cannot be applied"] if len(content) > MAX_BYTES else []
    notes += ["passwords were left out, so it may not apply"] if shown != diff else []
    notes += ["it has bytes that are not UTF-8, so it cannot be applied"] if not _is_utf8(content[:MAX_BYTES]) else []
    notes += ["new files are missing, which git did not take"] if not are_added else []
    return "".join(f"{NOTE}{note}\n" for note in notes) + shown


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_whole(diff: str) -> bool:
    """Whether all of the difference is in it."""
    return NOTE not in diff.partition("diff --git")[0]
