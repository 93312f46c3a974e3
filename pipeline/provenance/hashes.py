"""What DVC calls files and folders: their MD5."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from charlstm.files.atomic import open_regular
from charlstm.files.checksums import sums_of


def md5(path: Path) -> str:
    """The MD5 of a file: DVC's hash, no safeguard."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def folder_md5(folder: Path) -> str:
    """DVC's name for a folder: the MD5 of the JSON list of its files (`dvc_data.hashfile.tree.Tree.as_bytes`)."""
    files = {file.relative_to(folder).as_posix(): md5(file) for file in files_of(folder)}
    entries = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
    listed = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listed, usedforsecurity=False).hexdigest() + ".dir"


def dvc_md5(path: Path) -> str:
    """DVC's name for a file or a folder."""
    return folder_md5(path) if path.is_dir() else md5(path)


def files_of(path: Path) -> Iterator[Path]:
    """The files of a folder, but those that DVC ignores; or a file and its checksums."""
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        yield from (file for file in files if not file.name.startswith(".") and file.suffix != ".pyc")  # as DVC does
    else:
        yield from (file for file in (path, sums_of(path)) if file.is_file())
