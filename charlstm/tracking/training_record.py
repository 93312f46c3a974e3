"""The record of a training, in files from which any process can create its MLflow run.

    origin.json      parameters, tags and start time of the run
    metrics.jsonl    the metrics, one row per line: [step, time, metrics]
    texts/           generated texts, one file per epoch
    ending.json      how the training ended; missing while it runs, or if its process was killed
    published        exists if MLflow has the complete run

`sync.py` reads these files, and needs no torch.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from charlstm.errors import Interrupted
from charlstm.files.atomic import write_text
from charlstm.files.checksums import sha256
from charlstm.history import EpochRow, StepRow, now_ms
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.publish import (
    EPOCH_TEXTS,
    FAILED,
    FINISHED,
    KILLED,
    Params,
    Row,
    epoch_metrics,
    step_metrics,
)
from charlstm.tracking.registered_model import MODEL_TAG
from charlstm.tracking.sync import ENDING, METRICS, ORIGIN, PUBLISHED, read_rows
from charlstm.training.progress import Observer, Plan, Progress

log = logging.getLogger(__name__)


@dataclass
class TrainingRecord(Observer):
    """An observer of training that writes the MLflow run's content into the training's folder.

    A full disk causes only a warning, because no output of the training depends on these files.

    Args:
        training_id: unique to this training, and the same after a restart.
        tags: tags that are known before the start, including the run's name and description.
    """

    folder: Path
    training_id: str
    params: Params
    tags: Mapping[str, str]
    plan: Plan | None = None  # known once training has started

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Write `origin.json`. Reset the metrics to the checkpoint from which training resumes."""
        self.plan = plan
        hardware = {
            "device": plan.device,
            "precision": plan.precision,
            "hardware.processes": str(plan.num_processes),
        }
        measured = {"train/num_parameters": float(plan.num_parameters)}
        with _full_disk_tolerated(self.folder):
            rows = self._rows_of(progress)
            write_text(self.folder / METRICS, "".join(map(_line, rows)))
            start_ms = rows[0].time_ms if rows else now_ms()
            origin = {
                "training_id": self.training_id,
                "start_ms": start_ms,
                "params": self.params,
                "tags": {**self.tags, **hardware},
                "measured": measured,
            }
            # The JSON is ASCII, because surrogates in undecodable file names have no UTF-8 form.
            write_text(self.folder / ORIGIN, json.dumps(origin))

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """Append the metrics of the latest training steps."""
        assert self.plan is not None
        seen = "bytes_seen" if self.plan.unit == "byte" else "chars_seen"
        speed = {"train/chars_per_second": chars_per_second, f"train/{seen}": float(ids_seen)}
        self._append(Row(row.step, now_ms(), step_metrics(row) | speed))

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Append the losses of an epoch."""
        self._append(Row(row.step, now_ms(), epoch_metrics(row)))

    def log_texts(self, epoch: int, texts: Sequence[tuple[str, str]]) -> None:
        """Write the texts generated after an epoch, given as (prompt, text) pairs."""
        content = "\n\n".join(f"=== prompt {prompt!r}\n{prompt}{text}" for prompt, text in texts)
        with _full_disk_tolerated(self.folder):
            write_text(self.folder / EPOCH_TEXTS / f"epoch-{epoch:03d}.txt", content + "\n")

    def finish(
        self, model: Path, num_epochs: int, train_seconds: float, tags: Mapping[str, str]
    ) -> None:
        """Record that training has finished. `train_seconds` includes the time before restarts."""
        if self.plan is not None:
            speed = self.plan.chars_per_epoch * num_epochs / train_seconds
            measured = {"train/seconds": train_seconds, "train/speed": speed}
            tags = {**tags, MODEL_TAG: sha256(model / WEIGHTS)}
            self._end(FINISHED, "", tags=tags, measured=measured)

    def __enter__(self) -> "TrainingRecord":
        """Remove the ending that an earlier start recorded, so that the run is RUNNING again."""
        for file in (ENDING, PUBLISHED):
            (self.folder / file).unlink(missing_ok=True)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Record why the training ended without a model, unless the training never began."""
        if error is None or not (self.folder / ORIGIN).exists():
            return
        if isinstance(error, KeyboardInterrupt | Interrupted):
            self._end(KILLED, str(error) or "interrupted")
        else:
            self._end(FAILED, f"{type(error).__name__}: {error}")

    def _end(self, status: str, reason: str, **facts: Mapping[str, object]) -> None:
        ending = {"status": status, "reason": reason, "end_ms": now_ms(), **facts}
        with _full_disk_tolerated(self.folder):
            write_text(self.folder / ENDING, json.dumps(ending))
            # `charlstm sync` may have just published the previous ending of this run.
            (self.folder / PUBLISHED).unlink(missing_ok=True)

    def _rows_of(self, progress: Progress) -> list[Row]:
        """Return the metric rows of the checkpoint from which training resumes.

        A row that this folder already has keeps its time. Other rows come from a checkpoint that
        another machine wrote, and get the current time.
        """
        # These keys sort an epoch's row after the rows of its steps.
        rows = {(row.step, False): step_metrics(row) for row in progress.steps}
        rows |= {(row.step, True): epoch_metrics(row) for row in progress.epochs}
        known = {
            (row.step, "loss/validation" in row.metrics): row
            for row in read_rows(self.folder / METRICS)
        }
        return [
            known.get(key) or Row(key[0], now_ms(), metrics)
            for key, metrics in sorted(rows.items(), key=lambda item: item[0])
        ]

    def _append(self, row: Row) -> None:
        with _full_disk_tolerated(self.folder), (self.folder / METRICS).open("a") as file:
            file.write(_line(row))


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


@contextmanager
def _full_disk_tolerated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning(
            "tracking: %s: %s; `evaluate` will create the MLflow run", folder, error.strerror
        )
