"""Stage train: encoded text -> model. Started by `python -m`, `accelerate launch -m` or `torchrun -m`."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CharlstmError, Interrupted, TrainingError
from charlstm.files.atomic import sha256, write_text
from charlstm.files.checksums import SUMS
from charlstm.model.model_folder import save_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING, Params, TrainParams
from charlstm.text.encoded import load_parts
from charlstm.text.soft_targets import load_soft_targets
from charlstm.text.vocabulary import Vocab
from charlstm.tracking.runs import FINGERPRINT_TAG, TrainingTracker
from charlstm.training.batches import rows_of
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.history import EpochRow, StepRow, Tables, table, write_tables
from charlstm.training.initial import load_initial
from charlstm.training.needs import check_memory, is_out_of_memory, memory_needs
from charlstm.training.processes import Processes
from charlstm.training.progress import Observer
from charlstm.training.train import Data, Result, fit
from pipeline.dvc import unfinished
from pipeline.dvc.paths import Paths
from pipeline.provenance import hashes, provenance
from pipeline.provenance.summary import page_tags, summary_of
from pipeline.stage import stage
from pipeline.stage.console import TrainingConsole
from pipeline.stage.epoch_texts import EpochTexts, epoch_prompts
from pipeline.stage.hardware import (
    available_memory,
    is_kept_on_cpu,
    keep_freed_memory,
    set_num_threads,
    use_reproducible_kernels,
    work_of,
)
from pipeline.stage.interruption import handle_signals
from pipeline.stage.mirroring import Follower, followed
from pipeline.stage.project import PARAMS
from pipeline.stage.sending import node_metrics, outbox
from pipeline.stage.settings import seconds
from pipeline.stage.tracking_store import STATE_FOLDER, project_root

log = logging.getLogger("charlstm")

Load = Callable[[], tuple[Params, Paths]]
FAILURE = "failure.txt"
OUT_OF_MEMORY = (
    "out of memory: lower train.micro_batch_size, train.context_len or model.hidden_size, or start more processes"
)
CHANGED = (
    "parameters, data or code were changed while training ran, and DVC would take the model for one made of the new; "
    "nothing is lost: with the former ones back in place (git stash, ...) the same command ends at once"
)


class Job(NamedTuple):
    """What a training has of its own beside its parameters and paths; by default, it is the project's training."""

    load: Load = stage.load
    """Gives the same parameters and paths again, if the files that say them have not changed."""
    folder: Path = Path()
    """Has the file of its parameters. Of trainings with the same folder, one runs at a time."""
    tags: Mapping[str, str] = {}
    """More tags for its run."""
    observers: Sequence[Observer] = ()
    """More of those that watch it, on the first process."""


def run(params: Params, paths: Paths, job: Job = Job()) -> None:  # noqa: B008  # it never changes
    """Train on whatever processes and devices the launcher decided on, from the start or from a checkpoint."""
    set_num_threads(work_of(params))
    keep_freed_memory()
    use_reproducible_kernels()
    data = _load(params, paths)
    # On every process: what fails here must fail before they need each other.
    prompts = epoch_prompts(params, data.val.ids, data.vocab)
    tags = {**provenance.tags(params, paths), **provenance.environment(), **job.tags}
    fingerprint = unfinished.fingerprint(params, paths)
    seconds_between = seconds("CHARLSTM_CHECKPOINT_SECONDS")
    failure = project_root() / STATE_FOLDER / fingerprint / FAILURE
    failure.unlink(missing_ok=True)  # of an earlier start: those of this one come when all processes have met
    with handle_signals() as interruption:
        processes = _processes(params)

        def train(observers: Sequence[Observer], folder: Path) -> Result:
            checkpoints = CheckpointFolder(folder, seconds_between)
            stop = interruption.should_stop
            with _reason_shared(processes, failure):
                return fit(data, params.model, params.train, processes, observers, checkpoints, stop)

        def begin() -> None:  # it may wait for another experiment
            checkout, stop = job.folder / unfinished.CHECKOUT, lambda: interruption.is_requested
            begun.append(stack.enter_context(unfinished.start_or_resume(fingerprint, checkout, stop)))
            begun[0].fetch_or_clear_mirror()

        with ExitStack() as stack, processes.interrupted_by_lost_peers(), _out_of_memory_explained():
            _check_memory(params, len(data.vocab), processes)
            _check_same_training(processes, fingerprint)
            begun = list[unfinished.Unfinished]()
            processes.on_main(begin)
            if processes.is_main:
                mirror = _MirrorWatch(stack.enter_context(followed(begun[0].folder)))
                watched = job._replace(observers=[*job.observers, mirror])
                _train_and_write(params, paths, data.vocab, prompts, tags, begun[0], train, watched)
            else:
                # It writes what process 0 writes, and shows it to nobody: else it would wait, maybe for too long.
                with node_metrics(fingerprint):
                    train([EpochTexts(prompts, data.vocab, params.train.seed, [])], Path())
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


