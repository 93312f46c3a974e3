"""Stage train: encoded text -> model.

Start it by `python -m pipeline train`, `accelerate launch -m pipeline train` or torchrun.
"""

import json
import logging
from contextlib import ExitStack

from charlstm.errors import CharlstmError
from charlstm.files.atomic import write_text
from charlstm.history import EpochRow, StepRow, Tables, table, write_tables
from charlstm.model.initialization import load_initial
from charlstm.model.model_folder import save_model
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING, TrainParams
from charlstm.text.encoded import load_parts
from charlstm.text.vocabulary import Vocab
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.loop import Data, Result, fit
from charlstm.training.processes import Processes
from charlstm.training.sizes import shape_of
from pipeline import hardware
from pipeline.run import unfinished
from pipeline.run.dvc import Paths
from pipeline.run.epoch_texts import epoch_prompts
from pipeline.run.interruption import SIGNALS, Interruption, handled_signals
from pipeline.run.main_process import MainProcess
from pipeline.run.settings import seconds
from pipeline.run.stage import Stage

log = logging.getLogger("charlstm")

FAILURE = "failure.txt"


def run(stage: Stage) -> None:
    """Train on the launcher's processes and devices, from the start or the newest checkpoint."""
    params = stage.params
    # Configure the hardware first, because threads and kernels affect how results are rounded.
    hardware.set_num_threads(hardware.work_of(params))
    hardware.keep_freed_memory()
    hardware.use_reproducible_kernels()

    if stage.inputs:  # an earlier start may have failed
        (unfinished.folder_of(stage.fingerprint) / FAILURE).unlink(missing_ok=True)
    # Load all inputs now: a process that fails later leaves the other processes waiting.
    data = _load(stage)
    prompts = epoch_prompts(params, data.val.ids, data.vocab)

    interruption = Interruption()
    with handled_signals(SIGNALS, interruption.on_signal), ExitStack() as opened:
        processes = Processes(
            params.train.precision,
            timeout_seconds=seconds("CHARLSTM_TIMEOUT_SECONDS"),
            on_cpu=hardware.is_kept_on_cpu(),
        )
        with processes.interrupted_by_lost_peers():
            fingerprint = _shared_fingerprint(processes, stage.fingerprint)
            folder = unfinished.folder_of(fingerprint)
            checkpoints = CheckpointFolder(folder, seconds("CHARLSTM_CHECKPOINT_SECONDS"))
            main = MainProcess(opened)
            processes.on_main(lambda: main.open(stage, data, prompts))

            # Train until the last epoch, an early stop or a request to stop.
            with processes.sharing_failures(folder / FAILURE):
                result = fit(
                    data, params.model, params.train, processes, checkpoints, main.observers,
                    interruption.poll,
                )  # fmt: skip

            processes.close()
            # Write outputs only after success. Mark the training as finished only after that.
            if processes.is_main:
                _write(stage.paths, result, data.vocab)
                _log_ending(result, params.train)
                main.finish(stage, result, hardware.peak_memory_mib(processes.device.type))


def _load(stage: Stage) -> Data:
    params = stage.params
    paths = stage.paths
    vocab, (train, val) = load_parts(
        paths.encoded,
        ("train", "val"),
        # The first process of each machine verifies the files.
        is_verified=not stage.inputs,
    )
    initial = None
    if str(paths.initial) != NOTHING:
        initial = load_initial(paths.initial, vocab, shape_of(params.model, len(vocab)))
    return Data(train, val, vocab, initial)


def _shared_fingerprint(processes: Processes, fingerprint: str) -> str:
    """Return the fingerprint of process 0. It is empty on processes that hashed no inputs.

    Collective: every process must call this.

    Raises:
        CharlstmError: the processes differ in their inputs or their precision.
    """
    fingerprints = processes.gather_objects(fingerprint)
    if len(set(fingerprints) - {""}) > 1:
        raise CharlstmError(
            "the processes have different parameters, data or code: check out the same commit on "
            "all nodes and run `dvc pull download split encode` on each node"
        )
    if len(set(processes.gather_objects(processes.is_bf16))) > 1:
        raise CharlstmError(
            "only some of the processes have bf16 hardware: set train.precision to fp32"
        )
    return fingerprints[0]


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
