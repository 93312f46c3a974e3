"""The training loop: it trains, validates after each epoch, and returns the best weights.

One or more processes run the loop together. Training can stop after any step and resume from a
checkpoint, with a bit-identical result. With another number of processes, results differ only by
rounding.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.errors import Interrupted, TrainingError
from charlstm.history import EpochRow, StepRow
from charlstm.model.initialization import InitialWeights
from charlstm.model.protocols import LossSum, sliding, windowed
from charlstm.model.shape import ModelShape
from charlstm.params import ModelParams, TrainParams
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    restore_newest,
    to_checkpoint,
)
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes
from charlstm.training.progress import ADVICE, Observer, Plan, Progress, StepMeter
from charlstm.training.step_boundary import StepBoundary


class Data(NamedTuple):
    """The encoded training and validation parts, and the vocabulary that decodes them.

    `initial` has the weights of a trained model if training starts from a trained model.
    """

    train: EncodedText
    val: EncodedText
    vocab: Vocab
    initial: InitialWeights | None = None


class Result(NamedTuple):
    """The result of a training: the best weights and the whole history."""

    weights: dict[str, Tensor]
    shape: ModelShape
    epochs: list[EpochRow]
    steps: list[StepRow]
    best: EpochRow
    train_seconds: float
    # Validation loss of the model from which training started. None if the weights were random.
    initial_nats_per_char: float | None


def fit(
    data: Data,
    model: ModelParams,
    params: TrainParams,
    processes: Processes,
    checkpoints: CheckpointFolder,
    observers: Sequence[Observer] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train until epoch `params.epochs` or early stopping. Return the same result on every process.

    Training resumes from the newest checkpoint. If any process is asked to stop, all processes stop
    after the same step, with a checkpoint on disk. Collective: every process must call this.

    Args:
        observers: observers of this process. Only process 0 needs observers that show something.
        should_stop: returns True after this process was asked to stop.

    Raises:
        TrainingError: training with these settings is impossible on this text, or the loss is not
            finite.
        Interrupted: a process was asked to stop, or a process was lost.
        OSError: a checkpoint cannot be written. Older checkpoints are unchanged.
    """
    with processes.interrupted_by_lost_peers():
        learner = Learner(data.train, len(data.vocab), model, params, processes, data.initial)
        boundary = StepBoundary(processes, checkpoints, should_stop)
        return _Training(data, params, learner, boundary, observers).run()


