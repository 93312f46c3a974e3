"""The observer of training that fills an MLflow run as it goes."""

from collections.abc import Mapping, Sequence

from charlstm.model.char_lstm import CharLSTM
from charlstm.tracking.outbox import Spool, last_steps
from charlstm.tracking.runs import (
    EXPERIMENT_TAG,
    MODEL_TAG,
    TRAINING_TAG,
    Measurement,
    Outbox,
    Run,
    epoch_metrics,
    step_metrics,
)
from charlstm.training.history import EpochRow, StepRow
from charlstm.training.progress import Progress
from charlstm.training.train import Plan


class TrainingTracker:
    """An observer of `train.fit` that fills a run: a new one, or the one that an earlier start of this training began.

    `training_id` is the same at every start of this training, and of no other.
    """

    def __init__(
        self, outbox: Outbox, params: Mapping[str, str | int | float], tags: Mapping[str, str], training_id: str
    ) -> None:
        self._outbox, self._params, self._tags, self._training_id = outbox, params, tags, training_id
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """The run; there is one from `on_start` on."""
        assert self._run is not None
        return self._run

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Open the run with all parameters and tags, the size of the work, and the hardware."""
        self._plan, self._num_epochs = plan, len(progress.epochs)
        spool = Spool(self._outbox.root / self._training_id)
        self._written = last_steps(spool.folder)
        hardware = {"device": plan.device, "precision": plan.precision, "num_processes": str(plan.num_processes)}
        tags = {**self._tags, **hardware}
        spool.start(TRAINING_TAG, self._training_id, tags, is_open=True, node="")
        self._run = Run(spool, self._outbox.start_sender)
        self.run.log_params(self._params)
        self.run.log_corpus(self._tags)
        self._log_new([Measurement("model/num_parameters", plan.num_parameters)])
        # What a checkpoint has and no event: another machine made it, or the spool is gone.
        self._log_new([*step_metrics(progress.steps, self._params), *epoch_metrics(progress.epochs)])

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """Record losses, learning rates, gradient norm, speed and characters seen, by step."""
        seen = "train/chars_seen" if self._plan.bytes_per_epoch is None else "train/bytes_seen"
        more = {"train/chars_per_second": chars_per_second, seen: self._ids_seen(row)}
        self._log_new([*step_metrics([row], self._params), *(Measurement(*one, row.step) for one in more.items())])

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Record the epoch's losses."""
        self._num_epochs += 1
        self._log_new(epoch_metrics([row]))

    def log_texts(self, epoch: int, texts: Sequence[tuple[str, str]]) -> None:
        """Record what the model wrote after an epoch: prompts and texts."""
        body = "\n\n".join(f"=== prompt {prompt!r}\n{prompt}{text}" for prompt, text in texts)
        self.run.log_text(f"texts/epoch-{epoch:03d}.txt", body + "\n")

    def finish(self, model_sha256: str, train_seconds: float) -> None:
        """Tie the run to its model and end it; the seconds are those of all starts together."""
        speed = self._plan.chars_per_epoch * self._num_epochs / train_seconds
        self.run.log_metrics([Measurement("train/seconds", train_seconds), Measurement("train/speed", speed)])
        self.run.set_tags({MODEL_TAG: model_sha256})
        self.run.close("FINISHED")

    def abandon(self, status: str, reason: str) -> None:
        """End the run, if it was opened, as FAILED or KILLED: it has no model yet, and DVC has no experiment of it."""
        if self._run is None:
            return
        if name := self._tags.get(EXPERIMENT_TAG):
            self._run.set_tags({EXPERIMENT_TAG: f"{name} (not recorded: {status})"})
        self._run.close(status, reason)

    def _log_new(self, measurements: Sequence[Measurement]) -> None:
        """But for what an earlier start has written: after a kill, some steps are taken again, to the same values."""
        self.run.log_metrics([one for one in measurements if one.step > self._written.get(one.name, -1)])

    def _ids_seen(self, row: StepRow) -> int:
        """Characters or bytes, in training, repetitions counted; the last step of an epoch may be a short one."""
        ids_per_epoch, done = self._plan.bytes_per_epoch or self._plan.chars_per_epoch, row.epoch - 1
        steps = row.step - done * (self._plan.num_steps // self._plan.num_epochs)
        ids_per_step = int(self._params["train.batch_size"]) * int(self._params["train.context_len"])
        return done * ids_per_epoch + min(steps * ids_per_step, ids_per_epoch)
