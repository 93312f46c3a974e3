"""Stage train: encoded text -> model.

Start it by `python -m`, `accelerate launch -m` or `torchrun -m`.
"""

import json
import logging
import os
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
from pipeline import hardware
from pipeline.checkpoint_mirror import CheckpointMirror
from pipeline.lineage import provenance
from pipeline.lineage.run_page import RunSummary, page_tags, summary_of
from pipeline.run import stage, unfinished
from pipeline.run.console import TrainingConsole
from pipeline.run.dvc import Paths
from pipeline.run.epoch_texts import EpochTexts, epoch_prompts
from pipeline.run.interruption import SIGNALS, Interruption, handled_signals
from pipeline.run.project import CHECKPOINT_MIRROR, seconds, store

log = logging.getLogger("charlstm")

FAILURE = "failure.txt"
FINGERPRINT_TAG = "fingerprint"
OUT_OF_MEMORY = (
    "out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size, or "
    "start more processes"
)


def run(params: Params, paths: Paths) -> None:
    """Train on the launcher's processes and devices, from the start or the newest checkpoint."""
    # Configure the hardware first, because threads and kernels affect how results are rounded.
    hardware.set_num_threads(hardware.work_of(params))
    hardware.keep_freed_memory()
    hardware.use_reproducible_kernels()

    # Load all inputs now: a process that fails later leaves the other processes waiting.
    data = _load(params, paths)
    prompts = epoch_prompts(params, data.val.ids, data.vocab)
    tags = {**provenance.tags(params, paths), **provenance.environment()}
    summary = summary_of(params, tags)
    fingerprint = unfinished.fingerprint(params)
    folder = unfinished.folder_of(fingerprint)
    checkpoints = CheckpointFolder(folder, seconds("CHARLSTM_CHECKPOINT_SECONDS"))
    (folder / FAILURE).unlink(missing_ok=True)  # an earlier start may have failed

    interruption = Interruption()
    with handled_signals(SIGNALS, interruption.on_signal), ExitStack() as opened:
        processes = Processes(
            params.train.precision,
            timeout_seconds=seconds("CHARLSTM_TIMEOUT_SECONDS"),
            on_cpu=hardware.is_kept_on_cpu(),
            failure=folder / FAILURE,
        )
        with processes.interrupted_by_lost_peers():
            _check_same_training(processes, fingerprint)
            _warn_of_few_rows(processes, params.train.batch_size)
            # Only process 0 opens the training's folder, sends data to MLflow and prints.
            training = processes.on_main(lambda: _open(fingerprint, opened))
            observers: list[Observer] = []
            if processes.is_main:
                tags |= {**page_tags(summary), FINGERPRINT_TAG: fingerprint}
                record = TrainingRecord(folder, training.training_id, params.flat(), tags)
                console = TrainingConsole()
                shows = [console.show_texts, record.log_texts]
                texts = EpochTexts(prompts, data.vocab, params.train.seed, shows)
                observers = [console, record, texts]
                patience = seconds("CHARLSTM_TRACKING_SECONDS")
                published = published_while_training(store(), folder, patience)
                for context in (published, console, record):
                    opened.enter_context(context)

            # Train until the last epoch, an early stop or a request to stop.
            with _failure_shared(processes, folder / FAILURE):
                result = fit(
                    data, params.model, params.train, processes, observers, checkpoints,
                    interruption.poll,
                )  # fmt: skip

            processes.close()
            # Write outputs only after success. Mark the training as finished only after that.
            if processes.is_main:
                _write(paths, result, data.vocab)
                _log_ending(result, params.train)
                training.finish(paths.train / SUMS)
                tags = _end_tags(summary, result, paths, processes.device.type)
                record.finish(paths.model, len(result.epochs), result.train_seconds, tags)


