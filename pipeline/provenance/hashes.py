"""Hashes of files, remembered where a file is so large that reading it takes seconds.

A text of 10 GB is read by each stage and each process that starts, only to compare it with its checksum. So the hash of
a file of MIN_BYTES or more is kept in `.charlstm/hashes.json` with the file's path, inode, size and both of its times.
While all of them are the same, the file is not read again. Smaller files always are.

Whoever changes a file changes `ctime_ns`, which no program can set: also one that puts the old `mtime` back. A damaged
disk does not, and is noticed only by reading: without `hashes.json`, all files are read again.

Several processes may hash at once. Each writes the whole memory, and the last one's stays: a lost entry costs time, not
truth.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charlstm.files.atomic import open_regular, write_text
from charlstm.files.checksums import sums_of
from charlstm.files.documents import read_json
from pipeline.dvc.paths import NOTHING, Paths
from pipeline.stage.tracking_store import STATE_FOLDER, project_root

MIN_BYTES = 256 * 2**20
MAX_FILES = 1_000
DIGESTS = {"sha256": re.compile("[0-9a-f]{64}"), "md5": re.compile("[0-9a-f]{32}")}


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    return _digest(path, "sha256")


def md5(path: Path) -> str:
    """The MD5 of a file: DVC's hash, no safeguard."""
    return _digest(path, "md5")


def remember(path: Path, **digests: str) -> None:
    """Note what a file was found to have, e.g. by who wrote it: `remember(path, sha256="...")`."""
    _remember(path, _identity(path), digests)


def memory() -> Path:
    """The file that remembers, in the main working tree: git and DVC do not see it."""
    return project_root() / STATE_FOLDER / "hashes.json"


def _digest(path: Path, algorithm: str) -> str:
    identity = _identity(path)
    if identity["size"] >= MIN_BYTES and (known := _known(path, identity).get(algorithm)):
        return known
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    _remember(path, identity, {algorithm: digest})
    return digest


def _remember(path: Path, identity: dict[str, int], digests: dict[str, str]) -> None:
    if identity["size"] < MIN_BYTES or _identity(path) != identity:  # it was changed while it was read
        return
    entries = {name: entry for name, entry in _read().items() if Path(name).exists()}
    known = _known(path, identity)
    entries.pop(str(path.resolve()), None)  # so that it is the newest
    entries[str(path.resolve())] = {**identity, **known, **digests}
    with contextlib.suppress(OSError):  # a full disk, another process that writes: it is hashed again
        write_text(memory(), json.dumps(dict(list(entries.items())[-MAX_FILES:]), indent=1) + "\n")


def _known(path: Path, identity: dict[str, int]) -> dict[str, str]:
    """The digests of this very file."""
    entry = _read().get(str(path.resolve()))
    if not isinstance(entry, dict) or any(entry.get(name) != value for name, value in identity.items()):
        return {}
    return {name: entry[name] for name, form in DIGESTS.items() if form.fullmatch(str(entry.get(name)))}


def _identity(path: Path) -> dict[str, int]:
    """What changes with the file."""
    stat = path.stat()
    return {"inode": stat.st_ino, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}


def _read() -> dict[str, Any]:
    """The memory; what cannot be read counts as none."""
    try:
        return dict(read_json(memory()))
    except (OSError, ValueError, TypeError):
        return {}


# The chain from the corpus to the samples: which files belong to it, and what SHA-256 and DVC call them.

LINKS = ("corpus", "split", "encoded", "soft_targets", "model", "losses", "samples")
OPTIONAL = "soft_targets"  # what teachers wrote: only students have it
# What a stage's record vouches for: its inputs and its outputs, not what lies around from another training.
SEEN_BY = {
    "train": ("corpus", "split", "encoded", "soft_targets", "model", "train"),
    "evaluate": ("corpus", "encoded", "model", "train", "evaluate"),
    "sample": ("corpus", "model", "train", "samples"),
}
FILE_BY_FILE = ("train", "evaluate")  # DVC knows these folders by their files, the others as a whole


def sha256_of(paths: Paths, stage: str) -> dict[str, str]:
    """The SHA-256 of each file that `stage` vouches for and that exists, by path."""
    return {str(file): sha256(file) for name in _seen_by(stage, paths) for file in files_of(getattr(paths, name))}


def md5_of(paths: Paths, stage: str) -> dict[str, str]:
    """What DVC calls the same files: an MD5 for each, and one (`... .dir`) for each folder that is an output."""
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
    """The same of bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder_md5(folder: Path) -> str:
    """DVC's name for a folder: the MD5 of the JSON list of its files (`dvc_data.hashfile.tree.Tree.as_bytes`)."""
    files = {file.relative_to(folder).as_posix(): md5(file) for file in files_of(folder)}
    entries = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
    return md5_of_bytes(json.dumps(entries, sort_keys=True).encode()) + ".dir"


def _seen_by(stage: str, paths: Paths) -> Iterator[str]:
    return (name for name in SEEN_BY[stage] if name != OPTIONAL or str(paths.soft_targets) != NOTHING)


def files_of(path: Path) -> Iterator[Path]:
    """The files of a folder, but those that DVC ignores; or a file and its checksums."""
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        yield from (file for file in files if not file.name.startswith(".") and file.suffix != ".pyc")  # as DVC does
    else:
        yield from (file for file in (path, sums_of(path)) if file.is_file())
