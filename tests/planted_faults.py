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


class Fault(NamedTuple):
    """What is wrong, and the line that says so; `…` stands for what differs from machine to machine."""

    line: str
    params: Override = {}
    env: dict[str, str] = {}
    plant: Callable[[], object] = lambda: None
    also: str = ""  # what cannot be separated from it


DISK = (
    "ERROR: disk: about … GB are needed (… for the text, its parts, its ids and DVC's cache of them, … for "
    "checkpoints and the model), … are free in …"
)
KNOWN = 'it knows "…"'
# Of a text that is encoded: all of these at once, too.
FAULTS = {
    "prompt": Fault(
        f"ERROR: sample.prompts[2]: the prompt 'a☃' has characters that the model never saw: '☃' (U+2603, 1 times); {KNOWN}",
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
    "memory": Fault(
        "ERROR: the model does not fit into memory: it needs at least … are available to each process: lower "
        "model.hidden_size, model.num_layers, model.embedding_size or model.feed_forward_size",
        {"model.hidden_size": 65_536, "model.num_layers": 20},
        also=DISK,
    ),
    "greedy": Fault(
        "WARNING: params.yaml: sample.temperatures has 0, at which nothing is drawn: the 3 of sample.seeds give the same "
        "text",
        {"sample.temperatures": [0.0], "sample.seeds": [1, 2, 3]},
    ),
    "window twice": Fault(
        "WARNING: params.yaml: evaluate.window_lens has a value twice, which makes the same twice: [100, 256, 256]",
        {"evaluate.window_lens": [100, 256, 256]},
    ),
    "micro-batch": Fault(
        "WARNING: params.yaml: train.micro_batch_size 9 is more than train.batch_size 4 and has no effect",
        {"train.micro_batch_size": 9},
    ),
    "protocol": Fault(
        "ERROR: params.yaml: evaluate.published.losses[0].protocol: expected windowed_N, sliding_N or stateful, got "
        "'window_100'",
        {"evaluate.published.losses": [{"protocol": "window_100", "system": "s", "nats_per_char": 1.5}]},
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
        "WARNING: OMP_NUM_THREADS: 4000 threads on … cores wait for each other, and training is many times slower: set "
        "at most …",
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
    "state": Fault(
        "ERROR: the state of unfinished trainings: …/.charlstm: expected a folder, found something else in its place: "
        "…/.charlstm; move it away",
        plant=a_file_for_the_state,
    ),
}
# Of a text that is yet to come, or that exclude another: each alone.
ALONE = {
    "source": Fault(
        "ERROR: download.source: nowhere.txt: no such file or folder, seen from …", {"download.source": "nowhere.txt"}
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
    "server": Fault(
        "ERROR: download.source: expected a path or an http(s) URL, got the protocol ftp",
        {"download.source": "ftp://a/b"},
    ),
    "secret in a URL": Fault(
        "WARNING: download.source: https://a/b?token=*** seems to hold a secret, which git, DVC and MLflow keep: "
        "download the text, and name the file",
        {"download.source": "https://a/b?token=hunter2"},
    ),
    "output": Fault(
        "ERROR: download.source: Datasets/split/train.txt: expected a text outside of Datasets/split, which the project "
        "writes and would overwrite: move it elsewhere and name that place",
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
    "foreign": Fault(
        "ERROR: Datasets/mine.txt: expected no file, or one that DVC has kept of this stage, found another, which is "
        "left as it is: move it elsewhere, and if it is the text to train on, name that place as download.source",
        {"download.name": "mine"},
        plant=lambda: write("Datasets/mine.txt", "the only copy"),
    ),
    "separator": Fault(
        "ERROR: split.document_separator: '<|end|>' stands nowhere in Datasets/shakespear.txt; give the text with which each document begins, or null",
        {"split.document_separator": "<|end|>"},
    ),
    "fractions": Fault(
        "ERROR: params.yaml: split.val_fraction 0.5 and split.test_fraction 0.5 leave nothing to train on: lower them",
        {"split.val_fraction": 0.5, "split.test_fraction": 0.5},
    ),
    "tiny": Fault(
        "ERROR: the text has 3 bytes: a training and a validation part of at least 2 characters each are needed: take a "
        "longer text or another split.val_fraction",
        {"download.source": "tiny.txt", "download.watch": "tiny.txt"},
        plant=lambda: write("tiny.txt", "abc"),
    ),
    "warm-up": Fault(
        "ERROR: train.warmup_steps is 1000, but this text gives only 85 steps in 1 epochs: lower it, train.batch_size or "
        "train.context_len, or raise train.epochs",
        {"train.warmup_steps": 1000},
    ),
    "window": Fault(
        "WARNING: params.yaml: evaluate.published.losses[0].protocol: windowed_7 is not measured: add 7 to "
        "evaluate.window_lens",
        {"evaluate.published.losses": [{"protocol": "windowed_7", "system": "s", "nats_per_char": 1.5}]},
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
    "no threads": Fault(
        "ERROR: OMP_NUM_THREADS: expected a number of threads from 1 to 4096, got 'all'", env={"OMP_NUM_THREADS": "all"}
    ),
    "python": Fault(
        "ERROR: versions: expected Python >=9, found …",
        plant=lambda: write("pyproject.toml", '[project]\nrequires-python = ">=9"\ndependencies = []\n'),
    ),
    "no params": Fault(
        "ERROR: params.yaml: cannot read the parameters: No such file or directory", plant=lambda: remove("params.yaml")
    ),
    "paths": Fault(
        "ERROR: dvc.yaml: expected the stages' paths under `vars: - paths:`; run stages in the project's root",
        plant=lambda: write("dvc.yaml", "stages: {}\n"),
    ),
}
