"""MLflow runs, as those who track see them: they write events to a spool and go on.

The tie between a model and its run is content: a run carries the SHA-256 of the model's weights as a tag, and a later
stage finds the run by it, or makes one from the files when the server has none.
"""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd

from charlstm.tracking import client as calls
from charlstm.tracking.client import Store
from charlstm.tracking.outbox import Spool, now_ms
from charlstm.tracking.registered_model import MODEL_TAG as MODEL_TAG  # for those who look for runs, too
from charlstm.tracking.sender import describe
from charlstm.training.history import EpochRow, StepRow

log = logging.getLogger(__name__)

# What is shown of a training: rows of its tables as values of named metrics, in sections (`train/...`) of the UI.

Params = Mapping[str, str | int | float]  # dotted names, as runs have them


class Measurement(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    step: int = 0


def step_metrics(rows: Sequence[StepRow], params: Params) -> list[Measurement]:
    """What is shown of steps, by step. The table has AdamW's learning rate; Muon's has the same schedule."""
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


def epoch_metrics(rows: Sequence[EpochRow]) -> list[Measurement]:
    """What is shown of epochs, at the step that ends each: so they lie on the axis of the training loss."""
    return [
        Measurement(name, value, row.step)
        for row in rows
        for name, value in (
            ("validation/nats_per_char", row.val_nats_per_char),
            ("validation/epoch", row.epoch),
            ("train/epoch_nats_per_char", row.train_nats_per_char),
        )
    ]


# Runs.

TRAINING_TAG = "training_id"
FINGERPRINT_TAG = "fingerprint"
EXPERIMENT_TAG = "dvc_exp_name"
MS_PER_REBUILT_STEP = 1_000


class Sender(Protocol):
    """What feeds a run from its spool meanwhile."""

    def close(self) -> None:
        """The spool is complete: send the rest, within reason."""


class Outbox(NamedTuple):
    """Where spools lie, and what starts a sender for one (None if it cannot)."""

    root: Path
    start_sender: Callable[[Path], Sender | None]


class TrainingRecord(NamedTuple):
    """What is known of a finished training from its files: enough to rebuild its run.

    Files have no times. `time_ms` stands for all of them, and is the same wherever the run is rebuilt.
    """

    params: Mapping[str, str | int | float]
    tags: Mapping[str, str]
    epochs: pd.DataFrame
    steps: pd.DataFrame
    time_ms: int


class Run:
    """One MLflow run, written to a spool and sent in the background, in order."""

    def __init__(self, spool: Spool, start_sender: Callable[[Path], Sender | None]) -> None:
        self.spool = spool
        self._sender = None if spool.is_broken else start_sender(spool.folder)

    def log_params(self, params: Mapping[str, str | int | float]) -> None:
        """Record parameters; one that the run has already keeps its first value, and another one becomes a tag."""
        self.spool.append("params", values=dict(params))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing older values."""
        self.spool.append("tags", values=dict(tags))

    def log_metrics(self, measurements: Iterable[Measurement], *, only_changed: bool = False) -> None:
        """Record metric values of now. `only_changed`: but for those that the run has as its latest already."""
        time_ms = now_ms()
        self.spool.append("metrics", points=[[*one, time_ms] for one in measurements], only_changed=only_changed)

    def log_corpus(self, tags: Mapping[str, str]) -> None:
        """Make the corpus of these tags a dataset input of the run."""
        self.spool.append("corpus", source=tags["corpus"], sha256=tags["corpus_sha256"])

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
        files = self.spool.keep(*sorted(folder.iterdir()))
        if files is not None:
            self.spool.append(
                "model", files=files, model_sha256=model_sha256, losses=dict(losses),
                validation_sha256=validation_sha256, tags=dict(tags),
            )  # fmt: skip

    def log_text(self, path: str, text: str) -> None:
        """Store `text` as the artifact `path`, replacing an older one."""
        folder, _, name = path.rpartition("/")
        self._log(self.spool.keep_text(name, text), folder)

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Store a file as an artifact, in `folder` of the run, replacing an older one."""
        self._log(self.spool.keep(file), folder)

    def log_table(self, path: str, frame: pd.DataFrame) -> None:
        """Store a table as the artifact `path`, a `.json`, which the UI can lay beside that of other runs."""
        folder, _, name = path.rpartition("/")
        self._log(self.spool.keep_text(name, frame.to_json(orient="split", index=False)), folder, is_table=True)

    def close(self, status: str | None = None, reason: str = "") -> None:
        """Send the rest; end the run with `status` (FINISHED, FAILED, KILLED), if given. The tag `ended` says why."""
        if status is not None:
            self.set_tags({"ended": reason or "normally"})
            self.spool.append("end", status=status)
        self.spool.close()
        if self._sender is not None:
            self._sender.close()

    def _log(self, files: str | None, folder: str | None, *, is_table: bool = False) -> None:
        if files is not None:
            self.spool.append("artifacts", files=files, folder=folder or None, is_table=is_table)


def attach(outbox: Outbox, model_sha256: str, record: TrainingRecord) -> Run:
    """The run of the model with that hash; one made from `record` if the store has none."""
    spool = Spool(outbox.root / f"{model_sha256[:16]}-{secrets.token_hex(4)}")
    spool.start(MODEL_TAG, model_sha256, {**record.tags, "made_from": "files"}, time_ms=record.time_ms)
    _write_record(spool, record)
    return Run(spool, outbox.start_sender)


def attach_node(outbox: Outbox, fingerprint: str, node: str) -> Run:
    """The run that process 0 makes of the training with that fingerprint, for what another machine has to say."""
    spool = Spool(outbox.root / f"{fingerprint}-{node}-{secrets.token_hex(4)}")
    spool.start(FINGERPRINT_TAG, fingerprint, {}, is_found_only=True, node=node)
    return Run(spool, outbox.start_sender)


def _write_record(spool: Spool, record: TrainingRecord) -> None:
    """All that a run rebuilt from files has; for a run that the store has already, none of it is sent."""
    steps = [StepRow(*row) for row in record.steps[list(StepRow._fields)].itertuples(index=False)]
    epochs = [EpochRow(*row) for row in record.epochs[list(EpochRow._fields)].itertuples(index=False)]
    measurements = [*step_metrics(steps, record.params), *epoch_metrics(epochs)]
    times = [record.time_ms + one.step * MS_PER_REBUILT_STEP for one in measurements]
    points = [[*one, time_ms] for one, time_ms in zip(measurements, times, strict=True)]
    spool.append("params", values=dict(record.params), if_new=True)
    spool.append("metrics", points=points, if_new=True)
    spool.append("end", status="FINISHED", time_ms=max(times, default=record.time_ms), if_new=True)


def read_metrics(store: Store, model_sha256: str) -> dict[str, float]:
    """The latest metrics of the model's run; empty if there is no such run or the store does not answer."""
    try:
        client = calls.connect(store)
        run = calls.find_run(client, calls.find_experiments(client, store).values(), MODEL_TAG, model_sha256)
        return dict(run.data.metrics) if run else {}
    except Exception as error:  # the view may be gone, the files are not
        log.warning("%s; the files have everything", describe(error, store))
        return {}