class _Training:
    """One training, from its beginning or its newest checkpoint to its end."""

    def __init__(
        self,
        data: Data,
        params: TrainParams,
        learner: Learner,
        boundary: StepBoundary,
        observers: Sequence[Observer],
    ) -> None:
        self.params = params
        self.learner = learner
        self.boundary = boundary
        self.observers = observers
        self.processes = learner.processes
        self.data = data
        restored = restore_newest(learner, boundary.checkpoints)
        self.progress, self.best_weights = restored or (Progress(), self.copy_weights())
        self.meter = StepMeter(self.progress)

    def run(self) -> Result:
        progress = self.progress
        self.boundary.start(progress.step)
        if self.data.initial is not None and progress.step == 0:
            progress.initial_nats_per_char = self.validate().nats_per_char
        plan = self.plan()
        for observer in self.observers:
            observer.on_start(plan, progress)

        if not self.is_done():
            while not self.is_done():
                self.run_epoch()
                self.end_epoch()
            # If writing the outputs fails, the next start uses this checkpoint, without training.
            self.boundary.save(progress.step, self.checkpoint)

        assert progress.best is not None  # params.epochs > 0
        return Result(
            weights=self.best_weights,
            shape=self.learner.shape,
            epochs=progress.epochs,
            steps=progress.steps,
            best=progress.best,
            train_seconds=progress.train_seconds,
            initial_nats_per_char=progress.initial_nats_per_char,
        )

    def plan(self) -> Plan:
        return Plan(
            num_epochs=self.params.epochs,
            num_steps=self.learner.num_steps,
            chars_per_epoch=self.learner.batches.chars_per_epoch,
            num_parameters=self.learner.shape.num_parameters,
            num_processes=self.processes.world_size,
            device=str(self.processes.device),
            precision=self.processes.precision.name,
            precision_reason=self.processes.precision.reason,
            unit=self.data.vocab.unit,
        )

    def is_done(self) -> bool:
        """Return whether all epochs are complete or early stopping applies."""
        num_epochs = len(self.progress.epochs)
        best = self.progress.best
        patience = self.params.early_stopping_epochs
        if patience and best is not None and num_epochs - best.epoch >= patience:
            return True
        return num_epochs >= self.params.epochs

    def run_epoch(self) -> None:
        """Train for the remaining steps of the current epoch."""
        progress = self.progress
        batches = self.learner.batches
        if progress.step_in_epoch == 0:
            self.learner.start_epoch()
        self.meter.start_clock()
        started = time.perf_counter() - progress.epoch_seconds

        while progress.step_in_epoch < batches.steps_per_epoch:
            taken = self.learner.take_step(progress.step, progress.epoch, progress.step_in_epoch)
            if taken is not None:
                self.meter.add(taken, batches.num_chars(progress.epoch, progress.step_in_epoch))
            progress.step += 1
            progress.step_in_epoch += 1
            is_last = progress.step_in_epoch == batches.steps_per_epoch
            if is_last or progress.step % self.params.log_every_steps == 0:
                self.read_meter()
            progress.epoch_seconds = time.perf_counter() - started
            if self.boundary.check(progress.step, self.checkpoint):
                raise Interrupted(
                    f"stopped on request after step {progress.step} of {self.learner.num_steps}"
                )

    def read_meter(self) -> None:
        """Record the mean loss and gradient norm of the steps since the last reading."""
        progress = self.progress
        batches = self.learner.batches
        row = self.meter.read(self.processes.gather)
        if row is not None:
            speed = self.meter.chars_per_second()
            # The last step of an epoch may read fewer ids than the others.
            full_batches = progress.step_in_epoch * self.params.batch_size * self.params.context_len
            seen_in_epoch = min(full_batches, batches.ids_per_epoch)
            ids_seen = (progress.epoch - 1) * batches.ids_per_epoch + seen_in_epoch
            for observer in self.observers:
                observer.on_steps(row, speed, ids_seen)
        self.meter.start_clock()

    def end_epoch(self) -> None:
        """Validate the averaged weights, and keep a copy if they beat every earlier epoch."""
        progress = self.progress
        if progress.loss.num_chars == 0:
            raise TrainingError(f"every step of epoch {progress.epoch} was skipped; {ADVICE}")
        validation = self.validate()
        # A model whose perplexity is not finite could not be evaluated.
        if not math.isfinite(validation.perplexity):
            raise TrainingError(
                f"the validation loss is {validation.nats_per_char:.4g} nats/char after epoch "
                f"{progress.epoch}, so its perplexity is not finite; lower train.learning_rate"
            )
        train_loss = progress.loss.nats_per_char
        row = EpochRow(progress.epoch, progress.step, train_loss, validation.nats_per_char)
        if progress.best is None or row.val_nats_per_char < progress.best.val_nats_per_char:
            progress.best = row
            self.best_weights = self.copy_weights()
        for observer in self.observers:
            observer.on_epoch(row, self.learner.average.model, progress.epoch_seconds)

        progress.epochs.append(row)
        progress.train_seconds += progress.epoch_seconds
        progress.step_in_epoch = 0
        progress.loss = LossSum()
        progress.epoch_seconds = 0.0

    def validate(self) -> LossSum:
        """Return the `windowed_C` or `sliding_C` validation loss of the averaged weights.

        All processes share the work. Collective: every process must call this.
        """
        model = self.learner.average.model
        text = self.data.val.first(self.params.validation_chars)
        context_len = self.params.validation_context_len
        if self.params.validation == "sliding":
            rows = self.learner.batches.rows
            mine = sliding(model, text, context_len, self.params.batch_size, rows)
        else:
            processes = self.processes
            mine = windowed(
                model, text, context_len, rank=processes.rank, world_size=processes.world_size
            )
        nats, num_chars = self.processes.all_reduce_sum(torch.tensor(mine, dtype=torch.float64))
        return LossSum(float(nats), int(num_chars))

    def copy_weights(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights."""
        weights = self.learner.average.model.state_dict()
        return {name: weight.clone() for name, weight in weights.items()}

    def checkpoint(self) -> Checkpoint:
        """Return the full training state. Collective: every process must call this.

        Raises:
            TrainingError: a loss is not finite, so the state is not worth saving.
        """
        self.meter.flush(self.processes.gather)
        return to_checkpoint(self.learner, self.progress, self.best_weights)
