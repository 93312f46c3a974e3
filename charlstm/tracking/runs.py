"""MLflow runs, as those who track see them: they write events to a spool and go on.

The tie between a model and its run is content: a run carries the SHA-256 of the model's weights as a tag, and a later
stage finds the run by it, or makes one from the files when the server has none.
"""

import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from charlstm.errors import TrackingError
from charlstm.history import EpochRow, StepRow, Tables
from charlstm.model.char_lstm import CharLSTM
from charlstm.tracking.client import EXPERIMENT_TAG
from charlstm.tracking.outbox import Outbox, Spool, last_steps, now_ms
from charlstm.tracking.registered_model import MODEL_TAG
from charlstm.training.progress import Observer, Plan, Progress

TRAINING_TAG = "training_id"
FINGERPRINT_TAG = "fingerprint"

Params = Mapping[str, str | int | float]  # dotted names, as runs have them


class Measurement(NamedTuple):
    """One value of one metric; `train/...` is a section of the UI."""

    name: str
    value: float
    step: int = 0


class TrainingRecord(NamedTuple):
    """What is known of a finished training from its files: enough to rebuild its run.

    Files have no times. `time_ms` stands for all of them, and is the same wherever the run is rebuilt.
    """

    params: Params
    tags: Mapping[str, str]
    tables: Tables
    time_ms: int


def step_metrics(rows: Iterable[StepRow], params: Params) -> list[Measurement]:
    """The metrics of steps, by step. The table has AdamW's learning rate; Muon's has the same schedule."""
    rates = {"adamw": 1.0}
    if params.get("train.optimizer") == "muon":
        rates["muon"] = float(params["train.muon.learning_rate"]) / float(params["train.learning_rate"])
    return [
        Measurement(name, value, row.step)
        for row in rows
        for name, value in (
            ("train/nats_per_char", row.train_nats_per_char),
            ("train/gradient_norm", row.gradient_norm),
            *((f"learning_rate/{name}", row.learning_rate * factor) for name, factor in rates.items()),
        )
    ]


def epoch_metrics(rows: Iterable[EpochRow]) -> list[Measurement]:
    """The metrics of epochs, at the step that ends each: so they lie on the axis of the training loss."""
    return [
        Measurement(name, value, row.step)
        for row in rows
        for name, value in (
            ("validation/nats_per_char", row.val_nats_per_char),
            ("validation/epoch", row.epoch),
            ("train/epoch_nats_per_char", row.train_nats_per_char),
        )
    ]


class Run:
    """One MLflow run, written to a spool of the outbox and sent in the background, in order.

    Args:
        spool: the folder's name. A training that is resumed goes on in its own.
        start: which run is meant, as `outbox.Start` has it.
    """

    def __init__(self, outbox: Outbox, spool: str, **start: Any) -> None:  # noqa: ANN401
        self._spool, self._is_for_new = Spool(outbox.root / spool), False
        self._spool.append("start", **start)
        self._sender = None if self._spool.is_broken else outbox.start_sender(self._spool.folder)

    @contextmanager
    def if_new(self) -> Iterator[None]:
        """What is logged in this context is for a run that this spool makes, and for none that is there already."""
        self._is_for_new = True
        try:
            yield
        finally:
            self._is_for_new = False

    def log_params(self, params: Params) -> None:
        """Record parameters; one that the run has already keeps its first value, and another one becomes a tag."""
        self._append("params", values=dict(params))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing older values."""
        self._append("tags", values=dict(tags))

    def log_metrics(
        self, measurements: Iterable[Measurement], *, only_changed: bool = False, time_ms: int | None = None
    ) -> None:
        """Record metric values, by default of now. `only_changed`: but for those that the run has as its latest."""
        taken_ms = now_ms() if time_ms is None else time_ms
        points = [[*measurement, taken_ms] for measurement in measurements]
        self._append("metrics", points=points, only_changed=only_changed)

    def log_model(
        self,
        folder: Path,
        model_sha256: str,
        losses: Mapping[str, float],
        validation_sha256: str,
        tags: Mapping[str, str],
    ) -> None:
        """Log and register the model folder; `losses` by protocol, in nats/char, on a text with that SHA-256.

        `tags` name its corpus, at least.
        """
        self._append(
            "model", files=self._spool.keep(*sorted(folder.iterdir())), model_sha256=model_sha256, losses=dict(losses),
            validation_sha256=validation_sha256, tags=dict(tags),
        )  # fmt: skip

    def log_text(self, path: str, text: str, *, is_table: bool = False) -> None:
        """Store `text` as the artifact `path`, replacing an older one."""
        folder, _, name = path.rpartition("/")
        self._append("artifacts", files=self._spool.keep_text(name, text), folder=folder or None, is_table=is_table)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Store a file as an artifact, in `folder` of the run, replacing an older one."""
        self._append("artifacts", files=self._spool.keep(file), folder=folder)

    def log_table(self, path: str, frame: pd.DataFrame) -> None:
        """Store a table as the artifact `path`, a `.json`, which the UI can lay beside that of other runs."""
        self.log_text(path, frame.to_json(orient="split", index=False), is_table=True)

    def end(self, status: str, reason: str = "normally", time_ms: int | None = None) -> None:
        """The run is FINISHED, FAILED or KILLED, by default now. The tag `ended` says why."""
        self._append("end", status=status, reason=reason, time_ms=now_ms() if time_ms is None else time_ms)

    def close(self) -> None:
        """Send the rest."""
        self._spool.close()
        if self._sender is not None:
            self._sender.close()

    def check_is_whole(self) -> None:
        """Check that all of it could be written. If not, none of it is sent.

        Raises:
            TrackingError: the disk is full, or a file could not be read.
        """
        if fault := self._spool.fault:
            shutil.rmtree(self._spool.folder, ignore_errors=True)
            raise TrackingError(f"the run cannot be made: {fault}")

    def _append(self, kind: str, **fields: Any) -> None:  # noqa: ANN401
        if fields.get("files", "") is not None:  # else they could not be kept
            self._spool.append(kind, if_new=self._is_for_new, **fields)


