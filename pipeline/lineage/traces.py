"""One training, from its corpus to its samples, as a document: of a run of MLflow, of a commit, or of both.

The document is what `charlstm trace --json` prints. Its names stay; new ones may come.

    found_by       in words, what tied it to what was asked for
    run            id, name, status, made_from ("training" or "files"); null if MLflow has none
    chain          links in order: link, files (path, sha256 or null, dvc_md5 or null), dvc_folder_md5 or null
    recipe         its name and what was changed in it; null if no file says it
    params         all, by dotted name
    losses         the latest metrics
    code           commit, is_here, dirty ("yes", "no", "unknown", null), changes (the artifact, or null)
    dvc            experiment, experiment_is_here (whether git has it), baseline, train_md5,
                   revisions (commit, experiment, baseline, names, subject)
    versions, hardware   of the training; empty if no file says them
    stages         of each stage with a record: commit and versions, where they differ from the training's
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from charlstm.errors import ParamsError
from charlstm.files.checksums import SUMS
from charlstm.files.documents import parse_yaml, validate
from charlstm.files.urls import without_credentials
from charlstm.params import Params
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.runs import MODEL_TAG
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import known_sums, with_files
from pipeline.lineage import revisions
from pipeline.provenance.git import git
from pipeline.provenance.hashes import LINKS, OPTIONAL, SEEN_BY, link_of
from pipeline.provenance.provenance import BASELINE, COMMIT, DIRTY, EXPERIMENT, LINEAGE, TRAIN_MD5
from pipeline.stage.presets import recipe_of

# What a run of MLflow carries of its origin: `lineage/<stage>/` of `pipeline.provenance.provenance`, read back.


class StageRecord(NamedTuple):
    """What one stage has left."""

    stage: str
    origin: dict[str, str]
    files: dict[str, str]  # path -> SHA-256
    outputs: dict[str, str]  # path -> MD5 of DVC
    params: str | None
    lock: str | None
    changes: str | None

    @property
    def commit(self) -> str | None:
        """The commit that the stage ran at."""
        return self.origin.get(COMMIT)


def read_records(reader: Reader, run: TrackedRun) -> list[StageRecord]:
    """The records of the stages that have left one, in their order; none for a run that was made before there were any.

    Raises:
        TrackingError: the store does not answer.
    """
    found = []
    for stage in SEEN_BY:
        folder = f"{LINEAGE}/{stage}"
        origin, files, outputs = (
            _mapping(reader.text(run, f"{folder}/{name}.json")) for name in ("origin", "files", "outputs")
        )
        if files:
            params, lock, changes = (
                reader.text(run, f"{folder}/{name}") for name in ("params.yaml", "dvc.lock", "changes.diff")
            )
            found.append(StageRecord(stage, origin, files, outputs, params, lock, changes))
    return found


def recipe_label(params: str | None) -> str | None:
    """The recipe of a `params.yaml` that a run or a commit has; None without one, or if it is of another version."""
    if params is None:
        return None
    try:
        return recipe_of(validate(Params, parse_yaml(params), Path("params.yaml"))).label
    except (ParamsError, ValueError):
        return None


def read_files(reader: Reader, run: TrackedRun) -> dict[str, str]:
    """Only the SHA-256 of all files: quick, for a search through many runs."""
    found: dict[str, str] = {}
    for stage in SEEN_BY:
        found |= _mapping(reader.text(run, f"{LINEAGE}/{stage}/files.json"))
    return found


def _mapping(text: str | None) -> dict[str, str]:
    """A JSON object of strings; empty if it is none: anybody may have written it."""
    try:
        document = json.loads(text or "")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in document.items()} if isinstance(document, dict) else {}


# The document.

Trace = dict[str, Any]
WEIGHTS = "model.safetensors"  # as `charlstm.model.model_folder` has it, which takes torch to import


def of_run(reader: Reader, run: TrackedRun, paths: Paths, found_by: str) -> Trace:
    """The trace of a run, with what git and DVC know of its training.

    Raises:
        TrackingError: the store does not answer any more.
    """
    records = read_records(reader, run)
    train_md5 = run.tags.get(TRAIN_MD5)
    commits = revisions.commits_with(train_md5) if train_md5 else []
    lock = next((lock for one in commits if (lock := revisions.lock_at(one))), None)
    files, outputs = _merged(records, run, paths)
    if lock:
        outputs = {**_same_training(lock.outputs, outputs), **outputs}
    return {
        "found_by": found_by,
        "run": {
            "id": run.run_id,
            "name": run.name,
            "status": run.status,
            "made_from": run.tags.get("made_from", "training"),
        },
        "chain": chain(files, outputs, paths),
        "recipe": recipe_label(records[0].params) if records else None,
        "params": dict(sorted(run.params.items())),
        "losses": dict(sorted(run.metrics.items())),
        "code": _code(run, records),
        "dvc": {
            "experiment": run.tags.get(EXPERIMENT),
            "experiment_is_here": run.tags.get(EXPERIMENT) in [name for name, _ in revisions.experiments().values()],
            "baseline": run.tags.get(BASELINE),
            "train_md5": train_md5,
            "revisions": [revisions.describe(one)._asdict() for one in commits],
        },
        "versions": _below("versions.", run.tags),
        "hardware": _below("hardware.", run.tags) | _processes(run),
        "stages": {one.stage: _other_origin(one, run) for one in records},
    }


def _processes(run: TrackedRun) -> dict[str, str]:
    """How many processes trained, where it was more than one."""
    number = run.tags.get("num_processes", "1")
    return {} if number == "1" else {"processes": number}


def of_commit(commit: str, paths: Paths, found_by: str) -> Trace | None:
    """The trace of a training that only `dvc.lock` of a commit knows; None if that has none."""
    lock = revisions.lock_at(commit)
    if lock is None:
        return None
    train_md5, files = train_md5_of(lock, paths), with_files(lock.outputs)
    revision = revisions.describe(commit)
    return {
        "found_by": found_by,
        "run": None,
        "chain": chain(known_sums(files), files, paths),
        "recipe": recipe_label(git("show", f"{commit}:./params.yaml")),
        "params": flat(lock.params),
        "losses": _losses_at(commit, paths),
        "code": {"commit": commit, "is_here": True, "dirty": None, "changes": None},
        "dvc": {
            "experiment": revision.experiment,
            "experiment_is_here": revision.experiment is not None,
            "baseline": revision.baseline,
            "train_md5": train_md5,
            "revisions": [revision._asdict()],
        },
        "versions": {},
        "hardware": {},
        "stages": {},
    }


def _losses_at(commit: str, paths: Paths) -> dict[str, float]:
    """By the names of the run's metrics: git has the file that evaluate wrote."""
    try:
        metrics = json.loads(git("show", f"{commit}:./{paths.evaluate / 'metrics.json'}") or "{}")
        return {f"{protocol}/{name}": float(one) for protocol, found in metrics.items() for name, one in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def train_md5_of(lock: revisions.Lock, paths: Paths) -> str | None:
    """DVC's name for the training of a lock; None if it has none."""
    return lock.outputs.get(str(paths.train / SUMS))


def chain(files: Mapping[str, str], outputs: Mapping[str, str], paths: Paths) -> list[dict[str, Any]]:
    """The links with all that is known of their files; `files`: path -> SHA-256, `outputs`: path -> MD5 of DVC."""
    links = []
    for link in LINKS:
        names = sorted(path for path in {**files, **outputs} if link_of(path, paths) == link)
        if link == OPTIONAL and not names:
            continue
        folder = next((outputs[path] for path in names if outputs.get(path, "").endswith(".dir")), None)
        known = [path for path in names if not outputs.get(path, "").endswith(".dir")]
        rows = [{"path": path, "sha256": files.get(path), "dvc_md5": outputs.get(path)} for path in known]
        links.append({"link": link, "files": rows, "dvc_folder_md5": folder})
    return links


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


def _merged(records: Sequence[StageRecord], run: TrackedRun, paths: Paths) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 and MD5 of all files; where stages saw different ones, the training's."""
    files: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for record in reversed(records):
        files |= record.files
        outputs |= record.outputs
    tags = {str(paths.corpus): "corpus_sha256", str(paths.model / WEIGHTS): MODEL_TAG}
    return {path: run.tags[tag] for path, tag in tags.items() if tag in run.tags} | files, outputs


def _same_training(lock: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """Of a lock, what does not contradict the record: its samples may be later ones."""
    folders = {str(Path(path).parent) for path in outputs} | set(outputs)
    return {path: digest for path, digest in lock.items() if not {path, str(Path(path).parent)} & folders}


def _code(run: TrackedRun, records: Sequence[StageRecord]) -> dict[str, Any]:
    commit = run.tags.get(COMMIT)
    changed = [f"{LINEAGE}/{record.stage}/changes.diff" for record in records[:1] if record.changes]
    return {
        "commit": commit,
        "is_here": bool(commit and git("cat-file", "-e", f"{commit}^{{commit}}") is not None),
        "dirty": run.tags.get(DIRTY),
        "changes": changed[0] if changed else None,
    }


def _other_origin(record: StageRecord, run: TrackedRun) -> dict[str, str]:
    names = [COMMIT, DIRTY, *(name for name in record.origin if name.startswith(("versions.", "hardware.")))]
    return {
        name: record.origin[name] for name in names if record.origin.get(name, run.tags.get(name)) != run.tags.get(name)
    }


def _below(prefix: str, tags: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in sorted(tags.items()) if name.startswith(prefix)}
