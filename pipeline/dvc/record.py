"""What DVC has recorded: `dvc.lock`, and the files in its cache by their MD5."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from charlstm.errors import CharlstmError
from charlstm.files.atomic import SUMS
from charlstm.files.documents import parse_yaml
from pipeline.dvc.paths import Paths
from pipeline.stage.project import LOCK

FOLDER = ".dir"  # the end of a folder's hash


class Lock(NamedTuple):
    """A `dvc.lock`. Without a stage's name, all stages are meant."""

    stages: Mapping[str, Any]

    def files(self, kind: str, stage: str | None = None) -> dict[str, str]:
        """The outputs ("outs") or inputs ("deps"), path -> MD5. It is empty where DVC has none, as of a URL."""
        return {str(one["path"]): str(one.get("md5", "")) for each in self._of(stage) for one in each.get(kind, [])}

    def params(self, stage: str | None = None) -> dict[str, Any]:
        """The parameters, by the names that `dvc.yaml` has for them: sections, or single ones."""
        sections = [section for each in self._of(stage) for section in (each.get("params") or {}).values()]
        return {name: value for section in sections for name, value in section.items()}

    def train_md5(self, paths: Paths) -> str | None:
        """DVC's name for the training: that of the file which names its outputs by their hashes. None without one."""
        return self.files("outs").get(str(paths.train / SUMS))

    def _of(self, stage: str | None) -> Collection[Any]:
        return self.stages.values() if stage is None else [self.stages.get(stage, {})]


@cache
def parse_lock(text: str) -> Lock | None:
    """A `dvc.lock` from its text; None if it is none, or damaged."""
    try:
        lock = Lock(parse_yaml(text)["stages"])
        lock.files("outs"), lock.files("deps"), lock.params()  # all that can be asked of it has the shape of a record
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return lock


def read_lock() -> Lock | None:
    """The `dvc.lock` of this working tree; None if there is none, a CharlstmError if it is damaged."""
    if not LOCK.exists():
        return None
    if (lock := parse_lock(LOCK.read_text(errors="replace"))) is None:
        raise CharlstmError(f"{LOCK}: damaged, maybe by a merge: `git checkout HEAD {LOCK}` brings the last one back")
    return lock


def recorded_outputs(stage: str) -> dict[Path, str]:
    """Output -> MD5, as `dvc.lock` has them; empty if there is no record."""
    lock = read_lock()
    return {Path(path): md5 for path, md5 in lock.files("outs", stage).items()} if lock else {}


def md5(path: Path) -> str:
    """DVC's name for a file; and for a folder, by its list of files (`dvc_data.hashfile.tree.Tree.as_bytes`)."""
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): md5(file) for file in files_below(path)}
        entries = [{"md5": digest, "relpath": name} for name, digest in sorted(files.items())]
        return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + FOLDER
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """The files that DVC sees in a folder: not bytecode, nor what we write under a temporary name."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith(".") and "__pycache__" not in file.parts:
            yield file


def cache_folder() -> Path:
    """DVC's own answer, since a team's cache may lie anywhere; it takes a second."""
    done = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True)
    return Path(done.stdout.strip() or ".dvc/cache")


@cache
def _files(project: Path) -> Path:
    """DVC is asked once for each folder that it is asked from."""
    return project / cache_folder() / "files/md5"


def cached(md5: str) -> Path | None:
    """The file with that hash; None if it is not on this machine."""
    file = _files(Path.cwd()) / md5[:2] / md5[2:]
    return file if len(md5) > 2 and file.is_file() else None


def files_of(folder_md5: str) -> dict[str, str]:
    """The files of a folder, path below it -> MD5; empty if its list is not here."""
    file = cached(folder_md5)
    return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())} if file else {}
