"""DVC: what `dvc.yaml` declares, what `dvc.lock` and the cache record, and DVC's own commands.

Only `dvc.yaml` has the paths of stages' files. `params.yaml` has the name of the corpus, and the
model that training starts from.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import psutil
from pathspec import GitIgnoreSpec
from pydantic import BaseModel, ConfigDict

from charlstm.errors import CharlstmError, ParamsError
from charlstm.files.documents import load_yaml, parse_yaml, validate
from charlstm.parameter_names import flatten
from pipeline.run.interruption import sigterm_requester
from pipeline.run.project import LOCK, PARAMS, PIPELINE, declared_paths

# Commands that need no parameters start faster without this import.
if TYPE_CHECKING:
    from charlstm.params import Params

IGNORED = Path(".dvcignore")
CODE = ("charlstm", "pipeline")
DVC = (sys.executable, "-m", "dvc")
FOLDER = ".dir"  # DVC appends this to a folder's hash


class Paths(BaseModel):
    """Paths of the stages' files and folders, relative to the project's root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checked: Path
    corpus: Path
    split: Path
    encoded: Path
    model: Path
    train: Path
    evaluate: Path
    samples: Path
    initial: Path  # the model that training starts from


def load_paths(path: Path = PIPELINE) -> Paths:
    """Return the paths in a `dvc.yaml` and in the `params.yaml` next to it.

    Raises:
        ParamsError: a path is missing.
    """
    declared = declared_paths(path)
    params = load_yaml(path.with_name(PARAMS.name))
    try:
        declared["corpus"] = f"{declared.pop('corpora')}/{params['download']['name']}.txt"
        declared["initial"] = params["train"]["initial"]
    except (KeyError, TypeError):
        raise ParamsError(
            f"{PARAMS} must have download.name and train.initial, and {path} must have "
            "paths.corpora: add the missing entry"
        ) from None
    return validate(Paths, declared, path)


def inputs_of(stage: str, params: "Params") -> dict[str, object]:
    """Return a stage's declared inputs: MD5 hashes of files and folders, and parameter values.

    The hash of a missing file is None.
    """
    # `result` is not a DVC stage, so `dvc.yaml` declares no inputs for it.
    declared = load_yaml(PIPELINE)["stages"].get(stage, {"deps": []})
    document = {**params.model_dump(mode="json"), "paths": declared_paths()}

    def value(name: str) -> Any:  # noqa: ANN401  # a value of YAML
        return reduce(getitem, name.split("."), document)

    deps = [
        re.sub(r"\$\{([\w.]+)\}", lambda match: str(value(match[1])), dep)
        for dep in declared["deps"]
    ]
    values = flatten({name: value(name) for name in declared.get("params", [])})
    return {dep: md5(Path(dep)) if Path(dep).exists() else None for dep in deps} | values


class Lock(NamedTuple):
    """The records of a `dvc.lock`, which are empty if the file is missing.

    Methods called without a stage return all stages' records.
    """

    stages: Mapping[str, Any]

    def files(self, kind: str, stage: str | None = None) -> dict[str, str]:
        """Return recorded outputs (`kind` "outs") or inputs ("deps") as a mapping from path to MD5.

        The MD5 is empty if DVC records none, for example for a URL.
        """
        return {
            str(file["path"]): str(file.get("md5", ""))
            for record in self._records(stage)
            for file in record.get(kind, [])
        }

    def output(self, path: Path) -> str:
        """Return the recorded MD5 of an output, or an empty string if there is no record."""
        return self.files("outs").get(str(path), "")

    def params(self, stage: str | None = None) -> dict[str, Any]:
        """Return recorded parameters, keyed by the section or parameter names in `dvc.yaml`."""
        return {
            name: value
            for record in self._records(stage)
            for section in (record.get("params") or {}).values()
            for name, value in section.items()
        }

    def _records(self, stage: str | None) -> Collection[Any]:
        return self.stages.values() if stage is None else [self.stages.get(stage, {})]


