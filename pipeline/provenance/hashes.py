"""Hashes of the files from the corpus to the samples: which belong to a stage, and what SHA-256 and DVC call them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from charlstm.files.atomic import open_regular, sha256
from charlstm.files.checksums import sums_of
from charlstm.params import NOTHING
from pipeline.dvc.paths import Paths

LINKS = ("corpus", "split", "encoded", "initial", "model", "losses", "samples")
# What a stage's record vouches for: its inputs and its outputs, not what lies around from another training.
SEEN_BY = {
    "train": ("corpus", "split", "encoded", "initial", "model", "train"),
    "evaluate": ("corpus", "encoded", "model", "train", "evaluate"),
    "sample": ("corpus", "model", "train", "samples"),
}
FILE_BY_FILE = ("train", "evaluate")  # DVC knows these folders by their files, the others as a whole


def md5(path: Path) -> str:
    """The MD5 of a file: DVC's hash, no safeguard."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "md5").hexdigest()


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
