"""Training: epochs of steps, validation after each, the best weights at the end, over 1..N processes.

It can stop after any step and resume from a checkpoint, to the same result bit by bit; with another number of
processes, to the same result but for rounding.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.errors import Interrupted, TrainingError
from charlstm.history import EpochRow, StepRow
from charlstm.model.initial_model import InitialWeights
from charlstm.model.protocols import LossSum, sliding, windowed
from charlstm.model.shape import ModelShape
from charlstm.params import ModelParams, TrainParams
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.checkpoint import restore_newest, to_checkpoint
from charlstm.training.checkpoint_folder import Checkpoint, CheckpointFolder
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes
from charlstm.training.progress import ADVICE, Observer, Plan, Progress, StepMeter, StepTotals
from charlstm.training.step_boundary import StepBoundary

log = logging.getLogger(__name__)


class Data(NamedTuple):
    """Encoded training and validation parts, the vocabulary that decodes them, and what a training may have besides."""

    train: EncodedText
    val: EncodedText
    vocab: Vocab
    initial: InitialWeights | None = None  # of a trained model, to begin from


class Result(NamedTuple):
    """The best weights, and the whole history."""

    weights: dict[str, Tensor]
    shape: ModelShape
    epochs: list[EpochRow]
    steps: list[StepRow]
    best: EpochRow
    num_parameters: int
    train_seconds: float
    initial_nats_per_char: float | None  # validation, of the model that training began from


def fit(
    data: Data,
    model: ModelParams,
    params: TrainParams,
    processes: Processes,
    observers: Sequence[Observer],
    checkpoints: CheckpointFolder | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train until `params.epochs` or early stopping; every process calls this and gets the same result.

    Each process has its own `observers`; those that show something are process 0's. With `checkpoints` (on every
    process), training resumes from the newest one. If any process is asked to stop, all stop after the same step, with
    a checkpoint on disk.

    Raises:
        TrainingError: the settings cannot train on this text, or the loss is not finite.
        Interrupted: a process was asked to stop, or one is lost.
        OSError: a checkpoint cannot be written; the ones before are as they were.
    """
    with processes.interrupted_by_lost_peers():
        learner = Learner(data.train, len(data.vocab), model, params, processes, data.initial)
        boundary = StepBoundary(processes, checkpoints, should_stop)
        return _Training(data, params, learner, boundary).run(observers)


