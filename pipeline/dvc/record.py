"""What DVC has recorded, read from DVC's own files.

`dvc.lock` has the newest record of this working tree. The cache on this machine has files by their MD5, and a list of
files for each folder.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from charlstm.files.atomic import sha256
from charlstm.files.checksums import SUMS
from charlstm.files.documents import load_yaml

LOCK, PARAMS = Path("dvc.lock"), Path("params.yaml")
FOLDER = ".dir"  # the end of a folder's hash
MAX_SUMS_BYTES = 1_000_000
SECONDS_TO_ANSWER = 60


def recorded_outputs(stage: str) -> dict[Path, str]:
    """Output -> MD5, as `dvc.lock` has them; empty if there is no record."""
    return _recorded(stage, "outs")


def recorded_inputs(stage: str) -> dict[Path, str]:
    """The same of what the stage has read."""
    return _recorded(stage, "deps")


def _recorded(stage: str, kind: str) -> dict[Path, str]:
    if not LOCK.exists():
        return {}
    try:
        return {Path(entry["path"]): str(entry["md5"]) for entry in load_yaml(LOCK)["stages"][stage][kind]}
    except (KeyError, TypeError):
        return {}


def is_of_these_parameters(*stages: str, but: str = "") -> bool:
    """Whether `dvc.lock` has these parameters for `stages`, whatever it has for `but`.

    Without a `dvc.lock`, nobody knows better.
    """
    if not LOCK.exists():
        return True
    now = load_yaml(PARAMS)
    try:
        recorded = load_yaml(LOCK)["stages"]
        return all(
            _without(recorded[stage]["params"][str(PARAMS)][stage], but) == _without(now.get(stage), but)
            for stage in stages
        )
    except (KeyError, TypeError):
        return False


def _without(section: Any, name: str) -> Any:  # noqa: ANN401  # whatever YAML has
    return {key: value for key, value in section.items() if key != name} if isinstance(section, dict) else section


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


def folders_with(md5: str) -> list[str]:
    """The hashes of all folders that have a file with that hash."""
    lists = _files(Path.cwd()).glob(f"??/*{FOLDER}")
    return [f"{file.parent.name}{file.name}" for file in lists if md5 in _listed(file).values()]


def with_files(outputs: Mapping[str, str]) -> dict[str, str]:
    """`outputs` of a `dvc.lock`, path -> MD5, and all files of its folders."""
    folders = {path: md5 for path, md5 in outputs.items() if md5.endswith(FOLDER)}
    files = {f"{path}/{name}": md5 for path, folder in folders.items() for name, md5 in files_of(folder).items()}
    return {**outputs, **files}


def known_sums(files: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of `files` (path -> MD5), by path: of those that lie here, or that a checksum file here names."""
    here = {path: file for path, md5 in files.items() if not md5.endswith(FOLDER) and (file := cached(md5))}
    sums = {path: sha256(file) for path, file in here.items()}
    for path, file in here.items():
        if (PurePath(path).name == SUMS or path.endswith(".sha256")) and file.stat().st_size <= MAX_SUMS_BYTES:
            for line in file.read_text(errors="replace").splitlines():
                digest, _, name = line.partition("  ")
                sums[os.path.normpath(PurePath(path).parent / name)] = digest
    return sums


def _listed(file: Path) -> dict[str, str]:
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@cache
def _files(project: Path) -> Path:
    """DVC is asked once for each folder that it is asked from."""
    return project / cache_folder() / "files/md5"
