"""Whole trainings of recipes and of changes to them, each kept as one line of `benchmarks/records/trials.jsonl`.

A trial is what `dvc exp run -S ...` would train, by the same code, without the stages around it: composed from
`conf/`, trained on the encoded corpus, measured under every protocol. An interrupted one resumes where it was, if
neither code nor data changed meanwhile. A record holds for the data that `dvc.lock` names; its `commit` says by which
code it was made.

Usage: python -m benchmarks.trials OVERRIDE... [--seed 1]

As a command it trains one, e.g. `python -m benchmarks.trials recipe=quick train.dropout.output=0.3`; what
it finds goes to `benchmarks/records/search.jsonl`, the dead ends too.
"""

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.state import AcceleratorState

from benchmarks.harness import console, new_parser
from benchmarks.projects import ROOT, compose
from charlstm.errors import Interrupted, ParamsError
from charlstm.evaluation.protocols import stateful
from charlstm.files.documents import load_yaml
from charlstm.files.lock import exclusive
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.model_folder import load_model, save_model
from charlstm.model.windows import LanguageModel, windowed
from charlstm.params import NOTHING, Params
from charlstm.text.encoded import EncodedText, load_parts
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.processes import Processes
from charlstm.training.train import Data, fit
from pipeline.dvc.paths import load_paths
from pipeline.dvc.unfinished import fingerprint as fingerprint_of_inputs
from pipeline.hardware import keep_freed_memory, set_num_threads, use_reproducible_kernels, work_of
from pipeline.provenance.git import git
from pipeline.stage.console import TrainingConsole
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
# Values that do nothing are left out of a record's key, so that a new parameter leaves older records as they are.
NEUTRAL: dict[str, dict[str, object]] = {
    "model": {"feed_forward_size": 0},
    "train": {"initial": NOTHING, "micro_batch_size": None, "ema_decay": 0.0, "validation_chars": None},
    "dropout": {"output_samples": 1},
}

Record = dict[str, Any]


class Trial(NamedTuple):
    """What to train: Hydra overrides, as `-S` has them, in their order; the seed is one of its own."""

    overrides: tuple[str, ...]
    seed: int = 1

    def params(self) -> Params:
        """All parameters.

        Raises:
            ParamsError: the overrides make something impossible, or are those that a trial sets itself.
        """
        if own := [override for override in self.overrides if override.lstrip("+").startswith(OWN_PARAMETERS)]:
            raise ParamsError(f"{own[0]}: a trial's seed is given apart (--seed)")
        return compose(PROJECT, [*self.overrides, f"train.seed={self.seed}"])

    def fingerprint(self) -> str:
        """A hash of all parameters that decide the result, so that a record does not outlive a change of its recipe."""
        model, train = self.params().model.model_dump(), self.params().train.model_dump()
        for section, values in (("model", model), ("train", train), ("dropout", train["dropout"])):
            for name, neutral in NEUTRAL[section].items():
                if values[name] == neutral:
                    del values[name]
        if train["optimizer"] != "muon":
            del train["muon"]
        return short_hash({"model": model, "train": train}, sort_keys=True)

    def record(self, file: Path = RECORDS) -> Record | None:
        """What was last kept of it, if it was run on this data."""
        return last_record(file, {"fingerprint": self.fingerprint(), "data": data_md5()})

    def model_folder(self) -> Path:
        """Where its model is kept on this machine."""
        return MODELS / f"{self.fingerprint()}-{data_md5()[:8]}"


def load_data() -> Data:
    """What stage encode wrote."""
    paths = load_paths(ROOT / "dvc.yaml")
    vocab, (train, val) = load_parts(ROOT / paths.encoded, ("train", "val"))
    return Data(train, val, vocab)


@cache
def data_md5() -> str:
    """DVC's hash of the encoded corpus, which `dvc.lock` has also where the data itself is not.

    Raises:
        ParamsError: `dvc.lock` does not name it.
    """
    try:
        return str(load_yaml(ROOT / "dvc.lock")["stages"]["encode"]["outs"][0]["md5"])
    except (KeyError, TypeError):
        raise ParamsError("dvc.lock: it has no outputs of stage encode; run `dvc repro encode`") from None


