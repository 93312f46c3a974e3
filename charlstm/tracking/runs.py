"""MLflow runs from what is known of them: `make_run_true` asks what a run has, and sends the rest; and what is unsent.

Anybody may call it at any time, any number of times. MLflow keeps one of two points whose name, step, time and value
are the same, so the times are those of the tables, and never of the call.

The tie between a model and its run is content: a run carries the SHA-256 of the model's weights as a tag. A later stage
finds the run by it, or makes one from the files.
"""

import json
import logging
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter

from charlstm.errors import TrackingError
from charlstm.files.atomic import write_text
from charlstm.files.lock import exclusive, holder_of
from charlstm.history import EpochRow, StepRow, StepView, Tables
from charlstm.tracking.client import CORPUS_TAG, MAX_RESULTS, Store, ask, connect, describe, shown
from charlstm.tracking.registered_model import MODEL_TAG, LoggedModel, log_model, register

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from charlstm.training.progress import Progress  # torch

log = logging.getLogger(__name__)

TRAINING_TAG = "training_id"
MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 6_000, 8_000  # MLflow's limits
MAX_METRICS_PER_CALL = 1_000
FINISHED = "FINISHED"  # MLflow's word
TABLES_TAG = "mlflow.loggedArtifacts"  # the UI lays tables of this list, in JSON, side by side
EPOCH_TEXTS = "texts"  # the folder of artifacts that never change

Params = Mapping[str, str | bool | int | float]  # dotted names, as runs have them
Point = tuple[str, float, int, int]  # name, value, step, milliseconds since the epoch


class Curves(NamedTuple):
    """The tables of a training so far, with times in milliseconds where it was watched; files have none."""

    steps: Sequence[StepRow] = ()
    views: Sequence[StepView] = ()  # of as many steps
    epochs: Sequence[EpochRow] = ()
    epoch_times_ms: Sequence[int] = ()


@dataclass(frozen=True)
class RunState:
    """What is known of a run: the newest whose tag `tag` is `value`, or a new one.

    `time_ms` is that of the start, of `measured`, and of all rows that have none. What is only known of files
    (`is_of_files`) adds to a run what it lacks, and replaces nothing.
    """

    tag: str
    value: str
    time_ms: int
    params: Params = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    new_tags: Mapping[str, str] = field(default_factory=dict)  # of a run that is made
    curves: Curves = Curves()
    measured: Mapping[str, float] = field(default_factory=dict)  # metrics without steps
    texts: Mapping[str, str] = field(default_factory=dict)  # path of the artifact -> its text
    files: Mapping[str, Path] = field(default_factory=dict)  # the same of files
    model: LoggedModel | None = None
    status: str = FINISHED  # or RUNNING, FAILED, KILLED
    reason: str = ""  # why it ended
    end_ms: int | None = None  # None: `time_ms`
    is_of_files: bool = False


def curves_of(progress: "Progress") -> Curves:
    """The curves of a running training; its lists are shared, not copied."""
    return Curves(progress.steps, progress.views, progress.epochs, progress.epoch_times_ms)


def curves_of_tables(tables: Tables) -> Curves:
    """The curves of a finished training, from its tables; their rows have no times."""
    steps = [StepRow(*row) for row in tables.steps[list(StepRow._fields)].itertuples(index=False)]
    epochs = [EpochRow(*row) for row in tables.epochs[list(EpochRow._fields)].itertuples(index=False)]
    return Curves(steps, epochs=epochs)


def make_run_true(client: "MlflowClient", store: Store, state: RunState) -> str:
    """Make a run of the store have what `state` says; its id."""
    corpus = {**state.new_tags, **state.tags}.get(CORPUS_TAG, "")
    run = find_run(client, state.tag, state.value) or _create_run(client, store, corpus, state)
    run_id = str(run.info.run_id)
    _log_params(client, run, state)
    _log_points(client, run, state)
    _upload(client, run_id, state)
    if state.model is not None:
        register(client, run_id, log_model(client, run_id, state.model), corpus, state.model)
    # The hash of the model comes when all before is there: later stages find the run by it.
    _log_tags(client, run, state)
    _set_status(client, run, state)
    return run_id


def find_run(client: "MlflowClient", tag: str, value: str) -> "Run | None":
    """The newest run with that tag, if any, in whatever experiment."""
    ids = [one.experiment_id for one in client.search_experiments(max_results=MAX_RESULTS)]
    runs = client.search_runs(ids, f"tags.{tag} = '{value}'", max_results=1, order_by=["start_time DESC"])
    return runs[0] if runs else None


def find_or_create_experiment(client: "MlflowClient", store: Store, corpus: str) -> str:
    """The id of the experiment for models of that corpus."""
    name = store.experiment_of(corpus)
    if known := client.get_experiment_by_name(name):
        if known.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore --experiment-id {known.experiment_id}"
            raise TrackingError(f"the experiment {name} was deleted in MLflow: `{restore}` brings it back")
        return str(known.experiment_id)
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI shows loss curves, not model traces
    return str(client.create_experiment(name, store.artifact_root, kind))


