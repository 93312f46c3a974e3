"""`charlstm trace`: the origin of a training, or a list of all trainings."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from charlstm.corpus.fetch import FALLBACKS
from charlstm.errors import TrackingError
from charlstm.files.checksums import sha256
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG, Reader
from charlstm.tracking.registered_model import INITIAL_TAG, MODEL_TAG
from pipeline.arguments import JsonOption, echo_json
from pipeline.lineage.git import experiments, git, lock_at, losses_at
from pipeline.lineage.provenance import (
    BASELINE,
    CHANGED,
    COMMIT,
    DIRTY,
    FALLBACK,
    flat,
    flat_in,
    losses_of,
    recipe_at,
)
from pipeline.lineage.search import Match, find
from pipeline.run.dvc import cached, files_of, load_paths
from pipeline.run.project import PARAMS, from_here
from pipeline.run.store import store
from pipeline.run.terminal import printable


def trace(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|FILE|REV",
            help="A run (its name, its id or its model's hash, or the beginning of an id or a "
            "hash), an output of a stage, a commit, branch, tag or DVC experiment. "
            "Default: list all trainings.",
            callback=from_here,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """List all trainings, or show the origin of a model.

    The origin is: recipe, parameters, losses, text, initial model, commit, DVC experiment, git
    revisions that record the model, and machine. The command also works without MLflow, for example
    after `git pull` and `dvc pull`.
    """
    if name is None:
        trainings = _all_trainings()
        document = {"trainings": trainings}
        text = "\n".join("  ".join(training.values()) for training in trainings)
    else:
        traces = [trace_training(match) for match in find(name)[1]]
        document = {"traces": traces}
        text = "\n\n".join("\n".join(_lines(trace)) for trace in traces)
    if as_json:
        echo_json(document)
    else:
        typer.echo(printable(text))
    return 0


def _all_trainings() -> list[dict[str, Any]]:
    runs = [run for run in Reader(store()).all() if run.params]
    if not runs:
        raise TrackingError("MLflow has no training runs yet; start one with `dvc repro`")
    return [
        {
            "id": run.run_id,
            "began": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.start_ms / 1000)),
            "name": run.name,
            "status": run.status,
        }
        for run in runs
    ]


def trace_training(match: Match) -> dict[str, Any]:
    """Return a training's origin, in display order. Unrecorded values are None or empty."""
    run = match.run
    commits = match.commits()
    here = flat_in(PARAMS.read_text(encoding="utf-8"))
    recorded = (run.params, run.tags, losses_of(run.metrics)) if run else _recorded_at(commits[0])
    params, tags, losses = recorded
    params = dict(sorted(params.items()))
    return {
        "run": f"{run.run_id}  {run.name}  {run.status}" if run else None,
        "made from": tags.get("made_from"),
        "recipe": tags.get(RECIPE_TAG),
        "params": params,
        "not as here": {
            name: value for name, value in params.items() if here.get(name, value) != value
        },
        "losses": {protocol: round(loss, 4) for protocol, loss in losses.items()},
        "model SHA-256": tags.get(MODEL_TAG),
        "text": tags.get("corpus"),
        "text SHA-256": tags.get("corpus_sha256"),
        "begun from": tags.get(INITIAL_TAG),
        "code": tags.get(COMMIT),
        "uncommitted then": tags.get(CHANGED) or tags.get(DIRTY),
        "experiment": tags.get(EXPERIMENT_TAG),
        "baseline": tags.get(BASELINE),
        "in git": [git("log", "-1", "--format=%H%d %s", commit) for commit in commits],
        "hardware": _section("hardware.", tags),
        "versions": _section("versions.", tags),
    }


def _section(prefix: str, tags: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(prefix): value
        for name, value in sorted(tags.items())
        if name.startswith(prefix)
    }


def _recorded_at(commit: str) -> tuple[dict[str, str], dict[str, str], dict[str, float]]:
    """Return the parameters, tags and losses that git and DVC's cache record for a commit."""
    lock = lock_at(commit)
    paths = load_paths()
    # `flat_in` returns nothing for the `params.yaml` of another version of charlstm.
    params = flat_in(git("show", f"{commit}:./{PARAMS}")) or flat(lock.params())
    tags = {"corpus": params.get("download.source", ""), RECIPE_TAG: recipe_at(commit)}

    sums = paths.corpus.with_name(f"{params.get('download.name')}.txt.sha256")
    if file := cached(lock.output(sums)):
        tags["corpus_sha256"] = file.read_text().split()[0]
        fallback = FALLBACKS.get(params.get("download.sha256", ""))
        if fallback and tags["corpus_sha256"] == fallback.sha256:
            tags["corpus"] = f"{FALLBACK} {fallback.requirement}"
    if weights := cached(files_of(lock.output(paths.model)).get(WEIGHTS, "")):
        tags[MODEL_TAG] = sha256(weights)
    if (initial := params.get("train.initial", NOTHING)) != NOTHING:
        tags[INITIAL_TAG] = initial
    known = experiments()
    if commit in known:
        tags[EXPERIMENT_TAG], tags[BASELINE] = known[commit]
    return params, tags, losses_at(commit, paths)


def _lines(trace: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'run':18}{trace['run'] or 'none in MLflow; git and DVC record the following'}"
    for name, value in trace.items():
        if name in ("run", "params"):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        for line in value if isinstance(value, list) else [value]:
            if line:
                yield f"{name:18}{line}"
