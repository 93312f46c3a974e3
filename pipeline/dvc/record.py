"""What DVC has recorded of the train stage, read from DVC's own files.

`dvc.lock` has the newest record of this working tree and commit. The run cache (`runs` in DVC's cache) has every record
that was ever made, of all commits, experiments and working copies that share the cache. Both have the same form: the
parameters, and an MD5 for each dependency and output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from charlstm.errors import CharlstmError
from charlstm.files.atomic import sha256
from charlstm.files.checksums import SUMS
from charlstm.files.documents import load_yaml
from pipeline.provenance import hashes

STAGE = "train"
SECONDS_TO_ANSWER = 60


class Outcome(NamedTuple):
    """A training as its record would have it: `output_md5` is that of a file that names all outputs by their hashes."""

    output_md5: str
    params: dict[str, Any]  # as in params.yaml, by the names that dvc.yaml gives them
    files: dict[str, str]  # dependency that is a file -> MD5

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """What `to_json` gave, read back.

        Raises:
            ValueError, KeyError, TypeError: something else.
        """
        found = json.loads(text)
        return cls(*(found[name] for name in cls._fields))


def outcome(output: Path, dependencies: list[Path]) -> Outcome:
    """Of the training that just wrote `output`, from the parameters and files of the current folder."""
    params = load_yaml(Path("params.yaml"))
    read = {name: params[name] for name in ("model", "train")}
    read["split.document_separator"] = params["split"]["document_separator"]
    read["teachers.parts"] = params["teachers"]["parts"]
    files = {str(path): hashes.md5(path) for path in dependencies if path.is_file()}
    return Outcome(hashes.md5(output), read, files)


def is_recorded(made: Outcome) -> bool:
    """Whether `dvc.lock` or the run cache has a record of it: these outputs, made of these parameters and files."""
    return any(_is_of(record, made) for record in records(made.output_md5))


def records(words: str) -> Iterator[Any]:
    """Records of the train stage that contain `words`, e.g. an MD5; documents as they are."""
    if (lock := Path("dvc.lock")).exists() and words in lock.read_text(errors="replace"):
        document = _load(lock)
        yield document.get("stages", {}).get(STAGE) if isinstance(document, dict) else None
    for file in (cache_folder() / "runs").glob("*/*/*"):
        if words in file.read_text(errors="replace"):
            yield _load(file)


def _load(path: Path) -> Any:  # noqa: ANN401  # a YAML document can be anything; `_is_of` looks
    try:
        return load_yaml(path)
    except CharlstmError:
        return None


def _is_of(record: Any, made: Outcome) -> bool:  # noqa: ANN401  # a YAML document
    try:
        files = {dep["path"]: dep["md5"] for dep in record["deps"]}
        return (
            made.output_md5 in [out["md5"] for out in record["outs"]]
            and record["params"]["params.yaml"] == made.params
            and all(files.get(path) == md5 for path, md5 in made.files.items())
        )
    except (KeyError, TypeError):
        return False


def cache_folder() -> Path:
    """DVC's own answer, since a team's cache may lie anywhere; it takes a second."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return Path(".dvc/cache")
    return Path(done.stdout.strip() or ".dvc/cache")


# What lies in DVC's cache on this machine: files by their MD5, and lists of the files of folders.

FOLDER = ".dir"  # the end of a folder's hash
MAX_SUMS_BYTES = 1_000_000


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
    found = dict(outputs)
    for path, md5 in outputs.items():
        if md5.endswith(FOLDER):
            found |= {f"{path}/{name}": digest for name, digest in files_of(md5).items()}
    return found


def known_sums(files: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of `files` (path -> MD5), by path: of those that lie here, or that a checksum file here names."""
    found = {path: sha256(file) for path, md5 in files.items() if md5[-4:] != FOLDER and (file := cached(md5))}
    for path, md5 in files.items():
        if PurePath(path).name == SUMS or path.endswith(".sha256"):
            for name, digest in _sums(cached(md5)):
                found[os.path.normpath(PurePath(path).parent / name)] = digest
    return found


def _sums(file: Path | None) -> Iterator[tuple[str, str]]:
    if file is not None and file.stat().st_size <= MAX_SUMS_BYTES:
        for line in file.read_text(errors="replace").splitlines():
            digest, _, name = line.partition("  ")
            yield name, digest


def _listed(file: Path) -> dict[str, str]:
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@cache
def _files(project: Path) -> Path:
    """DVC is asked once for each folder that it is asked from."""
    return project / cache_folder() / "files/md5"
