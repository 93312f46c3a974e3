"""Stage train: encoded text -> model. Started by `python -m`, `accelerate launch -m` or `torchrun -m`."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import torch

from charlstm.checkpoint import CheckpointFolder
from charlstm.checksums import SUMS, verify, write_sums
from charlstm.errors import Interrupted, TrainingError
from charlstm.files import sha256, write_text
from charlstm.history import EpochRow, StepRow, TextRow, table, write_csv
from charlstm.model_folder import WEIGHTS, save_model
from charlstm.observer import Observer
from charlstm.params import Params
from charlstm.processes import Processes
from charlstm.tracker import TrainingTracker
from charlstm.train import Data, Result, fit
from charlstm.vocab import Vocab, load_ids
from pipeline import provenance, stage, unfinished
from pipeline.console import TrainingConsole
from pipeline.hardware import keep_freed_memory, set_num_threads, use_reproducible_kernels
from pipeline.interruption import listen
from pipeline.paths import Paths
from pipeline.settings import seconds

CHANGED = (
    "parameters, data or code were changed while training ran, and DVC would take the model for one made of the new; "
    "nothing is lost: with the former ones back in place (git stash, ...) the same command ends at once"
)


def run(params: Params, paths: Paths) -> None:
    """Train on whatever processes and devices the launcher decided on, from the start or from a checkpoint."""
    set_num_threads()
    keep_freed_memory()
    use_reproducible_kernels()
    verify(paths.encoded / SUMS, ["train.npy", "val.npy", "vocab.json"])
    vocab = Vocab.load(paths.encoded / "vocab.json")
    train_ids, val_ids = (load_ids(paths.encoded / name, len(vocab)) for name in ("train.npy", "val.npy"))
    data = Data(train_ids, val_ids, vocab)
    # On every process: what fails here must fail before they need each other.
    tags, fingerprint = provenance.tags(params, paths), unfinished.fingerprint(params, paths)
    seconds_between = seconds("CHARLSTM_CHECKPOINT_SECONDS")
    processes = Processes(
        params.train.precision,
        compression=params.train.gradient_compression,
        timeout_seconds=seconds("CHARLSTM_TIMEOUT_SECONDS"),
    )
    with listen() as interruption, closing(processes):

        def train(observers: Sequence[Observer], folder: Path) -> Result:
            checkpoints = CheckpointFolder(folder, seconds_between)
            stop = interruption.is_asked_to_stop
            return fit(data, params.model, params.train, processes, observers, checkpoints, stop)

        try:
            _check_that_all_train_the_same(processes, fingerprint)
            if not processes.is_first:
                train([], Path())
                return
            with unfinished.begin_or_go_on(fingerprint) as work:
                _train_and_write(params, paths, vocab, tags, work, train)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            raise TrainingError(
                "out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size, "
                "or start more processes"
            ) from None


def _check_that_all_train_the_same(processes: Processes, fingerprint: str) -> None:
    if not processes.all_say(fingerprint):
        raise TrainingError(
            "the processes see different parameters, data or code: give all nodes the same commit and `dvc pull encode`"
        )
    if not processes.all_say(str(processes.is_mixed)):
        raise TrainingError("not every process's hardware multiplies bf16: set train.precision to fp32 or bf16")


def _train_and_write(
    params: Params,
    paths: Paths,
    vocab: Vocab,
    tags: dict[str, str],
    work: unfinished.Unfinished,
    train: Callable[[Sequence[Observer], Path], Result],
) -> None:
    console = TrainingConsole()
    tracker = TrainingTracker(provenance.store(), params.flat(), tags, work.training_id)
    status = "FAILED"
    try:
        result = train([console, tracker], work.folder)
        if unfinished.fingerprint(*stage.load()) != work.folder.name:
            raise TrainingError(CHANGED)
        _write(paths, result, vocab)
        work.finish(paths.train / "history.csv")
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted):
        status = "KILLED"
        raise
    finally:
        console.close()
        if status == "FINISHED":
            tracker.finish(sha256(paths.model / WEIGHTS), result.texts, result.train_seconds)
        else:
            tracker.abandon(status)


def _write(paths: Paths, result: Result, vocab: Vocab) -> None:
    """All outputs, at the very end: none appears if training fails."""
    save_model(paths.model, result.weights, result.shape, vocab)
    write_csv(paths.train / "history.csv", table(result.epochs, EpochRow._fields))
    write_csv(paths.train / "steps.csv", table(result.steps, StepRow._fields))
    write_csv(paths.train / "texts.csv", table(result.texts, TextRow._fields))
    metrics = {
        "best_epoch": result.best.epoch,
        "num_epochs": len(result.epochs),
        "num_steps": result.epochs[-1].step,
        "num_parameters": result.num_parameters,
        "train_nats_per_char": result.best.train_nats_per_char,
        "val_nats_per_char": result.best.val_nats_per_char,
    }
    write_text(paths.train / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_sums(paths.train / SUMS, ["history.csv", "steps.csv", "texts.csv"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