class _Training:
    """One training run, from its start or its newest checkpoint to its end."""

    def __init__(
        self, data: Data, params: TrainParams, learner: Learner, boundary: StepBoundary
    ) -> None:
        self.data, self.params, self.learner, self.boundary = data, params, learner, boundary
        self.processes = learner.processes
        restored = restore_newest(learner, boundary.checkpoints)
        self.progress, self.best_weights = restored or (Progress(), self.weights())
        self.meter = StepMeter(self.progress.totals)

    def run(self, observers: Sequence[Observer]) -> Result:
        self.boundary.start(self.progress.step)
        if self.data.initial is not None and self.progress.step == 0:
            self.progress.initial_nats_per_char = self.validate().nats_per_char
        plan = self.plan()
        for observer in observers:
            observer.on_start(plan, self.progress)
        is_saved = self.is_done()
        while not self.is_done():
            self.run_epoch(observers)
            self.end_epoch(observers)
        if not is_saved:  # if writing the outputs fails, training is not repeated
            self.boundary.save(self.progress.step, self.checkpoint)
        now = self.progress
        assert now.best is not None  # params.epochs > 0
        return Result(
            weights=self.best_weights,
            shape=self.learner.shape,
            epochs=now.epochs,
            steps=now.steps,
            best=now.best,
            num_parameters=self.learner.model.shape.num_parameters,
            train_seconds=now.train_seconds,
            initial_nats_per_char=now.initial_nats_per_char,
        )

    def plan(self) -> Plan:
        return Plan(
            num_epochs=self.params.epochs,
            num_steps=self.learner.num_steps,
            chars_per_epoch=self.learner.batches.chars_per_epoch,
            num_parameters=self.learner.model.shape.num_parameters,
            num_processes=self.processes.world_size,
            device=str(self.processes.device),
            precision=self.processes.precision.name,
            precision_reason=self.processes.precision.reason,
            unit=self.data.vocab.unit,
        )

    def is_done(self) -> bool:
        """Whether the last epoch is over, or early stopping applies."""
        now, patience = self.progress, self.params.early_stopping_epochs
        if patience and now.best is not None and len(now.epochs) - now.best.epoch >= patience:
            return True
        return len(now.epochs) >= self.params.epochs

    def run_epoch(self, observers: Sequence[Observer]) -> None:
        """The remaining steps of the current epoch."""
        now, batches = self.progress, self.learner.batches
        if now.step_in_epoch == 0:
            self.learner.start_epoch()
        self.meter.start_clock()
        before, started = now.epoch_seconds, time.perf_counter()
        while now.step_in_epoch < batches.steps_per_epoch:
            taken = self.learner.take_step(now.step, now.epoch, now.step_in_epoch)
            if taken is not None:
                num_chars = batches.num_chars(now.epoch, now.step_in_epoch)
                self.meter.add(now.step + 1, taken.rate, num_chars, taken.nats, taken.gradient_norm)
            now.step, now.step_in_epoch = now.step + 1, now.step_in_epoch + 1
            if (
                now.step % self.params.log_every_steps == 0
                or now.step_in_epoch == batches.steps_per_epoch
            ):
                self.read_meter(observers)
            now.epoch_seconds = before + time.perf_counter() - started
            if self.boundary.check(now.step, self.checkpoint):
                raise Interrupted(
                    f"stopped as asked, after step {now.step} of {self.learner.num_steps}"
                )

    def read_meter(self, observers: Sequence[Observer]) -> None:
        """Record the mean of the last steps."""
        now = self.progress
        row, loss = self.meter.read(now.step, now.epoch, self.processes.gather)
        now.loss = now.loss.plus(loss)
        if row is not None:
            speed, batches = self.meter.chars_per_second(), self.learner.batches
            in_epoch = (
                now.step_in_epoch * self.params.batch_size * self.params.context_len
            )  # but for its last step
            seen = (now.epoch - 1) * batches.ids_per_epoch + min(in_epoch, batches.ids_per_epoch)
            now.steps.append(row)
            for observer in observers:
                observer.on_steps(row, speed, seen)
        now.totals = StepTotals()
        self.meter = StepMeter(now.totals)

    def end_epoch(self, observers: Sequence[Observer]) -> None:
        """Validate, keep the best weights."""
        now = self.progress
        if now.loss.num_chars == 0:
            raise TrainingError(f"every step of epoch {now.epoch} was skipped; {ADVICE}")
        validation = self.validate()
        row = EpochRow(now.epoch, now.step, now.loss.nats_per_char, validation.nats_per_char)
        self.check_validation(validation)
        if now.best is None or row.val_nats_per_char < now.best.val_nats_per_char:
            now.best, self.best_weights = row, self.weights()
        for observer in observers:
            observer.on_epoch(row, self.learner.averaged, now.epoch_seconds)
        now.epochs.append(row)
        now.train_seconds += now.epoch_seconds
        now.step_in_epoch, now.loss, now.epoch_seconds = 0, LossSum(0.0, 0), 0.0

    def check_validation(self, loss: LossSum) -> None:
        """A model whose perplexity is no number cannot be evaluated; one worse than guessing deserves a warning."""
        epoch, text = self.progress.epoch, self.validation_text()
        uniform = math.log(len(self.data.vocab)) * (len(text) / text.num_chars)
        if not math.isfinite(loss.perplexity):
            raise TrainingError(
                f"the validation loss is {loss.nats_per_char:.4g} nats/char after epoch {epoch}, its perplexity is not "
                f"finite; lower train.learning_rate"
            )
        if loss.nats_per_char > uniform and self.processes.is_main:
            log.warning(
                "the validation loss of epoch %d, %.4g nats/char, is above that of a uniform guess, %.4g; if it stays "
                "there, lower train.learning_rate",
                *(epoch, loss.nats_per_char, uniform),
            )

    def validation_text(self) -> EncodedText:
        """The text that is read after each epoch."""
        return self.data.val.first(self.params.validation_chars)

    def validate(self) -> LossSum:
        """`windowed_C` or `sliding_C` of the averaged weights, over all processes, of `validation_chars` characters."""
        model, text, length = (
            self.learner.averaged,
            self.validation_text(),
            self.params.validation_context_len,
        )
        if self.params.validation == "sliding":
            mine = sliding(model, text, length, self.params.batch_size, self.learner.batches.rows)
        else:
            process = {"rank": self.processes.rank, "world_size": self.processes.world_size}
            mine = windowed(model, text, length, **process)
        whole = self.processes.all_reduce_sum(torch.tensor(mine, dtype=torch.float64))
        return LossSum(float(whole[0]), int(whole[1]))

    def weights(self) -> dict[str, Tensor]:
        """A copy of the averaged weights."""
        return {name: weight.clone() for name, weight in self.learner.averaged.state_dict().items()}

    def checkpoint(self) -> Checkpoint:
        """The whole state; collective.

        Raises:
            TrainingError: it is not worth keeping: a loss is not finite.
        """
        self.meter.flush(self.processes.gather)
        return to_checkpoint(self.learner, self.progress, self.best_weights)
