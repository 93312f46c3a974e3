"""Runs the stages again in a folder of their own: what comes before training from DVC's cache or anew, the rest anew.

A model that DVC restores would prove nothing, so training, evaluation and sampling run without DVC.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from charlstm.errors import CorpusError
from charlstm.files.documents import parse_yaml
from charlstm.text.conversion import Form, corpus_sha256, files_of, local_path
from charlstm.text.encodings import check_encoding
from pipeline.dvc.record import cache_folder
from pipeline.stage.exit_codes import EXIT_INTERRUPTED
from pipeline.stage.tracking_store import STATE_FOLDER

FIRST = ("download", "split", "encode")
TEACHERS = "distillation/dvc.yaml"
PYTHON = [sys.executable, "-m"]
# Of the surroundings: whose store, whose experiment, whose process group and whose repository this is.
PRIVATE = (
    *(
        "MLFLOW_",
        "DVC_ROOT",
        "DVC_EXP",
        "DVC_STAGE",
        "GIT_",
        "CHARLSTM_EXIT_CODES",
        "PYTHONSAFEPATH",
        "OMP_NUM_THREADS",
    ),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_", "TORCHELASTIC_", "ACCELERATE_"),
)
SECONDS_TO_STOP = 30


class Rerun:
    """The stages of one training in `folder`, which has its code, parameters and `dvc.lock`.

    `tags` of the run say on how many threads and processes and on which device it was trained.
    """

    def __init__(self, folder: Path, tags: Mapping[str, str]) -> None:
        self._folder, self._tags = folder, tags

    def prepare(self, is_as_recorded: Callable[[], bool], *, is_student: bool = False) -> int:
        """Restore or make corpus, split, ids, and what teachers wrote; the exit code of what failed, or 0."""
        _link_source(self._folder)
        if (self._folder / ".dvc").is_dir() and (self._folder / "dvc.lock").is_file():
            local = Path(".dvc/config.local")
            if local.is_file():
                shutil.copy(local, self._folder / local)
            self._dvc("cache", "dir", "--local", str(cache_folder().resolve()))
            self._dvc("pull", *FIRST)  # from the cache, else from the remote, if there is one
            if is_student:
                self._dvc("pull", TEACHERS)
                if code := self._run([*PYTHON, "dvc", "repro", TEACHERS]):  # trains what is in neither
                    return code
            if is_as_recorded():
                return 0
        return next((code for stage in FIRST if (code := self._run([*PYTHON, f"pipeline.{stage}"]))), 0)

    def train(self) -> int:
        """Really train, from the first step; the exit code."""
        shutil.rmtree(self._folder / STATE_FOLDER, ignore_errors=True)
        num_processes = int(self._tags.get("num_processes", "1"))
        launcher = ["accelerate.commands.launch", "--quiet", "-m"]
        if num_processes > 1:
            launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes), "-m"]
        environment = {}
        if threads := self._tags.get("hardware.threads"):
            environment["OMP_NUM_THREADS"] = threads
        if self._tags.get("device", "").startswith("cpu"):
            environment["ACCELERATE_USE_CPU"] = "true"
        return self._run([*PYTHON, "pipeline.launch", *PYTHON, *launcher, "pipeline.train"], environment)

    def after(self, stage: str) -> int:
        """Run `evaluate` or `sample`; the exit code."""
        return self._run([*PYTHON, f"pipeline.{stage}"])

    def _dvc(self, *arguments: str) -> None:
        """What it cannot do is done without it."""
        self._run([*PYTHON, "dvc", *arguments, "--quiet"], stderr=subprocess.DEVNULL)

    def _run(self, command: Sequence[str], extra: Mapping[str, str] | None = None, stderr: int | None = None) -> int:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        environment = {**kept, "PATH": path, "DVC_NO_ANALYTICS": "true", **(extra or {})}
        stdout = stderr or sys.__stderr__  # the table alone goes to stdout
        with subprocess.Popen(command, cwd=self._folder, env=environment, stdout=stdout, stderr=stderr) as process:
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                try:
                    process.wait(SECONDS_TO_STOP)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        return code


def source_of(params: str) -> Path | None:
    """The file or folder of this machine that the corpus is made of; None if it comes from elsewhere."""
    return _local(params, "source")


def corpus_today(params: str) -> str | None:
    """The SHA-256 of the corpus that this source gives today; None if it is gone, or gives none."""
    try:
        section = parse_yaml(params)["download"]
        # Parameters of old have no encoding: the corpus had the bytes of the source.
        options = section.get("newlines", "keep"), section.get("separator", "\n")
        form = Form(check_encoding(section.get("encoding", "utf-8")), *options)
        return corpus_sha256(files_of(source_of(params) or Path()), form)
    except (CorpusError, OSError, ValueError):
        return None


def _local(params: str, name: str) -> Path | None:
    try:
        return local_path(str(parse_yaml(params)["download"][name]))
    except (ValueError, KeyError, TypeError):
        return None


def _link_source(folder: Path) -> None:
    """A source beside the project, which git need not know, is found from the folder too; so is what is watched."""
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    for path in (_local(params, "source"), _local(params, "watch")):
        if path and not path.is_absolute() and path.exists() and not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(path.resolve())
