"""What DVC reads of a folder to see whether it was changed: all of it, hidden files too, but no folder by a link."""

import os
from collections.abc import Iterator
from pathlib import Path

from charlstm.errors import CorpusError

NOT_READ = (".git", ".hg", ".dvc")  # in a checkout


def check_watched(folder: Path) -> Path | None:
    """Check that DVC can read a folder; the first link to a folder in it, behind which DVC does not notice changes.

    Raises:
        CorpusError: it would stop at something, or wait for it.
    """
    link = None
    try:
        for path in _entries(folder):
            if reason := _why_not(path):
                shown = str(path) if str(path).isprintable() else ascii(str(path))
                raise CorpusError(
                    f"{shown}: {reason}: DVC watches the whole folder, and stops there: mend it, or move it elsewhere"
                )
            link = link or (path if path.is_symlink() and path.is_dir() else None)
    except OSError as error:
        raise CorpusError(f"{error.filename}: {error.strerror}: DVC watches it, and stops there") from None
    return link


def _entries(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail) if folder.is_dir() else ():
        folders[:] = sorted(name for name in folders if name not in NOT_READ)
        yield from (Path(parent, name) for name in (*folders, *files))


def _why_not(path: Path) -> str:
    if any("\ud800" <= character <= "\udfff" for character in path.name):
        return "a name that is not UTF-8"
    if not path.exists():
        return f"a link to {path.readlink()}, where nothing is"
    return "" if path.is_file() or path.is_dir() else "neither a file nor a folder"
