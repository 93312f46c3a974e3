"""What DVC has recorded, read from DVC's own files.

`dvc.lock` has the newest record of this working tree. The cache on this machine has files by their MD5, and a list of
files for each folder.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from charlstm.errors import CharlstmError
from charlstm.files.atomic import open_regular
from charlstm.files.checksums import SUMS
from charlstm.files.documents import load_yaml, parse_yaml, read_json
from pipeline.stage.project import LOCK, PARAMS

if TYPE_CHECKING:  # every stage starts with this module, and pydantic takes a while
    from pipeline.dvc.paths import Paths

FOLDER = ".dir"  # the end of a folder's hash
RWLOCK = Path(".dvc/tmp/rwlock")  # path -> who reads and who writes it, as JSON
SECONDS_TO_ANSWER = 60


class Lock(NamedTuple):
    """A `dvc.lock`: what DVC has recorded of each stage. Without a stage's name, all of them are meant."""

    stages: Mapping[str, Any]

    def files(self, kind: str, stage: str | None = None) -> dict[str, str]:
        """The outputs ("outs") or inputs ("deps"), path -> MD5. It is empty where DVC has none, as of a URL."""
        return {str(one["path"]): str(one.get("md5", "")) for each in self._of(stage) for one in each.get(kind, [])}

    def params(self, stage: str | None = None) -> dict[str, Any]:
        """The parameters, by the names that `dvc.yaml` has for them: sections, or single ones."""
        sections = [section for each in self._of(stage) for section in (each.get("params") or {}).values()]
        return {name: value for section in sections for name, value in section.items()}

    def train_md5(self, paths: "Paths") -> str | None:
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
    """The `dvc.lock` of this working tree; None if there is none.

    Raises:
        CharlstmError: it is damaged.
    """
    if not LOCK.exists():
        return None
    with open_regular(LOCK) as file:
        lock = parse_lock(file.read().decode(errors="replace"))
    if lock is None:
        raise CharlstmError(f"{LOCK}: damaged, maybe by a merge: `git checkout HEAD {LOCK}` brings the last one back")
    return lock


def recorded_outputs(stage: str) -> dict[Path, str]:
    """Output -> MD5, as `dvc.lock` has them; empty if there is no record."""
    return _recorded(stage, "outs")


def recorded_inputs(stage: str) -> dict[Path, str]:
    """The same of what the stage has read."""
    return _recorded(stage, "deps")


def _recorded(stage: str, kind: str) -> dict[Path, str]:
    lock = read_lock()
    return {Path(path): md5 for path, md5 in lock.files(kind, stage).items()} if lock else {}


def is_of_these_parameters(*stages: str, but: str = "") -> bool:
    """Whether `dvc.lock` has these parameters for `stages`, whatever it has for `but`.

    Without a `dvc.lock`, nobody knows better.
    """
    if (lock := read_lock()) is None:
        return True
    now = load_yaml(PARAMS)
    return all(_without(lock.params(stage).get(stage), but) == _without(now.get(stage), but) for stage in stages)


def _without(section: Any, name: str) -> Any:  # noqa: ANN401  # whatever YAML has
    return {key: value for key, value in section.items() if key != name} if isinstance(section, dict) else section


def process_at_work() -> int | None:
    """The number of a living DVC that works in this checkout, by the locks that it has noted; None if there is none."""
    try:
        kinds = [kind for entry in read_json(RWLOCK).values() for kind in entry.values()]
        numbers = {int(lock["pid"]) for kind in kinds for lock in ([kind] if "pid" in kind else kind)}
    except (OSError, ValueError, AttributeError, LookupError, TypeError):  # DVC cuts it to nothing before it writes
        return None
    return next(filter(_is_dvc, sorted(numbers)), None)


def _is_dvc(pid: int) -> bool:
    try:
        return "dvc" in [Path(word).name for word in psutil.Process(pid).cmdline()[:5]]  # `python -m dvc`, `bin/dvc`
    except psutil.Error:
        return False


def cache_folder() -> Path:
    """DVC's own answer, since a team's cache may lie anywhere; it takes a second."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return Path(".dvc/cache")
    return Path(done.stdout.strip() or ".dvc/cache")


def cached(md5: str) -> Path | None:
    """The file with that hash; None if it is not on this machine."""
    file = _files(Path.cwd()) / md5[:2] / md5[2:]
    return file if len(md5) > 2 and file.is_file() else None


def files_of(folder_md5: str) -> dict[str, str]:
    """The files of a folder, path below it -> MD5; empty if its list is not here."""
    file = cached(folder_md5)
    return _listed(file) if file else {}


def _listed(file: Path) -> dict[str, str]:
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@cache
def _files(project: Path) -> Path:
    """DVC is asked once for each folder that it is asked from."""
    return project / cache_folder() / "files/md5"
