"""The results of experiments, from git and DVC's cache: no running checkout is read."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from charlstm.errors import CharlstmError
from charlstm.evaluation.difference import BLOCKS, Blocks, parse_blocks
from charlstm.evaluation.results import HEADLINE
from charlstm.parameter_names import NOT_OF_A_MODEL, SEED, differing, flatten
from pipeline.lineage.git import experiments, git, lock_at
from pipeline.run.dvc import Lock, cached, load_paths, md5, read_lock

OWN = "this checkout"  # the name of the model in the working tree


class Result(NamedTuple):
    """A trained model: its parameters without the seed, the text that it was measured on, and its loss."""

    name: str
    params: dict[str, Any]
    seed: int
    text: tuple[object, ...]
    loss: float  # nats per character
    blocks: Blocks | None


def results_of(baseline: str, names: list[str] | None = None) -> list[Result]:
    """Return the experiments that began from a commit, or those named, in order; and the model that is here.

    The model that is here joins if it was measured on the same text, and differs in nothing but what differs between
    the experiments.
    """
    commits = {name: commit for commit, (name, base) in experiments().items() if base == baseline}
    wanted = list(commits) if names is None else [name for name in names if name in commits]
    found = [one for name in wanted if (one := _at_commit(name, commits[name]))]
    own = (
        _own()
        if git("rev-parse", "HEAD") == baseline or names is not None
        else _at_commit(baseline, baseline)
    )
    if own and found and not any((one.params, one.seed) == (own.params, own.seed) for one in found):
        varied = set(differing([one.params for one in found]))
        if own.text == found[0].text and varied.issuperset(
            differing([own.params, found[0].params])
        ):
            found.append(own)
    return found


def _at_commit(name: str, commit: str) -> Result | None:
    lock = lock_at(commit)
    metrics = git("show", f"{commit}:./{load_paths().evaluate / 'metrics.json'}")
    return _result(name, lock, metrics) if lock and metrics else None


def _own() -> Result | None:
    """Return the model in the working tree, if `dvc.lock` records its losses."""
    lock, file = read_lock(), load_paths().evaluate / "metrics.json"
    if lock is None or not file.exists() or lock.files("outs").get(str(file)) != md5(file):
        return None
    return _result(OWN, lock, file.read_text("utf-8"))


def _result(name: str, lock: Lock, metrics: str) -> Result | None:
    paths, outs, recorded = load_paths(), lock.files("outs"), flatten(lock.params())
    params = {
        key: str(value) if isinstance(value, list) else value
        for key, value in recorded.items()
        if not key.startswith((*NOT_OF_A_MODEL, "download."))
    }
    try:
        loss = float(json.loads(metrics)[HEADLINE]["nats_per_char"])
    except (ValueError, LookupError, TypeError):
        return None
    table = cached(outs.get(str(paths.evaluate / BLOCKS), ""))
    text = (
        recorded.get("download.name"),
        outs.get(str(paths.split)),
        recorded.get("evaluate.max_chars"),
    )
    seed = int(params.pop(SEED, 0))
    return Result(name, params, seed, text, loss, _blocks_in(table) if table else None)


def _blocks_in(table: Path) -> Blocks | None:
    try:
        return parse_blocks(table.read_text("utf-8"), table)
    except (OSError, CharlstmError):  # a damaged cache costs an interval
        return None
