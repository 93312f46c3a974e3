"""Stage train: encoded text -> model. Started by `python -m`, `accelerate launch -m` or `torchrun -m`."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from charlstm.errors import CharlstmError, Interrupted, TrainingError
from charlstm.files.atomic import write_text
from charlstm.files.checksums import SUMS
from charlstm.history import EpochRow, StepRow, Tables, table, write_tables
from charlstm.model.initial_model import load_initial
from charlstm.model.model_folder import save_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING, Params, TrainParams
from charlstm.text.encoded_files import load_parts
from charlstm.text.vocabulary import Vocab
from charlstm.tracking.sync import published_while_training
from charlstm.tracking.training_record import TrainingRecord
from charlstm.training.checkpoint_folder import CheckpointFolder
from charlstm.training.loop import Data, Result, fit
from charlstm.training.processes import Processes, is_out_of_memory
from charlstm.training.progress import Observer
from charlstm.training.sizes import shape_of
from pipeline.checkpoint_mirror import CheckpointMirror
from pipeline.hardware import (
    is_kept_on_cpu,
    keep_freed_memory,
    set_num_threads,
    use_reproducible_kernels,
    work_of,
)
from pipeline.lineage import provenance
from pipeline.lineage.provenance import page_tags, summary_of
from pipeline.run import stage, unfinished
from pipeline.run.console import EpochTexts, TrainingConsole, epoch_prompts
from pipeline.run.dvc import Paths
from pipeline.run.interruption import handle_signals
from pipeline.run.project import CHECKPOINT_MIRROR, seconds, store

log = logging.getLogger("charlstm")

FAILURE = "failure.txt"
FINGERPRINT_TAG = "fingerprint"
OUT_OF_MEMORY = "out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size, or start more processes"


def run(params: Params, paths: Paths) -> None:
    """Train on the processes and devices that the launcher chose, from the start or from a checkpoint."""
    set_num_threads(work_of(params))
    keep_freed_memory()
    use_reproducible_kernels()

    # What fails here fails on each process by itself, before the processes wait for one another.
    data = _load(params, paths)
    prompts = epoch_prompts(params, data.val.ids, data.vocab)
    tags = {**provenance.tags(params, paths), **provenance.environment()}
    fingerprint = unfinished.fingerprint(params)
    folder = unfinished.folder_of(fingerprint)
    checkpoints = CheckpointFolder(folder, seconds("CHARLSTM_CHECKPOINT_SECONDS"))
    (folder / FAILURE).unlink(missing_ok=True)  # of an earlier start

    with handle_signals() as interruption, ExitStack() as opened:
        processes = Processes(
            params.train.precision,
            timeout_seconds=seconds("CHARLSTM_TIMEOUT_SECONDS"),
            on_cpu=is_kept_on_cpu(),
        )
        with processes.interrupted_by_lost_peers():
            _check_same_training(processes, fingerprint)
            training = processes.on_main(lambda: _open(fingerprint, opened))
            observers: list[Observer] = []
            if processes.is_main:
                record = TrainingRecord(
                    folder,
                    training.training_id,
                    params.flat(),
                    _run_tags(params, tags, fingerprint),
                )
                patience = seconds("CHARLSTM_TRACKING_SECONDS")
                opened.enter_context(published_while_training(store(), folder, patience))
                console = opened.enter_context(TrainingConsole())
                opened.enter_context(record)
                shows = [console.show_texts, record.log_texts]
                observers = [
                    console,
                    record,
                    EpochTexts(prompts, data.vocab, params.train.seed, shows),
                ]

            with _failure_shared(processes, folder / FAILURE):
                result = fit(
                    data,
                    params.model,
                    params.train,
                    processes,
                    observers,
                    checkpoints,
                    interruption.poll,
                )

            if processes.is_main:
                _write(paths, result, data.vocab)
                _say_how_it_ended(result, params.train)
                training.finish(paths.train / SUMS)
                record.finish(
                    paths.model,
                    len(result.epochs),
                    result.train_seconds,
                    _final_tags(params, paths, tags, result),
                )
        processes.close()  # not after a failure: NCCL would wait for processes that are in a collective call


def _load(params: Params, paths: Paths) -> Data:
    vocab, (train, val) = load_parts(
        paths.encoded, ("train", "val"), separator=params.split.document_separator
    )
    initial = None
    if str(paths.initial) != NOTHING:
        initial = load_initial(paths.initial, vocab, shape_of(params.model, len(vocab)))
    return Data(train, val, vocab, initial)


def _check_same_training(processes: Processes, fingerprint: str) -> None:
    if not processes.all_equal(fingerprint):
        raise CharlstmError(
            "the processes see different parameters, data or code: give all nodes the same commit and "
            "`dvc pull download split encode`"
        )
    if not processes.all_equal(str(processes.is_bf16)):
        raise CharlstmError(
            "not every process's hardware multiplies bf16: set train.precision to fp32"
        )


def _open(fingerprint: str, opened: ExitStack) -> unfinished.Unfinished:
    """Lock the training's folder, and copy its checkpoints to the mirror if there is one, until `opened` closes."""
    training = opened.enter_context(unfinished.start_or_resume(fingerprint))
    if url := os.environ.get(CHECKPOINT_MIRROR):
        opened.enter_context(CheckpointMirror(url, training.folder, is_anew=training.is_anew))
    return training