def _load(params: Params, paths: Paths) -> Data:
    vocab, (train, val) = load_parts(
        paths.encoded, ("train", "val"), separator=params.split.document_separator
    )
    initial = None
    if str(paths.initial) != NOTHING:
        initial = load_initial(paths.initial, vocab, shape_of(params.model, len(vocab)))
    return Data(train, val, vocab, initial)


def _check_same_training(processes: Processes, fingerprint: str) -> None:
    """Raise CharlstmError if the processes differ in their inputs or their precision.

    Collective: every process must call this.
    """
    if not processes.all_equal(fingerprint):
        raise CharlstmError(
            "the processes have different parameters, data or code: check out the same commit on "
            "all nodes and run `dvc pull download split encode` on each node"
        )
    if not processes.all_equal(str(processes.is_bf16)):
        raise CharlstmError(
            "only some of the processes have bf16 hardware: set train.precision to fp32"
        )


def _warn_of_few_rows(processes: Processes, batch_size: int) -> None:
    advice = hardware.advice_on_rows(batch_size, processes.world_size)
    if advice and processes.is_main and processes.device.type == "cuda":
        log.warning(advice)


def _open(fingerprint: str, opened: ExitStack) -> unfinished.Unfinished:
    """Lock the training's folder and start its checkpoint mirror, if any. `opened` ends both."""
    training = opened.enter_context(unfinished.start_or_resume(fingerprint))
    if url := os.environ.get(CHECKPOINT_MIRROR):
        opened.enter_context(
            CheckpointMirror(url, training.folder, is_repeated=training.is_repeated)
        )
    return training


@contextmanager
def _failure_shared(processes: Processes, file: Path) -> Iterator[None]:
    """Share the reason for a failure with the other processes through `file`.

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
        if is_out_of_memory(error):
            error = TrainingError(OUT_OF_MEMORY)
        if processes.world_size > 1:
            with suppress(OSError):
                write_text(file, f"process {processes.rank}: {type(error).__name__}: {error}")
        raise error


def _write(paths: Paths, result: Result, vocab: Vocab) -> None:
    save_model(paths.model, result.weights, result.shape, vocab)
    metrics = {
        "best_epoch": result.best.epoch,
        "num_epochs": len(result.epochs),
        "num_steps": result.epochs[-1].step,
        "num_parameters": result.shape.num_parameters,
        "train_nats_per_char": result.best.train_nats_per_char,
        "val_nats_per_char": result.best.val_nats_per_char,
    }
    if result.initial_nats_per_char is not None:
        metrics["initial_val_nats_per_char"] = result.initial_nats_per_char
    write_text(paths.train / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    tables = Tables(table(result.epochs, EpochRow._fields), table(result.steps, StepRow._fields))
    write_tables(paths.train, tables, paths.model / WEIGHTS)


def _end_tags(
    summary: RunSummary, result: Result, paths: Paths, device_type: str
) -> dict[str, str]:
    summary = summary._replace(
        num_parameters=result.shape.num_parameters,
        val_nats_per_char=result.best.val_nats_per_char,
    )
    peak = {"hardware.peak_memory_mib": f"{hardware.peak_memory_mib(device_type):.0f}"}
    return page_tags(summary) | provenance.train_md5(paths) | peak


def _log_ending(result: Result, planned: TrainParams) -> None:
    """Log an early stop. Log a warning if no epoch was better than the initial model."""
    best = result.best
    num_epochs = len(result.epochs)
    if num_epochs < planned.epochs:
        log.info(
            "stopped after epoch %d of %d: no epoch since epoch %d was better "
            "(train.early_stopping_epochs)",
            num_epochs, planned.epochs, best.epoch,
        )  # fmt: skip
    before = result.initial_nats_per_char
    if before is not None and best.val_nats_per_char >= before:
        log.warning(
            "no epoch is better than the initial model: val %.4f after epoch %d, %.4f before "
            "training; for this text, use %s instead",
            best.val_nats_per_char, best.epoch, before, planned.initial,
        )  # fmt: skip


if __name__ == "__main__":
    stage.end_process(lambda: stage.run(run))
