"""What a store did not take of a run, kept in a folder: `run.json`, and copies of the files.

That of a training lies beside its checkpoints, which have its tables, from its start on. Once all is sent, it goes.
"""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread

from pydantic import TypeAdapter

from charlstm.errors import TrackingError
from charlstm.files.atomic import write_text
from charlstm.files.lock import exclusive, holder_of
from charlstm.tracking.client import Store, ask, connect, describe
from charlstm.tracking.registered_model import MODEL_TAG
from charlstm.tracking.runs import TRAINING_TAG, RunState, curves_of, make_run_true

log = logging.getLogger(__name__)

RUN, FILES = "run.json", "files"  # in a folder
UNSENT = "unsent-"  # begins the name of a folder without checkpoints
GONE = "the process disappeared: killed, aborted, out of memory, or the machine went down"
TURN = "sending to MLflow"  # two at once could make two runs of one model, so the second waits
_STATE = TypeAdapter(RunState)


def send_or_keep(store: Store, folder: Path, state: RunState, patience: float, former: Thread | None = None) -> None:
    """At the end of a stage: first send what others have left, since the run may be among it, then this.

    What does not answer for `patience` seconds, or fails, gets the rest later: `folder` keeps it. `former`: a thread
    that may still be sending, since two at once could make two runs.
    """
    try:
        ask(store, lambda: _send(store, folder, state, former), patience)
        _remove(folder)
    except TrackingError as error:
        log.warning("%s; nothing is lost: what is missing is sent later, or by `charlstm sync`", error)
        keep(folder, state)


def _send(store: Store, folder: Path, state: RunState, former: Thread | None) -> None:
    if former is not None:
        former.join()
    errors = send_unsent(folder.parent, store, but=folder)
    if state.tag == MODEL_TAG and any(errors):  # the run of the training may be among them: no second one is made
        raise TrackingError(max(errors))
    with exclusive(folder.parent / "sending", TURN, lambda: True):
        make_run_true(connect(store), store, state)


def keep(folder: Path, state: RunState) -> None:
    """Write a state into a folder. What a disk does not take costs a warning: the outputs have everything."""
    try:
        kept = {path: folder / FILES / path for path in state.files}
        for path, copy in kept.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(state.files[path], copy)
        model = state.model
        if model is not None:
            model = model._replace(folder=folder / FILES / "model")
            shutil.copytree(state.model.folder, model.folder, dirs_exist_ok=True)  # type: ignore[union-attr]
        folder.mkdir(parents=True, exist_ok=True)
        # Not pydantic's JSON, which refuses the characters that Python makes of names that are not UTF-8.
        content = _STATE.dump_python(replace(state, files=kept, model=model), mode="json")
        write_text(folder / RUN, json.dumps(content, separators=(",", ":")))
    except OSError as error:
        log.warning("tracking: %s: %s; `evaluate` makes a run of the files", folder, error.strerror)


def read_kept(folder: Path) -> RunState | None:
    """The state that a folder keeps; None without one, and with a warning where it is damaged."""
    try:
        return _STATE.validate_python(json.loads((folder / RUN).read_text()))
    except FileNotFoundError:
        return None
    except ValueError:
        log.warning("%s is damaged, and left out: delete it; `evaluate` makes a run of the files", folder / RUN)
        return None


def send_unsent(root: Path, store: Store, but: Path | None = None) -> list[str]:
    """Send all that is kept in folders of `root` and belongs to no living process, whose runs it ends as KILLED.

    Of each what went wrong, in one line; empty if it was sent.
    """
    errors = []
    with exclusive(root / "sending", TURN, lambda: True):
        for file in sorted(root.glob(f"*/{RUN}"), key=lambda file: (file.parent.name.startswith(UNSENT), file)):
            folder = file.parent
            if folder == but or holder_of(folder) is not None or (state := read_kept(folder)) is None:
                continue
            try:
                make_run_true(connect(store), store, _whole(folder, state))
                _remove(folder)
                errors.append("")
            except Exception as error:  # whatever a server, a driver or a disk can raise
                errors.append(describe(error, store))
    return errors


def _remove(folder: Path) -> None:
    (folder / RUN).unlink(missing_ok=True)
    if folder.name.startswith(UNSENT):
        shutil.rmtree(folder, ignore_errors=True)


def _whole(folder: Path, state: RunState) -> RunState:
    """A kept state with the tables of its checkpoint, if it is a training's."""
    if state.tag != TRAINING_TAG:
        return state
    from charlstm.training.checkpoint import read_progress  # torch

    progress = read_progress(folder)
    if progress is not None and len(progress.steps) > len(state.curves.steps):  # the end of a run has its own
        state = replace(state, curves=curves_of(progress))
    if state.status == "RUNNING":
        end_ms = max([state.time_ms, *(view.time_ms for view in state.curves.views[-1:])])
        state = replace(state, status="KILLED", reason=GONE, end_ms=end_ms)
    return state
