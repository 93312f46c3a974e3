"""Training: epochs of steps, validation and texts after each, the best weights at the end, over 1..N processes.

It can stop after any step and go on from a checkpoint, to the same result bit by bit; with another number of
processes, to the same result but for rounding.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm import snapshot
from charlstm.checkpoint import Checkpoint, CheckpointFolder
from charlstm.errors import Interrupted, TrainingError
from charlstm.evaluate import sliding, windowed
from charlstm.history import EpochRow, StepRow, TextRow
from charlstm.learner import Learner
from charlstm.loss import LossSum
from charlstm.meter import ADVICE, StepMeter
from charlstm.model import ModelShape
from charlstm.observer import Observer, Plan
from charlstm.params import ModelParams, TrainParams
from charlstm.pauses import Pauses
from charlstm.processes import Processes
from charlstm.progress import Progress
from charlstm.sample import SamplingRule, check_prompts, generate
from charlstm.vocab import Ids, Vocab

log = logging.getLogger(__name__)


class Data(NamedTuple):
    """Encoded training and validation parts, and the vocabulary that decodes them."""

    train_ids: Ids
    val_ids: Ids
    vocab: Vocab


class Result(NamedTuple):
    """The best weights, and the whole history."""

    weights: dict[str, Tensor]
    shape: ModelShape
    epochs: list[EpochRow]
    steps: list[StepRow]
    texts: list[TextRow]
    best: EpochRow
    num_parameters: int
    train_seconds: float


def fit(
    data: Data,
    model: ModelParams,
    params: TrainParams,
    processes: Processes,
    observers: Sequence[Observer],
    checkpoints: CheckpointFolder | None = None,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train until `params.epochs` or early stopping; every process calls this and gets the same result.

    Observers and texts are process 0's: `observers` is empty on all others. With `checkpoints` (on every process),
    training goes on from the newest one. If any process is asked to stop, all stop after the same step, with a
    checkpoint on disk.

    Raises:
        TrainingError: the settings cannot train on this text, or the loss is not finite.
        VocabularyError: a prompt of `params.text_prompts` has characters that training never saw.
        Interrupted: a process was asked to stop, or one is lost.
        OSError: a checkpoint cannot be written; the ones before are as they were.
    """
    check_prompts(data.vocab, params.text_prompts)
    try:
        learner = Learner(data.train_ids, len(data.vocab), model, params, processes)
        training = _Training(data, params, learner, Pauses(processes, checkpoints, is_asked_to_stop))
        return training.run(observers)
    except RuntimeError as error:
        if not processes.lost_contact(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise Interrupted(f"lost contact with another process ({reason})") from None


class _Training:
    """One training run, from its start or its newest checkpoint to its end."""

    def __init__(self, data: Data, params: TrainParams, learner: Learner, pauses: Pauses) -> None:
        self.data, self.params, self.learner, self.pauses = data, params, learner, pauses
        self.processes = learner.processes
        self.progress, self.meter = Progress(), StepMeter()
        self.best_weights = self.weights()
        self.restore()

    def run(self, observers: Sequence[Observer]) -> Result:
        for observer in observers:
            observer.on_start(self.plan(), self.progress)
        is_saved = self.is_done()
        self.pauses.begin(self.progress.step)
        while not self.is_done():
            self.run_epoch(observers)
            self.end_epoch(observers)
        if not is_saved:  # whatever happens to the result from here on, training is not done twice
            self.pauses.save(self.progress.step, self.checkpoint)
        now = self.progress
        assert now.best is not None  # params.epochs > 0
        return Result(
            weights=self.best_weights,
            shape=self.learner.shape,
            epochs=now.epochs,
            steps=now.steps,
            texts=now.texts,
            best=now.best,
            num_parameters=self.learner.model.num_parameters(),
            train_seconds=now.train_seconds,
        )

    def plan(self) -> Plan:
        return Plan(
            num_epochs=self.params.epochs,
            num_steps=self.learner.num_steps,
            chars_per_epoch=self.learner.batches.chars_per_epoch,
            num_parameters=self.learner.model.num_parameters(),
            num_processes=self.processes.count,
            device=str(self.processes.device),
            precision="bf16" if self.processes.is_mixed else str(self.learner.dtype).removeprefix("torch."),
        )

    def is_done(self) -> bool:
        """Whether the last epoch is over, or early stopping says so."""
        now, patience = self.progress, self.params.early_stopping_epochs
        if patience and now.best is not None and len(now.epochs) - now.best.epoch >= patience:
            return True
        return len(now.epochs) >= self.params.epochs

    def run_epoch(self, observers: Sequence[Observer]) -> None:
        """The steps that are left of the epoch under way."""
        now, batches = self.progress, self.learner.batches
        if now.index == 0:
            self.learner.start_epoch()
        before, started = now.epoch_seconds, time.perf_counter()
        while now.index < batches.steps_per_epoch:
            taken = self.learner.take_step(now.step, now.epoch, now.index)
            if taken is not None:
                self.meter.add(now.step + 1, taken.rate, batches.num_chars(now.index), taken.nats, taken.gradient_norm)
            now.step, now.index = now.step + 1, now.index + 1
            if now.step % self.params.log_every_steps == 0 or now.index == batches.steps_per_epoch:
                self.read_meter(observers)
            now.epoch_seconds = before + time.perf_counter() - started
            if self.pauses.pause(now.step, self.checkpoint):
                raise Interrupted(f"stopped as asked, after step {now.step} of {self.learner.num_steps}")

    def read_meter(self, observers: Sequence[Observer]) -> None:
        """The mean of the last steps, for the record."""
        now = self.progress
        if (found := self.meter.read(now.step, now.epoch, self.processes.gather)) is not None:
            row, loss = found
            now.loss = now.loss.plus(loss)
            now.steps.append(row)
            for observer in observers:
                observer.on_steps(row, self.meter.chars_per_second())
        self.meter = StepMeter()

    def end_epoch(self, observers: Sequence[Observer]) -> None:
        """Validate, keep the best weights, write texts."""
        now = self.progress
        if now.loss.num_chars == 0:
            raise TrainingError(f"every step of epoch {now.epoch} was skipped; {ADVICE}")
        row = EpochRow(now.epoch, now.step, now.loss.nats_per_char, self.validate())
        if not math.isfinite(row.val_nats_per_char):
            raise TrainingError(f"the validation loss is not finite after epoch {now.epoch}; lower train.learning_rate")
        if now.best is None or row.val_nats_per_char < now.best.val_nats_per_char:
            now.best, self.best_weights = row, self.weights()
        texts = self.write_texts(now.epoch)  # on every process: one that waits too long takes the others for lost
        for observer in observers:
            observer.on_epoch(row, texts, now.epoch_seconds)
        now.texts.extend(texts)
        now.epochs.append(row)
        now.train_seconds += now.epoch_seconds
        now.index, now.loss, now.epoch_seconds = 0, LossSum(0.0, 0), 0.0

    def validate(self) -> float:
        """`windowed_C` or `sliding_C` of the averaged weights, over all processes, in nats/char."""
        model, ids, length = self.learner.averaged, self.data.val_ids, self.params.validation_context_len
        if self.params.validation == "sliding":
            mine = sliding(model, ids, length, self.params.batch_size, self.learner.batches.rows)
        else:
            mine = windowed(model, ids, length, rank=self.processes.rank, world_size=self.processes.count)
        whole = self.processes.sum(torch.tensor(mine, dtype=torch.float64))
        return LossSum(float(whole[0]), int(whole[1])).nats_per_char

    def write_texts(self, epoch: int) -> list[TextRow]:
        """One text for each of `text_prompts`, from the averaged weights."""
        rule, length, seed = SamplingRule(self.params.text_temperature), self.params.text_len, self.params.seed
        texts = [
            generate(self.learner.averaged, self.data.vocab, prompt, num_chars=length, rule=rule, seed=seed)
            for prompt in self.params.text_prompts
        ]
        return [TextRow(epoch, *pair) for pair in zip(self.params.text_prompts, texts, strict=True)]

    def weights(self) -> dict[str, Tensor]:
        """A copy of the averaged weights."""
        return {name: weight.clone() for name, weight in self.learner.averaged.state_dict().items()}

    def checkpoint(self) -> Checkpoint:
        """The whole state; collective.

        Raises:
            TrainingError: it is not worth keeping: a loss is not finite.
        """
        self.meter.settle(self.processes.gather)
        best = {f"best.{name}": weight.to("cpu") for name, weight in self.best_weights.items()}
        facts = {
            "progress": self.progress.as_json(),
            "meter": self.meter.as_json(),
            "num_skipped": self.learner.num_skipped,
            "made_by": self.made_by(),
        }
        return Checkpoint(snapshot.take(self.learner) | best, facts)

    def made_by(self) -> list[str]:
        """What else decides the bits of a result; another machine may have another."""
        plan = self.plan()
        return [
            f"torch {torch.__version__}",
            f"{plan.num_processes} process(es)",
            self.processes.describe_device(),
            plan.precision,
        ]

    def restore(self) -> None:
        """Go on from the newest checkpoint that process 0 has, if there is one."""
        folder = self.pauses.checkpoints
        found = folder.newest() if folder is not None and self.processes.is_first else None
        content = self.processes.send_from_first(found.to_bytes() if found is not None else b"")
        if not content:
            return
        found = Checkpoint.from_bytes(content)
        if (before := found.facts["made_by"]) != self.made_by() and self.processes.is_first:
            log.warning(
                "the checkpoint was made with %s, training goes on with %s: bit for bit the result is that of neither",
                *(", ".join(maker) for maker in (before, self.made_by())),
            )
        snapshot.restore(self.learner, found.tensors)
        self.learner.num_skipped = found.facts["num_skipped"]
        self.progress = Progress.of_json(found.facts["progress"])
        self.meter = StepMeter.of_json(found.facts["meter"])
        self.best_weights = {
            name: found.tensors[f"best.{name}"].to(self.processes.device) for name in self.best_weights
        }
