"""Hashes of files, remembered where a file is so large that reading it takes seconds.

A text of 10 GB is read by each stage and each process that starts, only to compare it with its checksum. So the hash of
a file of MIN_BYTES or more is kept in `.charlstm/hashes/`, a small file for each, named by the file's path, inode, size
and both of its times. While all of them are the same, the file is not read again. Smaller files always are.

Whoever changes a file changes `ctime_ns`, which no program can set: also one that puts the old `mtime` back. A damaged
disk does not, and is noticed only by reading: without `.charlstm/hashes/`, all files are read again.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from charlstm.files.atomic import open_regular, write_text
from charlstm.files.checksums import sums_of
from charlstm.params import NOTHING
from pipeline.dvc.paths import Paths
from pipeline.stage.tracking_store import STATE_FOLDER, project_root

MIN_BYTES = 256 * 2**20
DIGEST = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    return _digest(path, "sha256")


def md5(path: Path) -> str:
    """The MD5 of a file: DVC's hash, no safeguard."""
    return _digest(path, "md5")


def remember(path: Path, sha256: str) -> None:
    """Note the SHA-256 of a file that was just written."""
    if path.stat().st_size >= MIN_BYTES:
        _write(_entry(path, "sha256"), sha256)


def memory() -> Path:
    """The folder of what is remembered, in the main working tree: git and DVC do not see it."""
    return project_root() / STATE_FOLDER / "hashes"


def _digest(path: Path, algorithm: str) -> str:
    entry = _entry(path, algorithm) if path.stat().st_size >= MIN_BYTES else None
    if entry:
        with contextlib.suppress(OSError, ValueError):
            if DIGEST.fullmatch(known := entry.read_text()):
                return known
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    if entry and _entry(path, algorithm) == entry:  # it was not changed while it was read
        _write(entry, digest)
    return digest


def _entry(path: Path, algorithm: str) -> Path:
    """The file in which the hash of this very file is kept."""
    stat = path.stat()
    identity = [algorithm, str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    return memory() / md5_of_bytes(json.dumps(identity).encode())


def _write(entry: Path, digest: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: it is hashed again
        write_text(entry, digest)


# The chain from the corpus to the samples: which files belong to it, and what SHA-256 and DVC call them.

LINKS = ("corpus", "split", "encoded", "initial", "model", "losses", "samples")
# What a stage's record vouches for: its inputs and its outputs, not what lies around from another training.
SEEN_BY = {
    "train": ("corpus", "split", "encoded", "initial", "model", "train"),
    "evaluate": ("corpus", "encoded", "model", "train", "evaluate"),
    "sample": ("corpus", "model", "train", "samples"),
}
FILE_BY_FILE = ("train", "evaluate")  # DVC knows these folders by their files, the others as a whole


def sha256_of(paths: Paths, stage: str) -> dict[str, str]:
    """The SHA-256 of each file that `stage` vouches for and that exists, by path."""
    return {str(file): sha256(file) for name in _seen_by(stage, paths) for file in files_of(getattr(paths, name))}


def md5_of(paths: Paths, stage: str) -> dict[str, str]:
    """DVC's hashes of what `stage` vouches for: of each file, and one (`... .dir`) of each folder that is an output."""
    found: dict[str, str] = {}
    for name in _seen_by(stage, paths):
        path = getattr(paths, name)
        found |= {str(file): md5(file) for file in files_of(path)}
        if path.is_dir() and name not in FILE_BY_FILE:
            found[str(path)] = folder_md5(path)
    return found


def link_of(path: str, paths: Paths) -> str | None:
    """The link of the chain that a file belongs to; None for none."""
    for name, where in paths:
        is_sums = name == "corpus" and path == str(sums_of(where))
        if is_sums or Path(path).is_relative_to(where):
            return "losses" if name in FILE_BY_FILE else str(name)
    return None


def md5_of_bytes(content: bytes) -> str:
    """The MD5 of bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder_md5(folder: Path) -> str:
    """DVC's name for a folder: the MD5 of the JSON list of its files (`dvc_data.hashfile.tree.Tree.as_bytes`)."""
    files = {file.relative_to(folder).as_posix(): md5(file) for file in files_of(folder)}
    entries = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
    return md5_of_bytes(json.dumps(entries, sort_keys=True).encode()) + ".dir"


def dvc_md5(path: Path) -> str:
    """DVC's name for a file or a folder."""
    return folder_md5(path) if path.is_dir() else md5(path)


def _seen_by(stage: str, paths: Paths) -> Iterator[str]:
    return (name for name in SEEN_BY[stage] if str(getattr(paths, name)) != NOTHING)


def files_of(path: Path) -> Iterator[Path]:
    """The files of a folder, but those that DVC ignores; or a file and its checksums."""
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        yield from (file for file in files if not file.name.startswith(".") and file.suffix != ".pyc")  # as DVC does
    else:
        yield from (file for file in (path, sums_of(path)) if file.is_file())
