"""What the records of a project, or a run of MLflow, say of a model: for its card."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlstm.errors import CharlstmError
from charlstm.files.checksums import read_sums, sums_of
from charlstm.files.documents import load_yaml
from charlstm.files.urls import without_credentials
from charlstm.params import Params, load_params
from charlstm.report.document import DOCUMENT, read_losses, read_review
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.runs import MODEL_TAG
from pipeline.dvc.paths import Paths, load_paths
from pipeline.lineage.revisions import commits_with
from pipeline.lineage.traces import flat, recipe_label
from pipeline.provenance.hashes import folder_md5, md5
from pipeline.provenance.provenance import COMMIT, LINEAGE
from pipeline.stage.presets import recipe_of
from pipeline.stage.tracking_store import store

LOSS = "/nats_per_char"  # ends the name of a loss among a run's metrics
WHILE_TRAINING = ("train/", "validation/")  # losses of other weights than the last
RECIPES = Path("conf/recipe")
NOT_A_RECORD = (CharlstmError, OSError, KeyError, TypeError, AttributeError)  # missing, or of another form


def of_project(folder: Path, sha256: str) -> dict[str, Any] | None:
    """What the project in the current folder says of `folder`; None if it is not that project's model.

    Raises:
        CharlstmError: the project has no paths that can be read.
    """
    paths = load_paths(Path("dvc.yaml"))
    if paths.model.resolve() != folder:
        return None
    reviewed, locked = _of_review(paths, sha256), _of_lock(paths)
    names = [one.pop("recorded_in") for one in (reviewed, locked) if one]
    found = reviewed | locked | ({"recorded_in": ", ".join(names)} if names else {})
    return found | ({"recipe": _recipe_here(found["params"])} if found else {})


def _recipe_here(recorded: Mapping[str, str]) -> str | None:
    """The recipe of these parameters; None if `params.yaml` says others by now."""
    try:
        params = load_params(Path("params.yaml"))
    except CharlstmError:
        return None
    here = flat(params.model_dump(mode="json"))
    decided = {name: value for name, value in here.items() if name.startswith(("model.", "train."))}
    return _label(params) if all(recorded.get(name, value) == value for name, value in decided.items()) else None


def _recipe_of_run(reader: Reader, run: TrackedRun) -> str | None:
    """The recipe of the `params.yaml` that the run carries; None if it carries none that can be read."""
    return recipe_label(reader.text(run, f"{LINEAGE}/train/params.yaml")) if RECIPES.is_dir() else None


def _label(params: Params) -> str | None:
    """The recipe's name with what it changes; None where there are no recipes."""
    return recipe_of(params).label if RECIPES.is_dir() else None


def _of_review(paths: Paths, sha256: str) -> dict[str, Any]:
    file = paths.samples / DOCUMENT
    try:
        review = read_review(file)
    except NOT_A_RECORD:
        return {}
    if review.model_sha256 != sha256:
        return {}
    return {
        "corpus_sha256": review.corpus_sha256,
        "losses": {name: loss.nats_per_char for name, loss in review.losses.items()},
        "params": flat(review.parameters),
        "recorded_in": str(file),
    }


def _of_lock(paths: Paths) -> dict[str, Any]:
    try:
        stages = load_yaml(Path("dvc.lock"))["stages"]
        model = _md5s(stages["train"]["outs"])[str(paths.model)]
        if model != folder_md5(paths.model):
            return {}
        found = {"params": flat(stages["train"]["params"]["params.yaml"]), "recorded_in": "dvc.lock"}
    except NOT_A_RECORD:
        return {}
    if commits := commits_with(model):
        found["commit"] = commits[-1]  # the first
    with contextlib.suppress(*NOT_A_RECORD):
        sums = sums_of(paths.corpus)
        if _md5s(stages["train"]["deps"])[str(sums)] == md5(sums):
            found["corpus_sha256"] = read_sums(sums)[paths.corpus.name]
        if _md5s(stages["download"]["outs"])[str(sums)] == _md5s(stages["train"]["deps"])[str(sums)]:
            found["corpus"] = without_credentials(stages["download"]["params"]["params.yaml"]["download"]["source"])
    with contextlib.suppress(*NOT_A_RECORD):
        metrics, evaluate = paths.evaluate / "metrics.json", stages["evaluate"]
        is_of_model = _md5s(evaluate["deps"])[str(paths.model)] == model
        if is_of_model and _md5s(evaluate["outs"])[str(metrics)] == md5(metrics):
            found["losses"] = {name: loss.nats_per_char for name, loss in read_losses(metrics).items()}
    return found


def _md5s(entries: Any) -> dict[str, str]:  # noqa: ANN401  # a part of a YAML document
    return {str(one["path"]): str(one["md5"]) for one in entries}


def of_run(sha256: str) -> dict[str, Any]:
    """What the newest run of this model says."""
    reader = Reader(store())
    runs = reader.by_tag(MODEL_TAG, sha256)
    if not runs:
        return {}
    run = runs[0]
    return {
        "corpus": run.tags.get("corpus"),
        "corpus_sha256": run.tags.get("corpus_sha256"),
        "recipe": _recipe_of_run(reader, run),
        "commit": run.tags.get(COMMIT),
        "losses": {
            name.removesuffix(LOSS): loss
            for name, loss in run.metrics.items()
            if name.endswith(LOSS) and not name.startswith(WHILE_TRAINING)
        },
        "params": dict(sorted(run.params.items())),
        "recorded_in": f"run {run.run_id}",
    }
