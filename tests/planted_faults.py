"""Mistakes as users make them, each with the line that says so."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.projects import Override

REQUIRED = """[project]
requires-python = ">=3.11"
dependencies = ["numpy>=1", "no-such-package>=2; python_version > '3'", "psutil>=1,<2", "nothing; python_version < '3'"]
"""


def remove(path: str) -> None:
    Path(path).unlink()


def write(path: str, content: str = "") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def huge() -> None:
    """A terabyte of nothing."""
    with Path("huge.txt").open("wb") as file:
        file.truncate(10**15 if shutil.disk_usage(".").free > 10**12 else 10**12)


def a_file_for_the_cache() -> None:
    shutil.rmtree(".dvc/cache")
    write(".dvc/cache")


def a_file_for_the_state() -> None:
    shutil.rmtree(".charlstm")
    write(".charlstm")


def fifo_for_the_store() -> None:
    Path("mlflow.db").unlink()
    os.mkfifo("mlflow.db")


class Fault(NamedTuple):
    """What is wrong, and the line that says so; `…` stands for what differs from machine to machine."""

    line: str
    params: Override = {}
    env: dict[str, str] = {}
    plant: Callable[[], object] = lambda: None


DISK = "ERROR: disk: about … GB are needed (texts …, checkpoints and the model, and DVC's cache), … are free in …"
# Of a text that is encoded: all of these at once, too.
FAULTS = {
    "prompt": Fault(
        "ERROR: sample.prompts[2]: the prompt 'a☃' has characters that the model never saw: '☃' (U+2603, once)",
        {"sample.prompts": ["\n", "def ", "a☃"]},
    ),
    "top_k": Fault(
        "WARNING: sample.top_k: 5000 has no effect: the vocabulary has … characters", {"sample.top_k": 5000}
    ),
    "too short": Fault(
        "ERROR: the training part has 5400 characters, too few for one step of train.batch_size 4 x train.context_len "
        "10000 = 40000; a context_len of 1349 would fit",
        {"train.context_len": 10_000},
    ),
    "micro-batch": Fault(
        "WARNING: params.yaml: train.micro_batch_size 9 is more than train.batch_size 4 and has no effect",
        {"train.micro_batch_size": 9},
    ),
    "no model to begin from": Fault(
        "ERROR: params.yaml: train.initial: there is no conf/initial/abc: `dvc pull conf/initial/abc.dvc` brings the model "
        "to begin from; conf/corpus/nothing begins from none",
        {"train.initial": "conf/initial/abc"},
    ),
    "watch": Fault(
        "ERROR: download.watch: text.txt: no such file or folder, and DVC stops there: name the text's own path, or "
        "conf/corpus/nothing for a text that comes from a URL or by `dvc pull`",
        plant=lambda: remove("text.txt"),
    ),
    "no identity": Fault(
        "WARNING: git: user.name not set, and `dvc exp run` fails without: `git config --global user.name ...`",
        plant=lambda: subprocess.run(["git", "config", "--unset", "user.name"], check=True),
    ),
    "tracker": Fault(
        "WARNING: tracker: http://127.0.0.1:1: Connection refused; training does not wait for it, and `charlstm sync` "
        "sends later what it missed",
        env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
    ),
    "threads": Fault(
        "WARNING: OMP_NUM_THREADS: 4000 threads on … cores get in each other's way, and slow a training: set at most …",
        env={"OMP_NUM_THREADS": "4000"},
    ),
    "setting": Fault(
        "ERROR: CHARLSTM_CHECKPOINT_SECONDS: expected a number of seconds from 0.0001 to 31,536,000, got 'soon'",
        env={"CHARLSTM_CHECKPOINT_SECONDS": "soon"},
    ),
    "package": Fault(
        'ERROR: versions: no-such-package>=2; python_version > "3" is not installed: `pip install --constraint '
        "constraints.txt --editable '.[pipeline]'` installs what is needed",
        plant=lambda: write("pyproject.toml", REQUIRED.replace("psutil>=1,<2", "psutil")),
    ),
    "version": Fault(
        "WARNING: versions: expected psutil<2,>=1, found …: `pip install --constraint constraints.txt --editable "
        "'.[pipeline]'` installs what is needed",
        plant=lambda: write("pyproject.toml", re.sub("\"no-such.*'3'\", ", "", REQUIRED, count=1)),
    ),
    "cache": Fault(
        "ERROR: DVC's cache: ….dvc/cache: expected a folder, found something else in its place: …/.dvc/cache; move it away",
        plant=a_file_for_the_cache,
    ),
    "locks": Fault(
        "ERROR: dvc: .dvc/tmp/rwlock is damaged, as a DVC that is killed may leave it: remove it",
        plant=lambda: write(".dvc/tmp/rwlock"),
    ),
    "state": Fault(
        "ERROR: the state of unfinished trainings: …/.charlstm: expected a folder, found something else in its place: "
        "…/.charlstm; move it away",
        plant=a_file_for_the_state,
    ),
}
# Of a text that is yet to come, or that exclude another: each alone.
ALONE = {
    "own file": Fault(
        "WARNING: artifacts/model/notes.txt: no stage wrote it; DVC removes artifacts/model before its stage runs: move it",
        plant=lambda: write("artifacts/model/notes.txt"),
    ),
    "source": Fault(
        "ERROR: download.source: nowhere.txt: No such file or directory", {"download.source": "nowhere.txt"}
    ),
    "empty": Fault(
        "ERROR: download.source: empty.txt: expected a text, found no byte in it",
        {"download.source": "empty.txt", "download.watch": "empty.txt"},
        plant=lambda: write("empty.txt"),
    ),
    "folder": Fault(
        "ERROR: download.source: texts: expected texts (*.txt, *.text, *.md), found a folder without any",
        {"download.source": "texts", "download.watch": "texts"},
        plant=lambda: Path("texts").mkdir(),
    ),
    "fifo": Fault(
        "ERROR: download.source: pipe: expected a file, found a FIFO",
        {"download.source": "pipe", "download.watch": "pipe"},
        plant=lambda: os.mkfifo("pipe"),
    ),
    "secret in a URL": Fault(
        "ERROR: params.yaml: download.source should have no secret, as token seems to be, which git, DVC and MLflow would "
        'keep: download the text and name the file, got "https://a/b?token=***; the last commit has text.txt',
        {"download.source": "https://a/b?token=hunter2"},
    ),
    "output": Fault(
        "ERROR: Datasets/split/train.txt: expected a text outside of Datasets/split, which the project "
        "writes, and no folder that has it: move the text elsewhere and name that place",
        {"download.source": "Datasets/split/train.txt", "download.watch": "Datasets/split/train.txt"},
    ),
    "sha256": Fault(
        f"ERROR: download.sha256: expected {'0' * 64}, but text.txt has …: set it to that, or to null to accept any bytes",
        {"download.sha256": "0" * 64},
    ),
    "encoding": Fault(
        "ERROR: download.encoding: expected a text encoding as Python names it, e.g. utf-8, cp1251, gb18030 or utf-16, got 'cp9999'",
        {"download.encoding": "cp9999"},
    ),
    "unwatched": Fault(
        "WARNING: download.watch: dvc.yaml is watched, so a change of text.txt is not noticed: set it to text.txt",
        {"download.watch": "dvc.yaml"},
    ),
    "warm-up": Fault(
        "ERROR: train.warmup_steps is 1000, but this text gives only 85 steps (train.epochs 1): lower it, train.batch_size or "
        "train.context_len, or raise train.epochs",
        {"train.warmup_steps": 1000},
    ),
    "disk": Fault(
        DISK,
        {"download.source": "huge.txt", "download.watch": "huge.txt"},
        plant=huge,
    ),
    "damaged store": Fault(
        "WARNING: tracker: sqlite:///…/mlflow.db: the database cannot be read (file is not a database): move it away, and "
        "the next run makes another; training does not wait for it, and `charlstm sync` sends later what it missed",
        plant=lambda: write("mlflow.db", "no database" * 1000),
    ),
    "FIFO for a store": Fault(
        "WARNING: tracker: sqlite:///…/mlflow.db: expected a database, found no regular file; training does not wait for "
        "it, and `charlstm sync` sends later what it missed",
        plant=fifo_for_the_store,
    ),
    "no threads": Fault(
        "ERROR: OMP_NUM_THREADS: expected a number of threads from 1 to 4096, got 'all'", env={"OMP_NUM_THREADS": "all"}
    ),
    "no params": Fault(
        "ERROR: params.yaml: cannot read the parameters: No such file or directory", plant=lambda: remove("params.yaml")
    ),
    "damaged dvc.lock": Fault(
        "ERROR: dvc.lock: damaged, maybe by a merge: `git checkout HEAD dvc.lock` brings the last one back",
        plant=lambda: write("dvc.lock", "<<<<<<< HEAD\nstages: {}\n=======\n"),
    ),
    "paths": Fault(
        "ERROR: dvc.yaml: expected the stages' paths under `vars: - paths:`; run stages in the project's root",
        plant=lambda: write("dvc.yaml", "stages: {}\n"),
    ),
}
