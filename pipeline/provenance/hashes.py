"""Hashes of the files from the corpus to the samples: which belong to a stage, and what SHA-256 and DVC call them."""

from collections.abc import Iterator
from pathlib import Path

from charlstm.files.atomic import sha256
from charlstm.files.checksums import sums_of
from charlstm.params import NOTHING
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import files_below, md5

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
            found[str(path)] = md5(path)
    return found


def link_of(path: str, paths: Paths) -> str | None:
    """The link of the chain that a file belongs to; None for none."""
    for name, where in paths:
        is_sums = name == "corpus" and path == str(sums_of(where))
        if is_sums or Path(path).is_relative_to(where):
            return "losses" if name in FILE_BY_FILE else str(name)
    return None


def _seen_by(stage: str, paths: Paths) -> Iterator[str]:
    return (name for name in SEEN_BY[stage] if str(getattr(paths, name)) != NOTHING)


def files_of(path: Path) -> Iterator[Path]:
    """The files of a folder; or a file and its checksums."""
    found = sorted(files_below(path)) if path.is_dir() else (path, sums_of(path))
    return (file for file in found if file.is_file())
