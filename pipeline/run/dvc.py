"""What `dvc.yaml` declares, what `dvc.lock` and DVC's cache have, and DVC's own commands.

Where the files of stages are is in `dvc.yaml` alone. `params.yaml` names the corpus, and the model to begin from.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import psutil
from pydantic import BaseModel, ConfigDict

from charlstm.errors import CharlstmError, ParamsError
from charlstm.files.checksums import SUMS
from charlstm.files.documents import load_yaml, parse_yaml, validate
from charlstm.parameter_names import flatten
from pipeline.run.interruption import sigterm_requester
from pipeline.run.project import LOCK, PARAMS, PIPELINE, declared_paths

if TYPE_CHECKING:  # commands that need no parameters start without their schema
    from charlstm.params import Params

DVC = (sys.executable, "-m", "dvc")
FOLDER = ".dir"  # the end of a folder's hash
EXTENSION = ".txt"


class Paths(BaseModel):
    """Files and folders, relative to the project's root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checked: Path
    corpus: Path
    split: Path
    encoded: Path
    model: Path
    train: Path
    evaluate: Path
    samples: Path
    initial: Path  # the model that training begins from


def load_paths(path: Path = PIPELINE) -> Paths:
    """The paths of a `dvc.yaml` and of the `params.yaml` next to it; a ParamsError if they do not name them."""
    declared, document = declared_paths(path), load_yaml(path.with_name(PARAMS.name))
    try:
        declared["corpus"] = f"{declared.pop('corpora')}/{document['download']['name']}{EXTENSION}"
        declared["initial"] = document["train"]["initial"]
    except (KeyError, TypeError):
        raise ParamsError(
            f"{PARAMS}: download.name or train.initial is missing, or paths.corpora in {path}"
        ) from None
    return validate(Paths, declared, path)


def corpus_name() -> str:
    """The corpus's name by the `params.yaml` here; empty if it does not say."""
    try:
        return load_paths().corpus.name.removesuffix(EXTENSION)
    except ParamsError:
        return ""


def inputs_of(stage: str, params: "Params") -> dict[str, object]:
    """Return what `dvc.yaml` declares for a stage: the MD5 of each file and folder, the value of each parameter.

    The MD5 of a missing file is None.
    """
    declared = load_yaml(PIPELINE)["stages"].get(
        stage, {"deps": [], "params": []}
    )  # `report` is no stage of DVC
    document = {**params.model_dump(mode="json"), "paths": declared_paths()}

    def value(name: str) -> Any:  # noqa: ANN401  # whatever YAML has
        return reduce(getitem, name.split("."), document)

    deps = [
        re.sub(r"\$\{([\w.]+)\}", lambda match: str(value(match[1])), dep)
        for dep in declared["deps"]
    ]
    values = flatten({name: value(name) for name in declared["params"]})
    return {dep: md5(Path(dep)) if Path(dep).exists() else None for dep in deps} | values


class Lock(NamedTuple):
    """A `dvc.lock`. Without a stage's name, all stages are meant."""

    stages: Mapping[str, Any]

    def files(self, kind: str, stage: str | None = None) -> dict[str, str]:
        """The outputs ("outs") or inputs ("deps"), path -> MD5. It is empty where DVC has none, as of a URL."""
        return {
            str(one["path"]): str(one.get("md5", ""))
            for each in self._of(stage)
            for one in each.get(kind, [])
        }

    def params(self, stage: str | None = None) -> dict[str, Any]:
        """The parameters, by the names that `dvc.yaml` has for them: sections, or single ones."""
        sections = [
            section for each in self._of(stage) for section in (each.get("params") or {}).values()
        ]
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
        (
            lock.files("outs"),
            lock.files("deps"),
            lock.params(),
        )  # all that can be asked of it has the shape of a record
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return lock


def read_lock() -> Lock | None:
    """The `dvc.lock` of this working tree; None if there is none, a CharlstmError if it is damaged."""
    if not LOCK.exists():
        return None
    if (lock := parse_lock(LOCK.read_text(errors="replace"))) is None:
        raise CharlstmError(
            f"{LOCK}: damaged, maybe by a merge: `git checkout HEAD {LOCK}` brings the last one back"
        )
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


@cache
def cache_folder(project: Path) -> Path:
    """DVC's own answer, since a team's cache may lie anywhere; it takes a second."""
    return project / (ask_dvc("cache", "dir").stdout.strip() or ".dvc/cache")


def cached(digest: str) -> Path | None:
    """The file with that hash; None if it is not on this machine."""
    file = cache_folder(Path.cwd()) / "files/md5" / digest[:2] / digest[2:]
    return file if len(digest) > 2 and file.is_file() else None


def files_of(folder_md5: str) -> dict[str, str]:
    """The files of a folder, path below it -> MD5; empty if its list is not here."""
    file = cached(folder_md5)
    return (
        {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())} if file else {}
    )


def ask_dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command of DVC's answers."""
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
    """Run a command of DVC's, with the programs next to this interpreter before others. Return its exit code.

    DVC is told when this process dies. `watch` is called each second.
    """
    env = {
        **environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}",
    }
    command = [*DVC, *arguments]
    with subprocess.Popen(
        command, env=env, cwd=folder, stdout=stdout, stderr=stderr, preexec_fn=sigterm_requester()
    ) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(1)
                watch()
        except KeyboardInterrupt:  # DVC forwards no signal; a training saves what it has
            children = psutil.Process(process.pid).children(recursive=True)
            with suppress(psutil.NoSuchProcess):  # Ctrl-C has reached them, too
                for child in children:
                    child.terminate()
            process.wait()
            psutil.wait_procs(children)
            raise


def reason_of(failed: subprocess.CompletedProcess[str]) -> str:
    """Why a program failed, in one line: the last error that it wrote, else its last line, or else its exit code."""
    lines = (failed.stderr.strip() or f"exit code {failed.returncode}").splitlines()
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
