"""Small projects in temporary folders, trained by real processes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from charlstm.corpus.fetch import FALLBACKS, Fallback
from charlstm.errors import ParamsError
from charlstm.files.checksums import sha256
from charlstm.files.documents import load_yaml, parse_yaml, validate
from charlstm.generation.sampler import Request, Sampler
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.initialization import initial_weights
from charlstm.model.model_folder import save_model
from charlstm.model.shape import ModelShape
from charlstm.params import NOTHING, Params, load_params
from charlstm.sampling import Sampling
from charlstm.text.vocabulary import Vocab, load_vocab
from charlstm.training.sizes import shape_of
from pipeline.recipes import CORPORA, RECIPES, load, replaced, with_values
from pipeline.run.dvc import load_paths

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("charlstm", "pipeline")
TEXT = ROOT / "tests/data/text.txt"
PYTHON = [sys.executable, "-m"]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # DVC's stages find `python` in it
ACCELERATE = [*PYTHON, "accelerate.commands.launch", "--quiet"]
CHARLSTM = [*PYTHON, "pipeline.cli"]
LAUNCH = [*PYTHON, "pipeline.launch"]
NUM_CHARS = 6000
RESULTS = (
    "artifacts/model/model.safetensors",
    "artifacts/train/history.csv",
    "artifacts/train/steps.csv",
    "artifacts/train/metrics.json",
)
Override = dict[str, Any]

TINY: Override = {
    "download.source": "text.txt",
    "download.watch": "text.txt",
    "download.sha256": None,
    "model.embedding_size": 8,
    "model.hidden_size": 16,
    "model.feed_forward_size": 12,
    "train.precision": "fp32",
    "train.batch_size": 4,
    "train.context_len": 16,
    "train.epochs": 1,
    "train.warmup_steps": 5,
    # Set here, so that tests with randomness do not depend on the default recipe.
    "train.dropout.embedding": 0.05,
    "train.dropout.output": 0.15,
    "train.ema_decay": 0.99,
    "train.validation_context_len": 20,
    "train.log_every_steps": 1,
    "evaluate.window_lens": [20],
    "sample.prompts": ["\n", "def "],
    "sample.temperatures": [0.8],
    "sample.seeds": [1],
    "sample.num_chars": 10,
}


def text() -> str:
    """Return the test text: more than 12,000 characters, some of them not ASCII."""
    return TEXT.read_text(encoding="utf-8")


def torchrun(num_processes: int, *options: str) -> list[str]:
    """Return the start of a command for processes on this machine. `-m MODULE` follows."""
    processes = f"--nproc_per_node={num_processes}"
    return [*PYTHON, "torch.distributed.run", "--standalone", processes, *options]


def write_params(folder: Path, override: Override) -> None:
    """Write the shipped parameters in a tiny size, changed by `override` (by dotted name)."""
    yaml = YAML()
    document = yaml.load(shipped_params())
    for name, value in {**TINY, **override}.items():
        *path, last = name.split(".")
        section = document
        for part in path:
            section = section[part]
        # ruamel.yaml keeps the previous value's style, which may not allow control characters.
        is_odd = isinstance(value, str) and not value.isprintable()
        section[last] = DoubleQuotedScalarString(value) if is_odd else value
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(document, file)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the corpus be the substitute `package==1` of the text that the parameters name."""
    digest = sha256(folder / "Datasets/shakespear.txt")
    monkeypatch.setitem(FALLBACKS, digest, Fallback("package==1", digest, "*", 9, digest))
    write_params(folder, {"download.sha256": digest})


def tiny_params(folder: Path, override: Override) -> Params:
    """Write tiny parameters with `override` to `folder` and load them."""
    write_params(folder, override)
    return load_params(folder / "params.yaml")


@cache
def shipped_params() -> str:
    """Return `params.yaml` of a fresh clone. The working tree may have another recipe or text."""
    with chdir(ROOT):
        values = {**load(RECIPES, RECIPES.root).values, **load(CORPORA, CORPORA.root).values}
    return with_values((ROOT / "params.yaml").read_text(encoding="utf-8"), values)


