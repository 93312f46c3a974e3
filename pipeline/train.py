"""Stage train: encoded text -> model. Started by `python -m`, `accelerate launch -m` or `torchrun -m`."""

import json
import sys
from collections.abc import Sequence

import torch

from charlstm.checkpoint import WEIGHTS, save_model
from charlstm.errors import TrainingError
from charlstm.files import sha256, write_text
from charlstm.history import EpochRow, StepRow, TextRow, table, write_csv
from charlstm.params import Params
from charlstm.tracker import TrainingTracker
from charlstm.train import Accelerator, Data, Result, fit, launch
from charlstm.vocab import Vocab, load_ids
from pipeline import provenance, stage
from pipeline.console import TrainingConsole
from pipeline.hardware import set_num_threads, use_reproducible_kernels
from pipeline.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """Train on whatever processes and devices the launcher decided on."""
    set_num_threads()
    use_reproducible_kernels()
    vocab = Vocab.load(paths.encoded / "vocab.json")
    train_ids, val_ids = (load_ids(paths.encoded / name, len(vocab)) for name in ("train.npy", "val.npy"))
    data = Data(train_ids, val_ids, vocab)
    tags = provenance.tags(params, paths)  # on every process: what fails here must fail before they need each other
    accelerator = launch(params.train.precision)
    try:
        if accelerator.is_main_process:
            _train_and_write(params, paths, data, accelerator, tags)
        else:
            fit(data, params.model, params.train, accelerator, observers=[])
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise TrainingError(
            "out of memory: lower train.batch_size, train.context_len or model.hidden_size, or start more processes"
        ) from None
    finally:
        accelerator.end_training()


def _train_and_write(params: Params, paths: Paths, data: Data, accelerator: Accelerator, tags: dict[str, str]) -> None:
    console = TrainingConsole()
    tracker = TrainingTracker(provenance.store(), params.flat(), tags)
    status = "FAILED"
    try:
        result = fit(data, params.model, params.train, accelerator, observers=[console, tracker])
        _write(paths, result, data.vocab)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        console.close()
        if status == "FINISHED":
            tracker.finish(sha256(paths.model / WEIGHTS))
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