def _run_tags(params: Params, tags: dict[str, str], fingerprint: str) -> dict[str, str]:
    """Return the tags of the MLflow run that are known at the start."""
    return {**tags, **page_tags(summary_of(params, tags)), FINGERPRINT_TAG: fingerprint}


def _final_tags(
    params: Params, paths: Paths, tags: dict[str, str], result: Result
) -> dict[str, str]:
    """Return the tags of the MLflow run that are known at the end."""
    summary = summary_of(params, tags)._replace(
        num_parameters=result.num_parameters, val_nats_per_char=result.best.val_nats_per_char
    )
    return page_tags(summary) | provenance.train_md5(paths)


@contextmanager
def _failure_shared(processes: Processes, file: Path) -> Iterator[None]:
    """Tell the other processes why this one fails. If another process is lost, raise the reason that it told.

    Raises:
        TrainingError: out of memory, or another process failed.
    """
    try:
        yield
    except Interrupted:
        if file.exists():
            raise TrainingError(file.read_text()) from None
        raise
    except Exception as error:
        has_no_memory = is_out_of_memory(error)
        reason = OUT_OF_MEMORY if has_no_memory else str(error)
        if processes.world_size > 1:
            with suppress(OSError):
                write_text(file, f"process {processes.rank}: {type(error).__name__}: {reason}")
        if has_no_memory:
            raise TrainingError(OUT_OF_MEMORY) from None
        raise


def _say_how_it_ended(result: Result, planned: TrainParams) -> None:
    before, best, num_epochs = result.initial_nats_per_char, result.best, len(result.epochs)
    if num_epochs < planned.epochs:
        log.info(
            "stopped after epoch %d of %d: epoch %d is the best, and %d after it were not better "
            "(train.early_stopping_epochs)", num_epochs, planned.epochs, best.epoch, num_epochs - best.epoch,
        )  # fmt: skip
    if before is not None and best.val_nats_per_char >= before:
        log.warning(
            "no epoch is better than the model that training began from: val %.4f after epoch %d, %.4f before: "
            "keep that model for this text, %s", best.val_nats_per_char, best.epoch, before, planned.initial,
        )  # fmt: skip


def _write(paths: Paths, result: Result, vocab: Vocab) -> None:
    """Write all outputs, at the very end: none appears if training fails."""
    save_model(paths.model, result.weights, result.shape, vocab)
    metrics = {
        "best_epoch": result.best.epoch,
        "num_epochs": len(result.epochs),
        "num_steps": result.epochs[-1].step,
        "num_parameters": result.num_parameters,
        "train_nats_per_char": result.best.train_nats_per_char,
        "val_nats_per_char": result.best.val_nats_per_char,
        **(
            {"initial_val_nats_per_char": began}
            if (began := result.initial_nats_per_char) is not None
            else {}
        ),
    }
    write_text(paths.train / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    tables = Tables(table(result.epochs, EpochRow._fields), table(result.steps, StepRow._fields))
    write_tables(paths.train, tables, paths.model / WEIGHTS)


if __name__ == "__main__":
    sys.exit(stage.run(run))
