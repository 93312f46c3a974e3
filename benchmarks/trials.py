"""Whole trainings of recipes and of changes to them, each kept as one line of `benchmarks/records/trials.jsonl`.

A trial is what `dvc exp run -S ...` would train, by the same code, without the stages around it: composed from
`conf/`, trained on the encoded corpus, measured under every protocol. An interrupted one resumes where it was, if
neither code nor data changed meanwhile. A record holds for the data that `dvc.lock` names; its `commit` says by which
code it was made.

Usage: python -m benchmarks.trials OVERRIDE... [--seed 1]

As a command it trains one, e.g. `python -m benchmarks.trials recipe=quick train.dropout.output=0.3`, for a search; what
it finds goes to `benchmarks/records/search.jsonl`, the dead ends too.
"""

import argparse
import contextlib
import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from accelerate.state import AcceleratorState
from rich.console import Console
from torch import Tensor

from benchmarks.projects import ROOT, compose
from benchmarks.watch import Watch
from charlstm.errors import Interrupted, ParamsError
from charlstm.evaluation.protocols import stateful
from charlstm.evaluation.windows import LanguageModel, windowed
from charlstm.files.documents import load_yaml
from charlstm.files.lock import exclusive
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.model.model_folder import load_model, save_model
from charlstm.params import Params
from charlstm.text.encoded import load_ids
from charlstm.text.soft_text import load_soft_text
from charlstm.text.vocabulary import Ids, load_vocab
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.processes import Processes
from charlstm.training.train import Data, fit
from pipeline.dvc.paths import load_paths
from pipeline.dvc.unfinished import clear
from pipeline.dvc.unfinished import fingerprint as fingerprint_of_inputs
from pipeline.provenance.git import git
from pipeline.stage.hardware import keep_freed_memory, set_num_threads, use_reproducible_kernels, work_of
from pipeline.stage.interruption import handle_signals
from pipeline.stage.stage import guarded

PROJECT = ROOT  # whose params.yaml and conf/ trials are made of
RECORDS = ROOT / "benchmarks/records/trials.jsonl"
SEARCH_RECORDS = ROOT / "benchmarks/records/search.jsonl"
CHECKPOINTS = ROOT / "build/trials"  # of unfinished trials
MODELS = ROOT / "build/models"  # of what is done
SECONDS_BETWEEN_CHECKPOINTS = 60.0
WINDOW_LENS = (64, 100, 256)
OWN_PARAMETERS = ("train.seed=",)  # of a trial, not of its overrides
TOLERANCE = 1e-4  # nats/char, between a loss measured with one number of threads and another


class Trial(NamedTuple):
    """What to train: Hydra overrides, as `-S` has them, in their order; the seed is one of its own."""

    overrides: tuple[str, ...]
    seed: int = 1

    def params(self) -> Params:
        """All parameters, but for the texts after each epoch, which cost time and change nothing.

        Raises:
            ParamsError: the overrides make something impossible, or are those that a trial sets itself.
        """
        if own := [override for override in self.overrides if override.lstrip("+").startswith(OWN_PARAMETERS)]:
            raise ParamsError(f"{own[0]}: a trial's seed is given apart (--seed), and it writes no texts")
        return compose(PROJECT, [*self.overrides, f"train.seed={self.seed}"])

    def fingerprint(self) -> str:
        """A hash of all parameters that decide the result, so that a record does not outlive a change of its recipe."""
        params = self.params()
        decisive = {"model": params.model.fingerprint_fields(), "train": params.train.fingerprint_fields()}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def data_md5(self) -> str:
        """DVC's hashes of what it learns from: the encoded corpus, and what teachers wrote if it is a student.

        Raises:
            ParamsError: a `dvc.lock` does not name it.
        """
        return data_md5() if self.params().train.distillation.rows == 0 else f"{data_md5()}+{soft_text_md5()}"

    def data(self) -> Data:
        """What stage encode wrote, and teachers if it is a student.

        Raises:
            EncodedError: it is not there.
        """
        data, params = load_data(), self.params()
        taught = params.train.distillation
        if taught.rows == 0:
            return data
        return data._replace(soft_text=load_soft_text(ROOT / taught.text, len(data.vocab), params.teachers.parts))

    def record(self, file: Path = RECORDS) -> pd.Series | None:
        """What was last kept of it, if it was run on this data."""
        if not file.exists() or file.stat().st_size == 0:
            return None
        known = pd.read_json(file, lines=True, dtype={"fingerprint": str})
        found = known[(known["fingerprint"] == self.fingerprint()) & (known["data"] == self.data_md5())]
        return None if len(found) == 0 else found.iloc[-1]


def load_data() -> Data:
    """What stage encode wrote."""
    paths = load_paths(ROOT / "dvc.yaml")
    vocab = load_vocab(ROOT / paths.encoded / "vocab.json")
    train_ids, val_ids = (load_ids(ROOT / paths.encoded / name, len(vocab)) for name in ("train.npy", "val.npy"))
    return Data(train_ids, val_ids, vocab)


@cache
def data_md5() -> str:
    """DVC's hash of the encoded corpus, which `dvc.lock` has also where the data itself is not.

    Raises:
        ParamsError: `dvc.lock` does not name it.
    """
    encoded = load_paths(ROOT / "dvc.yaml").encoded
    try:
        outs = load_yaml(ROOT / "dvc.lock")["stages"]["encode"]["outs"]
        return next(str(out["md5"]) for out in outs if Path(out["path"]) == encoded)
    except (KeyError, TypeError, StopIteration):
        raise ParamsError("dvc.lock: it has no encoded corpus; run `dvc repro encode`") from None


