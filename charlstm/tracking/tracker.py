"""Makes the run of a training true while it trains."""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlstm.files.atomic import sha256
from charlstm.history import now_ms
from charlstm.model.shape import WEIGHTS
from charlstm.tracking import runs
from charlstm.tracking.client import Store, connect, describe, start_monitor
from charlstm.tracking.registered_model import MODEL_TAG
from charlstm.training.progress import Observer, Plan, Progress

log = logging.getLogger(__name__)

SECONDS_BETWEEN_CALLS = 5.0


class TrainingTracker(Observer):
    """Makes the run of a training true from a thread while it trains: a new one, or that of an earlier start.

    `folder` has the training's checkpoints. `training_id` is the same at every start of this training, and of no other.
    `patience`: seconds that the end waits for a store that does not answer.
    """

    def __init__(
        self, store: Store, folder: Path, params: runs.Params, tags: dict[str, str], training_id: str, patience: float
    ) -> None:
        self._store, self._folder, self._patience = store, folder, patience
        self._state = runs.RunState(runs.TRAINING_TAG, training_id, now_ms(), params, tags, tags, status="RUNNING")
        self._has_ended, self._has_warned = threading.Event(), False
        self._plan: Plan | None = None
        self._monitor: Any = None

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Begin with all parameters and tags, the size of the work, and the hardware."""
        self._plan, self._progress = plan, progress
        hardware = {"device": plan.device, "precision": plan.precision, "hardware.processes": str(plan.num_processes)}
        tags, measured = {**self._state.tags, **hardware}, {"train/num_parameters": float(plan.num_parameters)}
        kept = runs.read_kept(self._folder)
        texts = kept.texts if kept else {}  # which are nowhere else
        self._state = replace(self._state, tags=tags, measured=measured, texts=texts, curves=runs.curves_of(progress))
        self._keep()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def log_texts(self, epoch: int, texts: Sequence[tuple[str, str]]) -> None:
        """What the model wrote after an epoch: prompts and texts."""
        body = "\n\n".join(f"=== prompt {prompt!r}\n{prompt}{text}" for prompt, text in texts)
        path = f"{runs.EPOCH_TEXTS}/epoch-{epoch:03d}.txt"
        self._state = replace(self._state, texts={**self._state.texts, path: body + "\n"})
        self._keep()

    def finish(self, model: Path, train_seconds: float, tags: Mapping[str, str]) -> None:
        """Tie the run to its model and end it; the seconds are those of all starts together."""
        if self._plan is None:
            return
        speed = self._plan.chars_per_epoch * len(self._progress.epochs) / train_seconds
        measured = {**self._state.measured, "train/seconds": train_seconds, "train/speed": speed}
        tags = {**self._state.tags, **tags, MODEL_TAG: sha256(model / WEIGHTS)}
        self._end(replace(self._state, tags=tags, measured=measured), "FINISHED", "normally")

    def abandon(self, status: str, reason: str) -> None:
        """End the run, if it was begun, as FAILED or KILLED."""
        self._end(self._state, status, reason)

    def _end(self, state: runs.RunState, status: str, reason: str) -> None:
        if self._plan is None:
            return
        self._has_ended.set()
        if self._monitor is not None:
            self._monitor._shutdown_event.set()  # `finish()` would wait for the store
        self._state = replace(state, status=status, reason=reason, end_ms=max(now_ms(), self._state.time_ms))
        self._keep()
        runs.send_or_keep(self._store, self._folder, self._state, self._patience, self._thread)

    def _keep(self) -> None:
        runs.keep(self._folder, replace(self._state, curves=runs.Curves()))

    def _follow(self) -> None:
        client, pause = None, 0.0
        while not self._has_ended.wait(pause):
            pause = SECONDS_BETWEEN_CALLS
            try:
                if client is None:
                    client = connect(self._store)
                    runs.send_unsent(self._folder.parent, self._store, but=self._folder)
                run_id = runs.make_run_true(client, self._store, self._state)
                if self._monitor is None or not self._monitor._process.is_alive():  # for good, after one failed call
                    self._monitor = start_monitor(self._store, run_id)
            except Exception as error:  # whatever a server, a driver or a disk can raise
                if not self._has_warned:
                    log.warning("%s; training goes on, and the rest is sent later", describe(error, self._store))
                self._has_warned = True
