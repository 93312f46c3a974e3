"""Stage train: encoded text -> model. Started by `python -m`, `accelerate launch -m` or `torchrun -m`."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from charlstm.errors import CharlstmError, Interrupted, TrainingError
from charlstm.files.atomic import SUMS, write_text
from charlstm.history import EpochRow, StepRow, Tables, table, write_tables
from charlstm.model.model_folder import load_initial, save_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING, Params, TrainParams
from charlstm.text.encoded import load_parts
from charlstm.text.vocabulary import Vocab
from charlstm.tracking.tracker import TrainingTracker
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.loop import Data, Result, fit
from charlstm.training.processes import Processes, is_out_of_memory
from charlstm.training.progress import Observer
from charlstm.training.sizes import shape_of
from pipeline.checkpoint_mirror import CheckpointMirror
from pipeline.hardware import is_kept_on_cpu, keep_freed_memory, set_num_threads, use_reproducible_kernels, work_of
from pipeline.lineage import provenance
from pipeline.lineage.provenance import page_tags, summary_of
from pipeline.run import stage, unfinished
from pipeline.run.console import EpochTexts, TrainingConsole, epoch_prompts
from pipeline.run.dvc import Paths
from pipeline.run.interruption import handle_signals
from pipeline.run.project import CHECKPOINT_MIRROR, STATE_FOLDER, project_root, seconds, store

log = logging.getLogger("charlstm")

FAILURE = "failure.txt"
FINGERPRINT_TAG = "fingerprint"
OUT_OF_MEMORY = (
    "out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size, or start more processes"
)


def run(params: Params, paths: Paths) -> None:
    """Train on whatever processes and devices the launcher decided on, from the start or from a checkpoint."""
    set_num_threads(work_of(params))
    keep_freed_memory()
    use_reproducible_kernels()
    data = _load(params, paths)
    # On every process: what fails here must fail before they need each other.
    prompts = epoch_prompts(params, data.val.ids, data.vocab)
    tags = {**provenance.tags(params, paths), **provenance.environment()}
    fingerprint = unfinished.fingerprint(params)
    seconds_between = seconds("CHARLSTM_CHECKPOINT_SECONDS")
    failure = project_root() / STATE_FOLDER / fingerprint / FAILURE
    failure.unlink(missing_ok=True)  # of an earlier start: those of this one come when all processes have met
    with handle_signals() as interruption:
        timeout, on_cpu = seconds("CHARLSTM_TIMEOUT_SECONDS"), is_kept_on_cpu()
        processes = Processes(params.train.precision, timeout_seconds=timeout, on_cpu=on_cpu)

        def train(observers: Sequence[Observer], folder: Path) -> Result:
            checkpoints = CheckpointFolder(folder, seconds_between)
            with _reason_shared(processes, failure):
                return fit(data, params.model, params.train, processes, observers, checkpoints, interruption.poll)

        with ExitStack() as stack, processes.interrupted_by_lost_peers(), _out_of_memory_explained():
            _check_same_training(processes, fingerprint)
            begun = list[unfinished.Unfinished]()

            def begin() -> None:
                resumed = unfinished.start_or_resume(fingerprint)
                begun.append(stack.enter_context(resumed))
                if url := os.environ.get(CHECKPOINT_MIRROR):
                    stack.enter_context(CheckpointMirror(url, begun[0].folder, is_anew=begun[0].is_anew))

            processes.on_main(begin)
            if processes.is_main:
                _train_and_write(params, paths, data.vocab, prompts, tags, begun[0], train)
            else:
                train([], Path())
        processes.close()  # not after a failure: NCCL would wait for those that are in a collective call


@contextmanager
def _reason_shared(processes: Processes, file: Path) -> Iterator[None]:
    """Tell the other processes why this one fails; where another one is lost, fail for the reason that it has told."""
    try:
        yield
    except Interrupted:
        if file.exists():
            raise TrainingError(file.read_text()) from None
        raise
    except Exception as error:
        reason = OUT_OF_MEMORY if is_out_of_memory(error) else str(error)
        if processes.world_size > 1:
            with suppress(OSError):
                write_text(file, f"process {processes.rank}: {type(error).__name__}: {reason}")
        raise


@contextmanager
def _out_of_memory_explained() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(OUT_OF_MEMORY) from None


def _load(params: Params, paths: Paths) -> Data:
    vocab, (train, val) = load_parts(paths.encoded, ("train", "val"), separator=params.split.document_separator)
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
        raise CharlstmError("not every process's hardware multiplies bf16: set train.precision to fp32")


def _train_and_write(
    params: Params,
    paths: Paths,
    vocab: Vocab,
    prompts: Sequence[str],
    tags: dict[str, str],
    work: unfinished.Unfinished,
    train: Callable[[Sequence[Observer], Path], Result],
) -> None:
    console = TrainingConsole()
    shown = {**tags, **page_tags(summary_of(params, tags)), FINGERPRINT_TAG: work.folder.name}
    patience = seconds("CHARLSTM_TRACKING_SECONDS")
    tracker = TrainingTracker(store(), work.folder, params.flat(), shown, work.training_id, patience)
    status, reason = "FAILED", ""
    try:
        texts = EpochTexts(prompts, vocab, params.train.seed, [console.show_texts, tracker.log_texts])
        result = train([console, tracker, texts], work.folder)
        _write(paths, result, vocab)
        _say_how_it_ended(result, params.train)
        work.finish(paths.train / SUMS)
        status = "FINISHED"
    except (KeyboardInterrupt, Interrupted) as error:
        status, reason = "KILLED", str(error) or "interrupted"
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        console.close()
        if status == "FINISHED":
            summary = summary_of(params, tags)._replace(
                num_parameters=result.num_parameters, val_nats_per_char=result.best.val_nats_per_char
            )
            tracker.finish(paths.model, result.train_seconds, page_tags(summary) | provenance.train_md5(paths))
        else:
            tracker.abandon(status, reason)


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
        **({"initial_val_nats_per_char": began} if (began := result.initial_nats_per_char) is not None else {}),
    }
    write_text(paths.train / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    tables = Tables(table(result.epochs, EpochRow._fields), table(result.steps, StepRow._fields))
    write_tables(paths.train, tables, paths.model / WEIGHTS)


if __name__ == "__main__":
    sys.exit(stage.run(run))