@cache
def parse_lock(text: str) -> Lock:
    """Parse the text of a `dvc.lock`. The result is empty if the text is damaged."""
    try:
        lock = Lock(parse_yaml(text)["stages"])
        # Read all records once, so that a malformed record is found here.
        lock.files("outs")
        lock.files("deps")
        lock.params()
    except (ValueError, KeyError, TypeError, AttributeError):
        return Lock({})
    return lock


def read_lock() -> Lock:
    """Return the content of this working tree's `dvc.lock`.

    Raises:
        CharlstmError: the file is damaged.
    """
    if not LOCK.exists():
        return Lock({})
    lock = parse_lock(LOCK.read_text(errors="replace"))
    if not lock.stages:
        raise CharlstmError(
            f"{LOCK} is damaged, maybe by a merge: restore the last committed version with "
            f"`git checkout HEAD {LOCK}`"
        )
    return lock


def md5(path: Path) -> str:
    """Return DVC's hash of a file or a folder.

    A folder's hash is that of its list of files (`dvc_data.hashfile.tree.Tree.as_bytes`).
    """
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): md5(file) for file in files_below(path)}
        entries = [{"md5": digest, "relpath": name} for name, digest in sorted(files.items())]
        return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + FOLDER
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Yield a folder's files, except those that DVC ignores."""
    patterns = IGNORED.read_text().splitlines() if IGNORED.is_file() else []
    ignored = GitIgnoreSpec.from_lines(patterns)
    for file in folder.rglob("*"):
        if file.is_file() and not ignored.match_file(file):
            yield file


def changed_code(inputs: Iterable[str], started: float) -> list[str]:
    """Return the inputs that are code and changed after `started`, in seconds since 1970."""
    changed = []
    for name in inputs:
        path = Path(name)
        files = files_below(path) if path.is_dir() else path.parent.glob(path.name)
        if path.parts[0] in CODE and any(file.stat().st_ctime > started for file in files):
            changed.append(name)
    return changed


@cache
def cache_folder(project: Path) -> Path:
    """Return the folder of DVC's cache.

    DVC itself is asked, because a team may put its cache anywhere. This takes a second.
    """
    return project / (ask_dvc("cache", "dir").stdout.strip() or ".dvc/cache")


def cached(digest: str) -> Path | None:
    """Return the file in DVC's cache with this MD5 hash, or None if the cache lacks the file."""
    file = cache_folder(Path.cwd()) / "files/md5" / digest[:2] / digest[2:]
    return file if file.is_file() else None


def files_of(folder_md5: str) -> dict[str, str]:
    """Return a cached folder's files as a mapping from relative path to MD5 hash.

    Return an empty dict if DVC's cache does not have the folder.
    """
    if (file := cached(folder_md5)) is None:
        return {}
    return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())}


def ask_dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a DVC command. Return its exit code and its captured output."""
    command = [*DVC, *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )


def run_dvc(
    *arguments: str,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    stdout: IO[str] | None = None,
    stderr: IO[str] | None = None,
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Run a DVC command and call `watch` every second. Return the exit code of DVC.

    Programs next to this interpreter come first in PATH. DVC gets SIGTERM if this process dies.
    """
    search_path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    with subprocess.Popen(
        [*DVC, *arguments],
        env={**environment, "PATH": search_path},
        cwd=folder,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=sigterm_requester(),
    ) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(1)
                watch()
        except KeyboardInterrupt:
            # DVC forwards no signals, so ask its child processes directly to save their state.
            # The signal may have reached these processes and DVC, too, so they may have ended.
            children: list[psutil.Process] = []
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(process.pid).children(recursive=True)
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.terminate()
            process.wait()
            psutil.wait_procs(children)
            raise


def reason_of(failed: subprocess.CompletedProcess[str]) -> str:
    """Return one line that says why a program failed.

    This line is its last error, or else its last line on standard error, or else its exit code.
    """
    lines = (failed.stderr.strip() or f"exit code {failed.returncode}").splitlines()
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
