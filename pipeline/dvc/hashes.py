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
from pathlib import Path
from typing import Any

from charlstm.files.atomic import open_regular, write_text
from charlstm.files.documents import read_json
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
    found = path.stat()
    return {"inode": found.st_ino, "size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}


def _read() -> dict[str, Any]:
    """The memory; what cannot be read counts as none."""
    try:
        return dict(read_json(memory()))
    except (OSError, ValueError, TypeError):
        return {}
