"""One training, from its corpus to its samples, as a document: of a run of MLflow, of a commit, or of both.

The document is what `charlstm trace --json` prints. Its names stay; new ones may come.

    found_by       in words, what tied it to what was asked for
    run            id, name, status, made_from ("training" or "files"), can_be_reproduced; null if MLflow has none
    chain          links in order: link, files (path, sha256 or null, dvc_md5 or null), dvc_folder_md5 or null
    recipe         its name and what was changed in it; null if no file says it
    params         all, by dotted name
    losses         the latest metrics
    code           commit, is_here, dirty ("yes", "no", "unknown", null)
    dvc            experiment, experiment_is_here (whether git has it), baseline, train_md5,
                   revisions (commit, experiment, baseline, names, subject)
    versions, hardware   of the training; empty if no file says them
    stages         of each stage with a record: commit, its state, versions and hardware, where they differ from the
                   training's
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from charlstm.errors import ParamsError
from charlstm.files.atomic import sha256
from charlstm.files.checksums import SUMS
from charlstm.files.urls import without_credentials
from charlstm.model.shape import WEIGHTS
from charlstm.report.document import DOCUMENT, ReviewDocument, read_review
from charlstm.sections import flatten
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.dvc.paths import Paths, declared_paths
from pipeline.dvc.record import FOLDER, cache_folder, cached, files_of, md5
from pipeline.lineage import revisions
from pipeline.provenance.git import git
from pipeline.provenance.hashes import LINKS, SEEN_BY, link_of
from pipeline.provenance.provenance import BASELINE, COMMIT, DIRTY, LINEAGE, TRAIN_MD5
from pipeline.provenance.summary import losses_of, recipe_at
from pipeline.stage.presets import RECIPES, load, recognized
from pipeline.stage.project import LOCK, PARAMS
from pipeline.stage.tracking_store import store

if TYPE_CHECKING:  # trace needs no numpy
    from charlstm.evaluation.blocks import Blocks

Trace = dict[str, Any]

# What a run carries, as `pipeline.provenance.provenance` has written it.


class StageRecord(NamedTuple):
    """The record that one stage has left."""

    stage: str
    origin: dict[str, str]
    files: dict[str, str]  # path -> SHA-256
    outputs: dict[str, str]  # path -> MD5 of DVC
    params: str | None
    lock: str | None


def read_records(reader: Reader, run: TrackedRun) -> list[StageRecord]:
    """The records of the stages that have left one, in their order; none for a run that was made before there were any.

    Raises:
        TrackingError: the store does not answer.
    """
    records = []
    for stage in SEEN_BY:
        origin, files, outputs = (_mapping(reader, run, stage, name) for name in ("origin", "files", "outputs"))
        if files:
            params, lock = (reader.text(run, f"{LINEAGE}/{stage}/{name}") for name in (PARAMS, LOCK))
            records.append(StageRecord(stage, origin, files, outputs, params, lock))
    return records


def read_files(reader: Reader, run: TrackedRun) -> dict[str, str]:
    """The SHA-256 of all files, and nothing else: quick, for a search through many runs."""
    return {path: digest for stage in SEEN_BY for path, digest in _mapping(reader, run, stage, "files").items()}


def _mapping(reader: Reader, run: TrackedRun, stage: str, name: str) -> dict[str, str]:
    """A JSON object of strings; empty if it is none: anybody may have written it."""
    try:
        document = json.loads(reader.text(run, f"{LINEAGE}/{stage}/{name}.json") or "")
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in document.items()} if isinstance(document, dict) else {}


# A training as a document.


def of_run(reader: Reader, run: TrackedRun, paths: Paths, found_by: str) -> Trace:
    """The trace of a run, with what git and DVC know of its training.

    Raises:
        TrackingError: the store does not answer any more.
    """
    records, paths = read_records(reader, run), paths.named_by(run.params)
    commit, experiment, train_md5 = (run.tags.get(tag) for tag in (COMMIT, EXPERIMENT_TAG, TRAIN_MD5))
    commits = revisions.commits_with(train_md5) if train_md5 else []
    tags = {paths.corpus: run.tags.get("corpus_sha256"), paths.model / WEIGHTS: run.tags.get(MODEL_TAG)}
    files, outputs = {str(path): digest for path, digest in tags.items() if digest}, dict[str, str]()
    for record in reversed(records):  # where stages saw different ones, the training's count
        files |= record.files
        outputs |= record.outputs
    has_model = any(link_of(path, paths) == "model" for record in records for path in record.files)
    num_processes = run.tags.get("num_processes", "1")
    return {
        "found_by": found_by,
        "run": {
            "id": run.run_id,
            "name": run.name,
            "status": run.status,
            "made_from": run.tags.get("made_from", "training"),
            "can_be_reproduced": run.status == "FINISHED" and has_model,
        },
        "chain": chain(files, outputs, paths),
        "recipe": run.tags.get(RECIPE_TAG),
        "params": dict(sorted(run.params.items())),
        "losses": dict(sorted(run.metrics.items())),
        "code": {
            "commit": commit,
            "is_here": bool(commit and git("cat-file", "-e", f"{commit}^{{commit}}") is not None),
            "dirty": run.tags.get(DIRTY),
        },
        "dvc": {
            "experiment": experiment,
            "experiment_is_here": experiment in [name for name, _ in revisions.experiments().values()],
            "baseline": run.tags.get(BASELINE),
            "train_md5": train_md5,
            "revisions": [revisions.describe(commit)._asdict() for commit in commits],
        },
        "versions": _below("versions.", run.tags),
        "hardware": _below("hardware.", run.tags) | ({"processes": num_processes} if num_processes != "1" else {}),
        "stages": {record.stage: _other_origin(record, run) for record in records},
    }


def of_commit(commit: str, paths: Paths, found_by: str) -> Trace | None:
    """The trace of a training that only `dvc.lock` of a commit knows; None if that has none."""
    lock = revisions.lock_at(commit)
    if lock is None:
        return None
    files, revision = with_files(lock.files("outs")), revisions.describe(commit)
    params = flat(lock.params())
    return {
        "found_by": found_by,
        "run": None,
        "chain": chain(known_sums(files), files, paths.named_by(params)),
        "recipe": recipe_at(commit),
        "params": params,
        "losses": losses_at(commit, paths),
        "code": {"commit": commit, "is_here": True, "dirty": None},
        "dvc": {
            "experiment": revision.experiment,
            "experiment_is_here": revision.experiment is not None,
            "baseline": revision.baseline,
            "train_md5": lock.train_md5(paths),
            "revisions": [revision._asdict()],
        },
        "versions": {},
        "hardware": {},
        "stages": {},
    }


def chain(files: Mapping[str, str], outputs: Mapping[str, str], paths: Paths) -> list[dict[str, Any]]:
    """The links with all that is known of their files; `files`: path -> SHA-256, `outputs`: path -> MD5 of DVC."""
    links = []
    for link in LINKS:
        names = sorted(path for path in {**files, **outputs} if link_of(path, paths) == link)
        if link == "initial" and not names:
            continue
        folders = [path for path in names if outputs.get(path, "").endswith(".dir")]
        rows = [
            {"path": path, "sha256": files.get(path), "dvc_md5": outputs.get(path)}
            for path in names
            if path not in folders
        ]
        links.append({"link": link, "files": rows, "dvc_folder_md5": outputs[folders[0]] if folders else None})
    return links


def losses_at(commit: str, paths: Paths) -> dict[str, float]:
    """The losses evaluated at a commit, by the names of MLflow's metrics; git has the file that evaluate wrote."""
    try:
        metrics = json.loads(git("show", f"{commit}:./{paths.evaluate / 'metrics.json'}") or "{}")
        return {f"{protocol}/{name}": float(one) for protocol, found in metrics.items() for name, one in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def blocks_at(commit: str, paths: Paths) -> "Blocks | None":
    """The losses by blocks that `dvc.lock` of a commit names, from DVC's cache, or from here if they are the same."""
    from charlstm.evaluation.blocks import BLOCKS

    lock, here = revisions.lock_at(commit), paths.evaluate / BLOCKS
    recorded = lock.files("outs").get(str(here)) if lock else None
    if recorded is None:
        return None
    found = cached(recorded) or (here if here.is_file() and md5(here) == recorded else None)
    return read_blocks(found) if found else None


def read_blocks(*candidates: Path) -> "Blocks | None":
    """The first table of blocks that is there; None if there is none.

    Raises:
        CharlstmError: it is damaged.
    """
    from charlstm.evaluation.blocks import parse_blocks

    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    return parse_blocks(file.read_text("utf-8", errors="replace"), file) if file else None


def _other_origin(record: StageRecord, run: TrackedRun) -> dict[str, str]:
    names = [COMMIT, DIRTY, *(name for name in record.origin if name.startswith(("versions.", "hardware.")))]
    return {
        name: record.origin[name] for name in names if record.origin.get(name, run.tags.get(name)) != run.tags.get(name)
    }


def _below(prefix: str, tags: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in sorted(tags.items()) if name.startswith(prefix)}


def flat(params: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters by dotted name, sorted, as `Params.flat` has them in MLflow."""
    return {  # a lock has the URL as it was written
        name: without_credentials(
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        )
        for name, value in sorted(flatten(params).items())
    }


def is_same_value(value: str | None, other: str | None) -> bool:
    """Whether two parameters are the same, which may be written in two ways: a lock has 0 where `Params` has 0.0."""

    def parsed(text: str) -> object:
        try:
            return json.loads(text)
        except ValueError:
            return text

    return value == other or (value is not None and other is not None and parsed(value) == parsed(other))


# Of a model: the fields of its card, see `pipeline.commands.info`.

TRAINED = ("model.", "train.")  # parameters that decide a training


def card_of_run(sha256: str) -> dict[str, Any] | None:
    """The card of a model, from its newest run; None if it has none."""
    reader = Reader(store())
    for run in reader.by_tag(MODEL_TAG, sha256):
        return {
            "model_sha256": sha256,
            "corpus": run.tags.get("corpus"),
            "corpus_sha256": run.tags.get("corpus_sha256"),
            "recipe": run.tags.get(RECIPE_TAG),
            "commit": run.tags.get(COMMIT),
            "losses": losses_of(run.metrics),
            "params": dict(sorted(run.params.items())),
            "recorded_in": f"run {run.run_id}",
        }
    return None


def card_of_project(folder: Path) -> dict[str, Any] | None:
    """The card of `folder`, from the review and git in the current folder; None if it is not that project's model.

    Raises:
        CharlstmError: the project has no paths or no review that can be read.
    """
    declared = declared_paths()  # whatever params.yaml says: it may be of the next model already
    if Path(declared.get("model", "")).resolve() != folder:
        return None
    file = Path(declared.get("samples", "")) / DOCUMENT
    review = read_review(file)
    commits = revisions.commits_with(md5(folder))
    return {
        "model_sha256": review.model_sha256,
        "corpus": review.corpus,
        "corpus_sha256": review.corpus_sha256,
        "recipe": recipe_of_review(review),
        "commit": commits[-1] if commits else None,  # the first
        "losses": {name: loss.nats_per_char for name, loss in review.losses.items()},
        "params": flat(review.parameters),
        "recorded_in": str(file),
    }


def recipe_of_review(review: ReviewDocument) -> str | None:
    """The recipe of a reviewed model, whatever `params.yaml` says now; None if the current folder has none that knows
    the same parameters.
    """
    try:
        decided = load(RECIPES, RECIPES.root).values
    except ParamsError:
        return None
    values = flatten(review.parameters)
    is_known = all(name in values for name in decided if name.startswith(TRAINED))  # and not of another version
    return recognized(RECIPES, values).label if is_known else None


MAX_SUMS_BYTES = 1_000_000


def folders_with(md5: str) -> list[str]:
    """The hashes of all folders that have a file with that hash."""
    lists = (cache_folder() / "files/md5").glob(f"??/*{FOLDER}")
    names = [f"{file.parent.name}{file.name}" for file in lists]
    return [name for name in names if md5 in files_of(name).values()]


def with_files(outputs: Mapping[str, str]) -> dict[str, str]:
    """`outputs` of a `dvc.lock`, path -> MD5, and all files of its folders."""
    folders = {path: md5 for path, md5 in outputs.items() if md5.endswith(FOLDER)}
    files = {f"{path}/{name}": md5 for path, folder in folders.items() for name, md5 in files_of(folder).items()}
    return {**outputs, **files}


def known_sums(files: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of `files` (path -> MD5), by path: of those that lie here, or that a checksum file here names."""
    here = {path: file for path, md5 in files.items() if not md5.endswith(FOLDER) and (file := cached(md5))}
    sums = {path: sha256(file) for path, file in here.items()}
    for path, file in here.items():
        if (PurePath(path).name == SUMS or path.endswith(".sha256")) and file.stat().st_size <= MAX_SUMS_BYTES:
            for line in file.read_text(errors="replace").splitlines():
                digest, _, name = line.partition("  ")
                sums[os.path.normpath(PurePath(path).parent / name)] = digest
    return sums