def soft_text_md5() -> str:
    """A hash of DVC's hashes of all parts that teachers wrote.

    Raises:
        ParamsError: `distillation/dvc.lock` does not name them.
    """
    try:
        stages = load_yaml(ROOT / "distillation/dvc.lock")["stages"]
        hashes = [str(stage["outs"][0]["md5"]) for name, stage in sorted(stages.items()) if name.startswith("text@")]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
    except (KeyError, TypeError, IndexError):
        raise ParamsError(
            "distillation/dvc.lock: it has no text of teachers; run `dvc repro distillation/dvc.yaml`"
        ) from None


def fresh_processes(params: Params) -> Processes:
    """This process alone, in the precision of `params`, also if another training was here before."""
    set_num_threads(work_of(params))
    keep_freed_memory()
    use_reproducible_kernels()
    AcceleratorState._reset_state(reset_partial_state=True)
    return Processes(params.train.precision)


def run(trial: Trial, console: Console, file: Path = RECORDS) -> pd.Series:
    """The record of `trial`: trained and measured now, unless it was before."""
    known = trial.record(file)
    return known if known is not None else _fit(trial, console, file)[0]


def train(trial: Trial, console: Console, file: Path = RECORDS) -> CharLSTM:
    """The model of `trial`: trained now, measured and recorded, unless it was before and its weights are still here."""
    params, model_folder, known = trial.params(), _model_folder(trial), trial.record(file)
    if known is not None and model_folder.exists():
        saved = load_model(model_folder, params.model.implementation).model
        model = model_of(saved.shape, saved.state_dict(), params)
        if abs(stateful(model, load_data().val_ids).nats_per_char - known["stateful"]) < TOLERANCE:
            return model
        console.print(f"{model_folder} is not the model of the record: it is trained again")
    return _fit(trial, console, file)[1]


def _fit(trial: Trial, console: Console, file: Path) -> tuple[pd.Series, CharLSTM]:
    """Train, measure, and keep both; of several records of a trial the last one counts.

    Raises:
        LockedError: another process trains the same.
        Interrupted: asked to stop; a checkpoint is written, or at the end the record.
    """
    params, data, model_folder = trial.params(), trial.data(), _model_folder(trial)
    with contextlib.chdir(ROOT):
        folder = CHECKPOINTS / fingerprint_of_inputs(params, load_paths(Path("dvc.yaml")))
        origin = {"fingerprint": trial.fingerprint(), "data": trial.data_md5(), "commit": commit()}
    with exclusive(folder, "this trial"), handle_signals() as interruption:
        processes = fresh_processes(params)
        watch = Watch(console, f"{' '.join(trial.overrides)}, seed {trial.seed}")
        checkpoints = CheckpointFolder(folder, SECONDS_BETWEEN_CHECKPOINTS)
        stop = interruption.should_stop
        result = fit(data, params.model, params.train, processes, [watch], checkpoints, stop)
        model = model_of(result.shape, result.weights, params)
        record = {
            **origin,
            "overrides": " ".join(trial.overrides),
            "seed": trial.seed,
            "epochs": len(result.epochs),
            "num_parameters": result.num_parameters,
            "train_seconds": round(result.train_seconds, 1),
            **losses(model, data.val_ids),
            "by_epoch": [row.val_nats_per_char for row in result.epochs],
            "train_by_epoch": [row.train_nats_per_char for row in result.epochs],
            "torch": torch.__version__,
            "hardware": processes.describe_device(),
        }
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        save_model(model_folder, result.weights, result.shape, data.vocab)
        clear(folder)
        if interruption.should_stop():  # too late for this one, not for others that may follow
            raise Interrupted("stopped as asked, after a training that is done and recorded")
    return pd.Series(record), model


def _model_folder(trial: Trial) -> Path:
    return MODELS / f"{trial.fingerprint()}-{data_md5()[:8]}"


def commit() -> str:
    """The code here, as git knows it; `-dirty` where it is changed or cannot be told; nothing outside a repository."""
    commit = git("rev-parse", "--short", "HEAD")
    changes = git("status", "--porcelain", "--", "charlstm", "pipeline", "conf")
    return "" if commit is None else commit + ("" if changes == "" else "-dirty")


def model_of(shape: ModelShape, weights: dict[str, Tensor], params: Params) -> CharLSTM:
    """A model whose weights can still be moved, as those of `load_model` cannot."""
    model = CharLSTM(shape, params.model.implementation).eval()
    model.load_state_dict(weights)
    return model


def losses(model: LanguageModel, val_ids: Ids) -> dict[str, float]:
    """Nats per character under every static protocol."""
    found = {f"windowed_{length}": windowed(model, val_ids, length) for length in WINDOW_LENS}
    found["stateful"] = stateful(model, val_ids)
    return {protocol: round(loss.nats_per_char, 6) for protocol, loss in found.items()}


def main() -> int:
    """Train one trial of a search and keep its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", metavar="OVERRIDE", help="as `dvc exp run -S` has them")
    parser.add_argument("--seed", type=int, default=1, help="of the training")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    console.print(run(Trial(tuple(arguments.overrides), arguments.seed), console, SEARCH_RECORDS).to_dict())
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
