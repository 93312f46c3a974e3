"""What records say of a training: its run in MLflow, or `review.json` and `dvc.lock` of a project.

Each is believed only of the bytes that it names by their hash.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from charlstm.errors import CharlstmError
from charlstm.files.checksums import read_sums, sums_of
from charlstm.files.documents import load_yaml
from charlstm.files.urls import without_credentials
from charlstm.params import load_params
from charlstm.report.document import DOCUMENT, read_losses, read_review
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.dvc.paths import Paths, load_paths
from pipeline.lineage.revisions import commits_with
from pipeline.provenance.hashes import SEEN_BY, folder_md5, md5
from pipeline.provenance.provenance import LINEAGE
from pipeline.provenance.summary import RunSummary, summary_of_run
from pipeline.stage.presets import Recipe, recipe_of
from pipeline.stage.tracking_store import store

# Of a run: what `pipeline.provenance.provenance` has written.


class StageRecord(NamedTuple):
    """What one stage has left."""

    stage: str
    origin: dict[str, str]
    files: dict[str, str]  # path -> SHA-256
    outputs: dict[str, str]  # path -> MD5 of DVC
    params: str | None
    lock: str | None
    changes: str | None


def read_records(reader: Reader, run: TrackedRun) -> list[StageRecord]:
    """The records of the stages that have left one, in their order; none for a run that was made before there were any.

    Raises:
        TrackingError: the store does not answer.
    """
    records = []
    for stage in SEEN_BY:
        origin, files, outputs = (_mapping(reader, run, stage, name) for name in ("origin", "files", "outputs"))
        if files:
            names = ("params.yaml", "dvc.lock", "changes.diff")
            texts = [reader.text(run, f"{LINEAGE}/{stage}/{name}") for name in names]
            records.append(StageRecord(stage, origin, files, outputs, *texts))
    return records


def read_files(reader: Reader, run: TrackedRun) -> dict[str, str]:
    """Only the SHA-256 of all files: quick, for a search through many runs."""
    return {path: digest for stage in SEEN_BY for path, digest in _mapping(reader, run, stage, "files").items()}


def _mapping(reader: Reader, run: TrackedRun, stage: str, name: str) -> dict[str, str]:
    """A JSON object of strings; empty if it is none: anybody may have written it."""
    try:
        document = json.loads(reader.text(run, f"{LINEAGE}/{stage}/{name}.json") or "")
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in document.items()} if isinstance(document, dict) else {}


# Of a model: for its card. Each comes with the name of the record.

RECIPES = Path("conf/recipe")
TRAINED = ("model.", "train.")  # parameters that decide a training
NOT_A_RECORD = (CharlstmError, OSError, KeyError, TypeError, AttributeError)  # missing, or of another form


def summary_in_mlflow(sha256: str) -> tuple[RunSummary, str] | None:
    """What the newest run of the model says; None if it has none."""
    reader = Reader(store())
    for run in reader.by_tag(MODEL_TAG, sha256):
        summary = summary_of_run(run, reader.text(run, f"{LINEAGE}/train/params.yaml"))
        return summary if RECIPES.is_dir() else summary._replace(recipe=None), f"run {run.run_id}"
    return None


def summary_in_project(folder: Path, sha256: str) -> tuple[RunSummary, str] | None:
    """What the project in the current folder says of `folder`; None if it is not that project's model.

    Raises:
        CharlstmError: the project has no paths that can be read.
    """
    paths = load_paths(Path("dvc.yaml"))
    if paths.model.resolve() != folder:
        return None
    review, lock = _of_review(paths, sha256), _of_lock(paths)
    names = [name for name, record in ((str(paths.samples / DOCUMENT), review), ("dvc.lock", lock)) if record]
    summary = RunSummary(**(review | lock))
    return summary._replace(recipe=_recipe_here(summary.params)), ", ".join(names)


def _of_review(paths: Paths, sha256: str) -> dict[str, Any]:
    try:
        review = read_review(paths.samples / DOCUMENT)
    except NOT_A_RECORD:
        return {}
    if review.model_sha256 != sha256:
        return {}
    losses = {name: loss.nats_per_char for name, loss in review.losses.items()}
    return {"corpus_sha256": review.corpus_sha256, "losses": losses, "params": flat(review.parameters)}


def _of_lock(paths: Paths) -> dict[str, Any]:
    def md5_in(stage: str, kind: str, path: Path) -> str:
        return str({entry["path"]: entry["md5"] for entry in stages[stage][kind]}[str(path)])

    try:
        stages = load_yaml(Path("dvc.lock"))["stages"]
        model = md5_in("train", "outs", paths.model)
        if model != folder_md5(paths.model):
            return {}
        record: dict[str, Any] = {"params": flat(stages["train"]["params"]["params.yaml"])}
    except NOT_A_RECORD:
        return {}
    if commits := commits_with(model):
        record["commit"] = commits[-1]  # the first
    with contextlib.suppress(*NOT_A_RECORD):
        sums = sums_of(paths.corpus)
        trained_on = md5_in("train", "deps", sums)
        if trained_on == md5(sums):
            record["corpus_sha256"] = read_sums(sums)[paths.corpus.name]
        if trained_on == md5_in("download", "outs", sums):
            record["corpus"] = without_credentials(stages["download"]["params"]["params.yaml"]["download"]["source"])
    with contextlib.suppress(*NOT_A_RECORD):
        metrics = paths.evaluate / "metrics.json"
        is_of_model = md5_in("evaluate", "deps", paths.model) == model
        if is_of_model and md5_in("evaluate", "outs", metrics) == md5(metrics):
            record["losses"] = {name: loss.nats_per_char for name, loss in read_losses(metrics).items()}
    return record


def _recipe_here(recorded: Mapping[str, str] | None) -> Recipe | None:
    """The recipe of these parameters; None if `params.yaml` says others by now, or where there are no recipes."""
    try:
        params = load_params(Path("params.yaml"))
    except CharlstmError:
        return None
    here = {name: one for name, one in flat(params.model_dump(mode="json")).items() if name.startswith(TRAINED)}
    is_same = recorded and all(recorded.get(name, value) == value for name, value in here.items())
    return recipe_of(params) if is_same and RECIPES.is_dir() else None


def flat(params: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested parameters by dotted name, as `Params.flat` has them in MLflow."""
    found: dict[str, str] = {}
    for name, value in sorted(params.items()):
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value)
            found[f"{above}{name}"] = without_credentials(shown)  # a lock has the URL as it was written
    return found