def attach(outbox: Outbox, model_sha256: str, record: TrainingRecord) -> Run:
    """The run of the model with that hash. If the store has none, it gets what a training would have logged."""
    run = Run(
        outbox, f"{model_sha256[:16]}-{secrets.token_hex(4)}", tag=MODEL_TAG, value=model_sha256,
        tags={**record.tags, "made_from": "files"}, time_ms=record.time_ms,
    )  # fmt: skip
    steps = map(StepRow._make, record.tables.steps[list(StepRow._fields)].itertuples(index=False))
    epochs = map(EpochRow._make, record.tables.epochs[list(EpochRow._fields)].itertuples(index=False))
    with run.if_new():
        run.log_params(record.params)
        run.log_metrics([*step_metrics(steps, record.params), *epoch_metrics(epochs)], time_ms=record.time_ms)
        run.end("FINISHED", time_ms=record.time_ms)
    return run


class TrainingTracker(Observer):
    """Fills a run: a new one, or the one that an earlier start of this training began.

    `training_id` is the same at every start of this training, and of no other.
    """

    def __init__(self, outbox: Outbox, params: Params, tags: Mapping[str, str], training_id: str) -> None:
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
        self._written = last_steps(self._outbox.root / self._training_id)
        hardware = {"device": plan.device, "precision": plan.precision, "num_processes": str(plan.num_processes)}
        self._run = Run(
            self._outbox, self._training_id, tag=TRAINING_TAG, value=self._training_id,
            tags={**self._tags, **hardware}, is_open=True, node="",
        )  # fmt: skip
        self.run.log_params(self._params)
        self._log_new([Measurement("model/num_parameters", plan.num_parameters)])
        if progress.initial_nats_per_char is not None:  # where the curve begins
            self._log_new([Measurement("validation/nats_per_char", progress.initial_nats_per_char)])
        # What a checkpoint has and no event: another machine made it, or the spool is gone.
        self._log_new([*step_metrics(progress.steps, self._params), *epoch_metrics(progress.epochs)])

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """Record losses, learning rates, gradient norm, speed and characters seen, by step."""
        seen = "train/chars_seen" if self._plan.unit == "character" else "train/bytes_seen"
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
        self.run.end("FINISHED")
        self.run.close()

    def abandon(self, status: str, reason: str) -> None:
        """End the run, if it was opened, as FAILED or KILLED: it has no model yet, and DVC has no experiment of it."""
        if self._run is None:
            return
        if name := self._tags.get(EXPERIMENT_TAG):
            self._run.set_tags({EXPERIMENT_TAG: f"{name} (not recorded: {status})"})
        self._run.end(status, reason)
        self._run.close()

    def _log_new(self, measurements: Sequence[Measurement]) -> None:
        """But for what an earlier start has written: after a kill, some steps are taken again, to the same values."""
        self.run.log_metrics([one for one in measurements if one.step > self._written.get(one.name, -1)])

    def _ids_seen(self, row: StepRow) -> int:
        """Characters or bytes of the corpus, repetitions counted; the last step of an epoch may be a short one."""
        plan, done = self._plan, row.epoch - 1
        steps = row.step - done * (plan.num_steps // plan.num_epochs)
        return done * plan.ids_per_epoch + min(steps * plan.ids_per_step, plan.ids_per_epoch)