def _create_run(client: "MlflowClient", store: Store, corpus: str, state: RunState) -> "Run":
    experiment_id = find_or_create_experiment(client, store, corpus)
    tags = shown({**state.new_tags, state.tag: state.value})
    if not (run_id := client.create_run(experiment_id, start_time=state.time_ms, tags=tags).info.run_id):
        raise TrackingError("it answers without the id of the new run: expected an MLflow server")
    return client.get_run(run_id)


def _log_params(client: "MlflowClient", run: "Run", state: RunState) -> None:
    """Parameters are immutable there: of a stage that ran again with others, the run keeps the first."""
    from mlflow.entities import Param

    values = {name: value[:MAX_PARAM_LENGTH] for name, value in shown(state.params).items()}
    if new := [Param(name, value) for name, value in values.items() if name not in run.data.params]:
        client.log_batch(run.info.run_id, params=new, synchronous=True)


def _log_points(client: "MlflowClient", run: "Run", state: RunState) -> None:
    """What is after the last step of each metric: a resumed training has taken some steps again, to the same values."""
    from mlflow.entities import Metric

    last = {str(metric.key): int(metric.step) for metric in run.to_proto().data.metrics}  # `data.metrics` has no steps
    known, time_ms = run.data.metrics, state.end_ms or state.time_ms
    points = (point for point in _points(state, last) if point[2] > last.get(point[0], -1))
    single = ((name, value, 0, time_ms) for name, value in state.measured.items() if known.get(name) != value)
    every = (Metric(name, value, time_ms, step) for name, value, step, time_ms in chain(points, single))
    while metrics := list(islice(every, MAX_METRICS_PER_CALL)):
        client.log_batch(run.info.run_id, metrics=metrics, synchronous=True)


def _points(state: RunState, last: Mapping[str, int]) -> Iterator[Point]:
    """The points of the tables, from about where the run ends; `train/...` is a section of the UI."""
    curves, params, num_steps = state.curves, state.params, len(state.curves.steps)  # of which all have views
    names = ["loss/training", "train/gradient_norm", "train/learning_rate"]
    if curves.views:
        seen = "bytes_seen" if params.get("encode.unit") == "byte" else "chars_seen"
        names += ["train/chars_per_second", f"train/{seen}"]
    sent = min(last.get(name, -1) for name in names)
    for index in range(bisect_right(curves.steps, sent, key=lambda row: row.step), num_steps):
        row, (time_ms, *others) = curves.steps[index], curves.views[index] if curves.views else (state.time_ms,)
        values = (row.train_nats_per_char, row.gradient_norm, row.learning_rate, *others)
        for name, value in zip(names, values, strict=True):
            yield name, value, row.step, time_ms
    for index, epoch in enumerate(curves.epochs):  # at the step that ends each: on the axis of the training loss
        time_ms = curves.epoch_times_ms[index] if curves.epoch_times_ms else state.time_ms
        yield "loss/validation", epoch.val_nats_per_char, epoch.step, time_ms
        yield "loss/training_epoch", epoch.train_nats_per_char, epoch.step, time_ms


def _upload(client: "MlflowClient", run_id: str, state: RunState) -> None:
    """Store texts and files. Those of an epoch never change."""
    stored: dict[str, set[str]] = {}
    for path in sorted({*state.texts, *state.files}):
        folder = path.rpartition("/")[0]
        if state.is_of_files or folder == EPOCH_TEXTS:
            if folder not in stored:
                stored[folder] = {info.path for info in client.list_artifacts(run_id, folder)}
            if path in stored[folder]:
                continue
        if path in state.files:
            client.log_artifact(run_id, str(state.files[path]), folder)
        else:
            client.log_text(run_id, state.texts[path].encode(errors="replace").decode(), path)


def _log_tags(client: "MlflowClient", run: "Run", state: RunState) -> None:
    """Set tags that differ. `mlflow.runName` names the run."""
    from mlflow.entities import RunTag

    known, values = run.data.tags, {name: value[:MAX_TAG_LENGTH] for name, value in shown(state.tags).items()}
    if state.is_of_files:
        values = {name: value for name, value in values.items() if name not in known}
    if new := [RunTag(name, value) for name, value in values.items() if known.get(name) != value]:
        client.log_batch(run.info.run_id, tags=new, synchronous=True)


def _set_status(client: "MlflowClient", run: "Run", state: RunState) -> None:
    """What is FINISHED stays so: another machine has trained to the end."""
    run_id = run.info.run_id
    if run.info.status in (FINISHED, state.status):
        return
    if state.status == "RUNNING":
        client.update_run(run_id, status=state.status)
        return
    if state.reason:
        client.set_tag(run_id, "ended", state.reason[:MAX_TAG_LENGTH], synchronous=True)
    end_ms = max(state.end_ms or state.time_ms, run.info.start_time)  # a clock may have been set back
    client.set_terminated(run_id, state.status, end_ms)


# What a store did not take of a run, kept in a folder: `run.json`, and copies of the files. That of a training lies
# next to its checkpoints, which have its tables, from its start on. Once all is sent, it goes.

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