class _MirrorWatch(Observer):
    """Sees whether checkpoints are copied."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """See."""
        self._follower.look()


def _load(params: Params, paths: Paths) -> Data:
    vocab, (train, val) = load_parts(
        paths.encoded, ("train", "val"), separator=params.split.document_separator, sha256_of=hashes.sha256
    )
    soft_targets, distillation = None, params.train.distillation
    if distillation.rows:
        soft_targets = load_soft_targets(Path(distillation.text), vocab, params.teachers.parts, hashes.sha256)
    initial = None
    if str(paths.initial) != NOTHING:
        initial = load_initial(paths.initial, vocab, params.model.shape(len(vocab)))
    return Data(train, val, vocab, soft_targets, initial)


def _processes(params: Params) -> Processes:
    return Processes(
        params.train.precision,
        timeout_seconds=seconds("CHARLSTM_TIMEOUT_SECONDS"),
        on_cpu=is_kept_on_cpu(),
    )


def _check_memory(params: Params, vocab_size: int, processes: Processes) -> None:
    """Before anything is built, on every process: what another has taken would be missing."""
    rows = rows_of(processes.rank, processes.world_size, params.train.batch_size)
    needs = memory_needs(params.model.shape(vocab_size), params.train, rows.stop - rows.start)
    check_memory(needs, available_memory(processes.device))


def _check_same_training(processes: Processes, fingerprint: str) -> None:
    if not processes.all_equal(fingerprint):
        raise CharlstmError(
            "the processes see different parameters, data or code: give all nodes the same commit and "
            "`dvc pull download split encode` (for a student also `dvc pull distillation/dvc.yaml`)"
        )
    if not processes.all_equal(str(processes.is_bf16)):
        raise CharlstmError("not every process's hardware multiplies bf16: set train.precision to fp32 or bf16")


def _train_and_write(
    params: Params,
    paths: Paths,
    vocab: Vocab,
    prompts: Sequence[str],
    tags: dict[str, str],
    work: unfinished.Unfinished,
    train: Callable[[Sequence[Observer], Path], Result],
    job: Job,
) -> None:
    console = TrainingConsole()
    shown = {**tags, **page_tags(summary_of(params, tags)), FINGERPRINT_TAG: work.folder.name}
    tracker = TrainingTracker(outbox(), params.flat(), shown, work.training_id)
    status, reason = "FAILED", ""
    try:
        texts = EpochTexts(prompts, vocab, params.train.seed, [console.show_texts, tracker.log_texts])
        result = train([console, tracker, texts, *job.observers], work.folder)
        if unfinished.fingerprint(*job.load()) != work.folder.name:
            raise TrainingError(CHANGED)
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
            tracker.run.set_tags(page_tags(summary))
            provenance.log_lineage(tracker.run, "train", paths, tags, job.folder / PARAMS)
            tracker.finish(sha256(paths.model / WEIGHTS), result.train_seconds)
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
    tables = Tables(
        table(result.epochs, EpochRow._fields),
        table(result.steps, StepRow._fields),
    )
    write_tables(paths.train, tables, paths.model / WEIGHTS)


if __name__ == "__main__":
    sys.exit(stage.run(run))
