"""What records say of a training: its run in MLflow, or a project's review and git.

Each is believed only of the bytes that it names by their hash.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from charlstm.files.urls import without_credentials
from charlstm.params import load_params
from charlstm.report.document import DOCUMENT, read_review
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.dvc.paths import load_paths
from pipeline.lineage.revisions import commits_with
from pipeline.provenance.hashes import SEEN_BY, folder_md5
from pipeline.provenance.provenance import COMMIT, LINEAGE
from pipeline.provenance.summary import losses_of, recipe_in
from pipeline.stage.presets import recipe_of
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


# Of a model: the fields of its card, see `pipeline.commands.info`.

RECIPES = Path("conf/recipe")
TRAINED = ("model.", "train.")  # parameters that decide a training


def card_of_run(sha256: str) -> dict[str, Any] | None:
    """What the newest run of the model says; None if it has none."""
    reader = Reader(store())
    for run in reader.by_tag(MODEL_TAG, sha256):
        recipe = recipe_in(reader.text(run, f"{LINEAGE}/train/params.yaml")) if RECIPES.is_dir() else None
        return {
            "model_sha256": sha256,
            "corpus": run.tags.get("corpus"),
            "corpus_sha256": run.tags.get("corpus_sha256"),
            "recipe": recipe and recipe.label,
            "commit": run.tags.get(COMMIT),
            "losses": losses_of(run.metrics),
            "params": dict(sorted(run.params.items())),
            "recorded_in": f"run {run.run_id}",
        }
    return None


def card_of_project(folder: Path) -> dict[str, Any] | None:
    """What the review and git in the current folder say of `folder`; None if it is not that project's model.

    Raises:
        CharlstmError: the project has no paths or no review that can be read.
    """
    paths = load_paths(Path("dvc.yaml"))
    if paths.model.resolve() != folder:
        return None
    review, here = read_review(paths.samples / DOCUMENT), load_params(Path("params.yaml"))
    params = flat(review.parameters)
    trained = {name: value for name, value in flat(here.model_dump(mode="json")).items() if name.startswith(TRAINED)}
    is_same = trained.items() <= params.items() and RECIPES.is_dir()
    commits = commits_with(folder_md5(folder))
    return {
        "model_sha256": review.model_sha256,
        "corpus": review.corpus,
        "corpus_sha256": review.corpus_sha256,
        "recipe": recipe_of(here).label if is_same else None,
        "commit": commits[-1] if commits else None,  # the first
        "losses": {name: loss.nats_per_char for name, loss in review.losses.items()},
        "params": params,
        "recorded_in": str(paths.samples / DOCUMENT),
    }


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