def short_hash(facts: object, *, sort_keys: bool = False) -> str:
    """Of JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=sort_keys).encode()).hexdigest()[:16]


def last_record(file: Path, facts: Record) -> Record | None:
    """The last line of a file of records that has these values."""
    lines = file.read_text().splitlines() if file.exists() else []
    return next((record for record in map(json.loads, reversed(lines)) if facts.items() <= record.items()), None)


def append(file: Path, record: Record) -> None:
    """One more line."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def fresh_processes(params: Params) -> Processes:
    """This process alone, in the precision of `params`, also if another training was here before."""
    set_num_threads(work_of(params))
    keep_freed_memory()
    use_reproducible_kernels()
    AcceleratorState._reset_state(reset_partial_state=True)
    return Processes(params.train.precision)


def run(trial: Trial, file: Path = RECORDS) -> Record:
    """The record of `trial`: trained and measured now, unless it was before."""
    return trial.record(file) or _fit(trial, file)


def trained(trial: Trial) -> CharLSTM:
    """The model of `trial`: trained now, measured and recorded, unless its weights are still here."""
    if trial.record() is None or not trial.model_folder().exists():
        _fit(trial, RECORDS)
    return trainable(trial.model_folder(), trial.params())


def _fit(trial: Trial, file: Path) -> Record:
    params, data = trial.params(), load_data()
    with contextlib.chdir(ROOT):
        checkpoints = CHECKPOINTS / fingerprint_of_inputs(params)
    facts: Record = {"fingerprint": trial.fingerprint(), "data": data_md5(), "commit": commit()}
    facts |= {"overrides": " ".join(trial.overrides), "seed": trial.seed}
    console.print(f"{facts['overrides']}, seed {trial.seed}:")
    return train(params, data, checkpoints, trial.model_folder(), file, lambda model: facts | losses(model, data.val))


def train(
    params: Params, data: Data, checkpoints: Path, model_folder: Path, file: Path, measure: Callable[[CharLSTM], Record]
) -> Record:
    """Train, measure, and keep both; of several records of a training the last one counts.

    Raises:
        LockedError: another process trains the same.
        Interrupted: asked to stop; a checkpoint is written, or at the end the record.
    """
    with (
        exclusive(checkpoints, "this training"),
        handle_signals() as interruption,
        contextlib.closing(TrainingConsole()) as observer,
    ):
        processes, stop = fresh_processes(params), interruption.should_stop
        folder = CheckpointFolder(checkpoints, SECONDS_BETWEEN_CHECKPOINTS)
        result = fit(data, params.model, params.train, processes, [observer], folder, stop)
        save_model(model_folder, result.weights, result.shape, data.vocab)
        record = measure(trainable(model_folder, params)) | {
            "epochs": len(result.epochs),
            "num_parameters": result.num_parameters,
            "train_seconds": round(result.train_seconds, 1),
            "by_epoch": [row.val_nats_per_char for row in result.epochs],
            "train_by_epoch": [row.train_nats_per_char for row in result.epochs],
            "torch": torch.__version__,
            "hardware": processes.describe_device(),
        }
        append(file, record)
        shutil.rmtree(checkpoints)
        if stop():  # too late for this one, not for others that may follow
            raise Interrupted("stopped as asked, after a training that is done and recorded")
    return record


def commit() -> str:
    """The code here, as git knows it; `-dirty` where it is changed or cannot be told; nothing outside a repository."""
    commit = git("rev-parse", "--short", "HEAD")
    changes = git("status", "--porcelain", "--", "charlstm", "pipeline", "conf")
    return "" if commit is None else commit + ("" if changes == "" else "-dirty")


def trainable(folder: Path, params: Params) -> CharLSTM:
    """A saved model whose weights can still be moved, as those of `load_model` cannot."""
    return load_model(folder, params.model.implementation).model.requires_grad_(True)


def losses(model: LanguageModel, text: EncodedText) -> dict[str, float]:
    """Nats per character under every static protocol."""
    sums = {f"windowed_{length}": windowed(model, text, length) for length in WINDOW_LENS}
    sums["stateful"] = stateful(model, text)
    return {protocol: round(loss.nats_per_char, 6) for protocol, loss in sums.items()}


def main() -> int:
    """Train one trial and keep its record."""
    parser = new_parser(__doc__)
    parser.add_argument("overrides", nargs="+", metavar="OVERRIDE", help="as `dvc exp run -S` has them")
    parser.add_argument("--seed", type=int, default=1, help="of the training")
    arguments = parser.parse_args()
    console.print(run(Trial(tuple(arguments.overrides), arguments.seed), SEARCH_RECORDS))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
