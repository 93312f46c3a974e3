"""The results of experiments, read from git and DVC's cache, never from a running experiment."""

import json
from typing import Any, NamedTuple

from charlstm.evaluation.difference import BLOCKS, Blocks, read_blocks
from charlstm.evaluation.results import HEADLINE
from charlstm.files.atomic import write_text
from charlstm.parameter_names import NOT_OF_A_MODEL, SEED, flatten
from pipeline.lineage.git import experiments, lock_at, losses_at
from pipeline.run.dvc import cached, load_paths
from pipeline.run.project import state_root


class Result(NamedTuple):
    """A trained model's parameters, seed and loss, and the text on which the loss was measured."""

    name: str
    params: dict[str, Any]  # without the seed
    seed: int
    text: tuple[object, ...]  # identifies the text on which the loss was measured
    loss: float  # nats per character
    blocks: Blocks | None


def results_of(baseline: str, names: list[str] | None = None) -> list[Result]:
    """Return the results of experiments.

    Args:
        baseline: the commit from which the experiments started.
        names: names of experiments, in the order of the results; None means all.
    """
    commits = {name: commit for commit, (name, base) in experiments().items() if base == baseline}
    wanted = list(commits) if names is None else [name for name in names if name in commits]
    return [result for name in wanted if (result := _at_commit(name, commits[name]))]


def _at_commit(name: str, commit: str) -> Result | None:
    paths = load_paths()
    loss = losses_at(commit, paths).get(HEADLINE)
    if loss is None:
        return None
    lock = lock_at(commit)
    recorded = flatten(lock.params())
    params = {
        key: str(value) if isinstance(value, list) else value
        for key, value in recorded.items()
        if not key.startswith((*NOT_OF_A_MODEL, "download."))
    }
    seed = int(params.pop(SEED, 0))
    text = (
        recorded.get("download.name"),
        lock.output(paths.split),
        recorded.get("evaluate.max_chars"),
    )
    table = cached(lock.output(paths.evaluate / BLOCKS))
    blocks = read_blocks(table) if table else None
    return Result(name, params, seed, text, loss, blocks)


RECORD = "sweep.json"  # in the state folder


class Sweep(NamedTuple):
    """The commit from which a sweep started, and the names of its experiments."""

    baseline: str
    names: list[str]

    def write(self) -> None:
        """Record this sweep as the last sweep."""
        write_text(state_root() / RECORD, json.dumps(self._asdict()))


def last_sweep() -> Sweep | None:
    """Return the last sweep in this checkout, or None if there was no sweep."""
    try:
        return Sweep(**json.loads((state_root() / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
