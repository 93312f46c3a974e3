"""`charlstm trace`: where does this come from? Without a name, all trainings."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from charlstm.corpus.fallbacks import FALLBACKS
from charlstm.errors import TrackingError
from charlstm.files.checksums import sha256
from charlstm.model.shape import WEIGHTS
from charlstm.params import NOTHING
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG, Reader
from charlstm.tracking.registered_model import INITIAL_TAG, MODEL_TAG
from pipeline.command_io import JsonOption
from pipeline.lineage.git import experiments, git, lock_at, losses_at
from pipeline.lineage.provenance import (
    BASELINE,
    CHANGED,
    COMMIT,
    DIRTY,
    FALLBACK,
    TRAIN_MD5,
    flat,
    flat_in,
    losses_of,
    recipe_at,
)
from pipeline.lineage.search import Match, find
from pipeline.run.dvc import Lock, cached, files_of, load_paths
from pipeline.run.project import PARAMS, from_here, store
from pipeline.run.terminal import printable
from pipeline.streams import to_the_end_of_a_pipe


def trace(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|FILE|REV",
            help="A run (the beginning of its id, its name, or its model's hash), an output of a stage, or a commit, "
            "branch, tag or DVC experiment. Without it, all trainings are listed.",
            show_default=False,
            callback=from_here,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """List all trainings, or say what one was made of.

    Shown are recipe, parameters, losses, text, the model that it began from, the commit, the DVC experiment, the
    revisions that have it, and the machine. It works after `git pull` and `dvc pull`, too, without MLflow.
    """
    if name is None:
        key, found = "trainings", _all_trainings()
        lines = ["  ".join(training.values()) for training in found]
    else:
        key, found = "traces", [trace_of(match) for match in find(name)[1]]
        lines = [line for one in found for line in ("", *_lines(one))][1:]
    with to_the_end_of_a_pipe():
        if as_json:
            lines = [json.dumps({key: found}, indent=2, ensure_ascii=False)]
        for line in lines:
            typer.echo(line if as_json else printable(line, sys.stdout.encoding))
    return 0


def _all_trainings() -> list[dict[str, Any]]:
    runs = [run for run in Reader(store()).all() if run.params]
    if not runs:
        raise TrackingError("no training is in MLflow yet; `dvc repro` makes the first")
    began = [time.strftime("%Y-%m-%d %H:%M", time.localtime(run.start_ms / 1000)) for run in runs]
    rows = zip(runs, began, strict=True)
    return [
        {"id": run.run_id, "began": when, "name": run.name, "status": run.status}
        for run, when in rows
    ]


def trace_of(match: Match) -> dict[str, Any]:
    """What a training was made of, in the order in which it is shown; None or empty is what no record says."""
    run, commits, here = match.run, match.commits(), flat_in(PARAMS.read_text(encoding="utf-8"))
    params, tags, metrics = (run.params, run.tags, run.metrics) if run else _recorded_at(commits[0])
    return {
        "run": f"{run.run_id}  {run.name}  {run.status}" if run else None,
        "made from": tags.get("made_from"),
        "recipe": tags.get(RECIPE_TAG),
        "params": dict(sorted(params.items())),
        "not as here": {
            name: value for name, value in sorted(params.items()) if here.get(name, value) != value
        },
        "losses": {protocol: round(loss, 4) for protocol, loss in losses_of(metrics).items()},
        "model SHA-256": tags.get(MODEL_TAG),
        "text": tags.get("corpus"),
        "text SHA-256": tags.get("corpus_sha256"),
        "begun from": tags.get(INITIAL_TAG),
        "code": tags.get(COMMIT),
        "uncommitted then": tags.get(CHANGED) or tags.get(DIRTY),
        "experiment": tags.get(EXPERIMENT_TAG),
        "baseline": tags.get(BASELINE),
        "in git": [git("log", "-1", "--format=%H%d %s", commit) for commit in commits]
        or _why_in_no_commit(match),
        **{
            kind: {
                name.partition(".")[2]: value
                for name, value in sorted(tags.items())
                if name.startswith(f"{kind}.")
            }
            for kind in ("hardware", "versions")
        },
    }


def _why_in_no_commit(match: Match) -> list[str]:
    lock, train_md5 = lock_at("HEAD"), match.run and match.run.tags.get(TRAIN_MD5)
    if lock is None or train_md5 is None:
        return []
    reason = "this model is not committed yet, or a processor that rounds differently made that one"
    return [f"no commit records this model: dvc.lock at HEAD names another one ({reason})"]


def _recorded_at(commit: str) -> tuple[dict[str, str], dict[str, str], dict[str, float]]:
    """Parameters, tags and metrics as a run would have them, from `dvc.lock`, git, and DVC's cache if it has them."""
    lock, paths = lock_at(commit) or Lock({}), load_paths()
    params = flat_in(git("show", f"{commit}:./{PARAMS}")) or flat(
        lock.params()
    )  # of another version
    tags = {"corpus": params.get("download.source", ""), RECIPE_TAG: recipe_at(commit)}
    outs = lock.files("outs", "download")  # its name is that of the text, whatever it is here
    if sums := cached(next((md5 for path, md5 in outs.items() if path.endswith(".sha256")), "")):
        tags["corpus_sha256"] = sums.read_text().split()[0]
        fallback = FALLBACKS.get(params.get("download.sha256", ""))
        if fallback and tags["corpus_sha256"] == fallback.sha256:
            tags["corpus"] = f"{FALLBACK} {fallback.requirement}"
    if weights := cached(files_of(lock.files("outs").get(str(paths.model), "")).get(WEIGHTS, "")):
        tags[MODEL_TAG] = sha256(weights)
    if (initial := params.get("train.initial", NOTHING)) != NOTHING:
        tags[INITIAL_TAG] = initial
    if commit in (known := experiments()):
        tags[EXPERIMENT_TAG], tags[BASELINE] = known[commit]
    return params, tags, losses_at(commit, paths)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'run':15}{found['run'] or 'none in MLflow; this is what git and DVC know'}"
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {one}" for key, one in value.items())  # noqa: PLW2901
        for line in value if isinstance(value, list) else [value]:
            if line and name not in ("run", "params"):
                yield f"{name:15}{line}"