def compose(root: Path, overrides: Sequence[str] = ()) -> Params:
    """Return the parameters in the project `root`, changed by the recipe quick and `overrides`.

    Overrides are `recipe=NAME`, `corpus=NAME`, and values by dotted name as in `dvc exp run -S`.
    The recipe and the corpus have defaults, so that a user's own settings do not matter.

    Raises:
        ParamsError: an override names an unknown parameter or has an impossible value.
    """
    pairs = [override.partition("=") for override in overrides]
    presets = {RECIPES: RECIPES.root, CORPORA: CORPORA.root}
    presets |= {kind: value for kind in presets for name, _, value in pairs if name == kind.name}
    values: dict[str, object] = {}
    with chdir(root):
        for kind, name in presets.items():
            values |= load(kind, name).values
    for name, _, value in pairs:
        if name not in (RECIPES.name, CORPORA.name):
            try:
                values[name] = parse_yaml(value)
            except ValueError as error:
                raise ParamsError(f"{name}={value}: {error}") from None
    path = root / "params.yaml"
    return validate(Params, replaced(load_yaml(path), values), path)


@cache
def compile_sampler() -> None:
    """Compile the sampler. Projects copy numba's cache with the source and need not compile."""
    model = CharLSTM(ModelShape(2, 1, 1, 1), "gates")
    Sampler(model, Vocab("ab")).generate([Request("a", Sampling(num_chars=1))])


def make_project(
    folder: Path, override: Override | None = None, content: str | None = None
) -> None:
    """Create a project in which no stage has run: code, `dvc.yaml`, tiny parameters, a text."""
    folder.mkdir(parents=True)
    compile_sampler()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / NOTHING).parent.mkdir(parents=True)
    shutil.copy(ROOT / NOTHING, folder / NOTHING)
    write_params(folder, override or {})
    (folder / "text.txt").write_text(content or text()[:NUM_CHARS], encoding="utf-8")


def make_encoded_project(
    folder: Path, override: Override | None = None, content: str | None = None
) -> None:
    """Create a project in which download, split and encode have run, and its initial model."""
    make_project(folder, override, content)
    for stage in ("download", "split", "encode", "check"):
        # Stage check expects the initial model, which needs the vocabulary.
        if stage == "check" and "train.initial" in (override or {}):
            write_initial(folder)
        subprocess.run([*PYTHON, "pipeline", stage], cwd=folder, check=True, capture_output=True)


def write_initial(folder: Path) -> None:
    """Write the model of `train.initial`. It is untrained and lacks a character of the text."""
    params = load_params(folder / "params.yaml")
    paths = load_paths(folder / "dvc.yaml")
    known = load_vocab(folder / paths.encoded / "vocab.json").characters
    vocab = Vocab(known[1:] + "\N{SNOWMAN}")
    shape = shape_of(params.model, len(vocab))
    generator = torch.Generator().manual_seed(0)
    weights = initial_weights(shape, "uniform", forget_gate_bias=1.0, generator=generator)
    save_model(folder / paths.initial, weights, shape, vocab)


def training_command(num_processes: int, *options: str) -> list[str]:
    """Return the command of the train stage, with torchrun and `options` for several processes."""
    if num_processes == 1:
        return [*PYTHON, "pipeline", "train"]
    return [*torchrun(num_processes, *options), "-m", "pipeline", "train"]


def start(project: Path, command: list[str], log: Path, **env: str) -> subprocess.Popen[bytes]:
    """Start `command` in the project with one thread per process. Append its output to `log`."""
    defaults = {"PATH": PATH, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **defaults, **env}
    with log.open("ab") as stderr:
        return subprocess.Popen(command, cwd=project, env=environment, stdout=stderr, stderr=stderr)


def run(project: Path, command: list[str], log: Path, **env: str) -> int:
    """Run `command` in the project to its end, as `start` does. Return the exit code."""
    return start(project, command, log, **env).wait()


def captured(
    command: Sequence[str | Path], cwd: Path = ROOT, timeout: float = 600, /, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end and capture its output. `env` is added to the environment."""
    environment = {**os.environ, **env}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the process and its descendants."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its descendants, as if the machine went down."""
    # A stopped process cannot react to the death of another.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in family(process):
            try:
                one.send_signal(number)
            except psutil.NoSuchProcess:
                continue
    process.wait()


def results(project: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that training writes, or "absent" if it is missing."""
    paths = {name: project / name for name in RESULTS}
    return {name: sha256(path) if path.exists() else "absent" for name, path in paths.items()}
