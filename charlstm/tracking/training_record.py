"""Writes what the run of a training shows into the training's folder, while it trains."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from charlstm.errors import Interrupted
from charlstm.files.atomic import write_text
from charlstm.files.checksums import sha256
from charlstm.history import EpochRow, StepRow, now_ms
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import WEIGHTS
from charlstm.tracking import training_files
from charlstm.tracking.registered_model import MODEL_TAG
from charlstm.tracking.snapshot import (
    EPOCH_TEXTS,
    FAILED,
    FINISHED,
    KILLED,
    Params,
    Row,
    epoch_metrics,
    step_metrics,
)
from charlstm.tracking.training_files import (
    ENDING,
    METRICS,
    ORIGIN,
    PUBLISHED,
    Ending,
    Origin,
    read_rows,
)
from charlstm.training.progress import Observer, Plan, Progress

log = logging.getLogger(__name__)


class TrainingRecord(Observer):
    """Writes what the run of a training shows into the training's folder.

    A full disk costs a warning: no output of the training depends on these files.

    Args:
        training_id: the same at every start of this training, and of no other.
        tags: what is known before the start, the name and the description of the run included.
    """

    def __init__(
        self, folder: Path, training_id: str, params: Params, tags: Mapping[str, str]
    ) -> None:
        self._folder, self._training_id = folder, training_id
        self._params, self._tags = params, tags
        self._plan: Plan | None = None

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Write the origin. Cut the metrics back to the checkpoint that training resumes from."""
        self._plan = plan
        hardware = {
            "device": plan.device,
            "precision": plan.precision,
            "hardware.processes": str(plan.num_processes),
        }
        with _full_disk_tolerated(self._folder):
            start_ms = min([now_ms(), *self._start_before()])
            measured = {"train/num_parameters": float(plan.num_parameters)}
            origin = Origin(
                self._training_id, start_ms, self._params, {**self._tags, **hardware}, measured
            )
            self._write_metrics(progress)
            _write_json(
                self._folder / ORIGIN, training_files.ORIGIN_JSON.dump_python(origin, mode="json")
            )
            for file in (ENDING, PUBLISHED):
                (self._folder / file).unlink(missing_ok=True)

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """Append a row of steps."""
        assert self._plan is not None
        seen = "bytes_seen" if self._plan.unit == "byte" else "chars_seen"
        shown = {"train/chars_per_second": chars_per_second, f"train/{seen}": float(ids_seen)}
        self._append(Row(row.step, now_ms(), step_metrics(row) | shown))

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Append an epoch."""
        self._append(Row(row.step, now_ms(), epoch_metrics(row)))

    def log_texts(self, epoch: int, texts: Sequence[tuple[str, str]]) -> None:
        """Write what the model wrote after an epoch: (prompt, text) pairs."""
        content = "\n\n".join(f"=== prompt {prompt!r}\n{prompt}{text}" for prompt, text in texts)
        with _full_disk_tolerated(self._folder):
            write_text(self._folder / EPOCH_TEXTS / f"epoch-{epoch:03d}.txt", content + "\n")

    def finish(
        self, model: Path, num_epochs: int, train_seconds: float, tags: Mapping[str, str]
    ) -> None:
        """Record the model folder that the training made. `train_seconds` counts all starts together."""
        if self._plan is not None:
            speed = self._plan.chars_per_epoch * num_epochs / train_seconds
            measured = {"train/seconds": train_seconds, "train/speed": speed}
            self._end(
                Ending(
                    FINISHED, "", now_ms(), {**tags, MODEL_TAG: sha256(model / WEIGHTS)}, measured
                )
            )

    def __enter__(self) -> "TrainingRecord":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Record why a training that has started ends without a model."""
        if self._plan is not None and error is not None:
            is_killed = isinstance(error, KeyboardInterrupt | Interrupted)
            reason = (
                str(error) or "interrupted" if is_killed else f"{type(error).__name__}: {error}"
            )
            self._end(Ending(KILLED if is_killed else FAILED, reason, now_ms()))

    def _end(self, ending: Ending) -> None:
        with _full_disk_tolerated(self._folder):
            _write_json(
                self._folder / ENDING, training_files.ENDING_JSON.dump_python(ending, mode="json")
            )

    def _start_before(self) -> list[int]:
        """Return when an earlier process started this training, if one did."""
        try:
            return [int(json.loads((self._folder / ORIGIN).read_text())["start_ms"])]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return []

    def _write_metrics(self, progress: Progress) -> None:
        """Write the rows of a checkpoint, with the times at which this folder has them, else with the present time.

        Another machine may have written the checkpoint, so rows may be missing here.
        """
        steps = [Row(row.step, now_ms(), step_metrics(row)) for row in progress.steps]
        epochs = [Row(row.step, now_ms(), epoch_metrics(row)) for row in progress.epochs]
        known = {_identity(row): row for row in read_rows(self._folder / METRICS)}
        rows = [known.get(_identity(row), row) for row in steps + epochs]
        rows.sort(key=lambda row: row.step)  # stable: the epoch follows its last row of steps
        write_text(self._folder / METRICS, "".join(map(_line, rows)))

    def _append(self, row: Row) -> None:
        with _full_disk_tolerated(self._folder), (self._folder / METRICS).open("a") as file:
            file.write(_line(row))


def _write_json(file: Path, content: object) -> None:
    # Not pydantic's JSON: it refuses the surrogates that Python puts into names that are not UTF-8.
    write_text(file, json.dumps(content))


def _identity(row: Row) -> tuple[object, ...]:
    """Return what tells a row from all others: its step, and whether it is an epoch's."""
    return row.step, "loss/validation" in row.metrics


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


@contextmanager
def _full_disk_tolerated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("tracking: %s: %s; `evaluate` makes a run of the files", folder, error.strerror)
