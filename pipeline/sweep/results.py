"""The results of experiments, read from git and DVC's cache, never from a running experiment."""

import json
from typing import Any, NamedTuple

from charlstm.evaluation.difference import BLOCKS, Blocks, read_blocks
from charlstm.evaluation.results import HEADLINE
from charlstm.files.atomic import write_text
from charlstm.parameter_names import NOT_OF_A_MODEL, SEED, differing, flatten
from charlstm.review.document import read_losses
from pipeline.lineage.git import experiments, git, lock_at, losses_at
from pipeline.run.dvc import Lock, cached, load_paths, md5, read_lock
from pipeline.run.project import state_root

OWN = "this checkout"  # the name that results give to the working tree's model


class Result(NamedTuple):
    """A trained model's parameters, seed and loss, and the text on which the loss was measured."""

    name: str
    params: dict[str, Any]  # without the seed
    seed: int
    text: tuple[object, ...]  # identifies the text on which the loss was measured
    loss: float  # nats per character
    blocks: Blocks | None


def results_of(baseline: str, names: list[str] | None = None) -> list[Result]:
    """Return the results of experiments, plus the model in the working tree if comparable.

    The model in the working tree is included if it was measured on the same text and differs only
    in parameters that vary between the experiments.

    Args:
        baseline: the commit from which the experiments started.
        names: names of experiments, in the order of the results; None means all.
    """
    commits = {name: commit for commit, (name, base) in experiments().items() if base == baseline}
    wanted = list(commits) if names is None else [name for name in names if name in commits]
    results = [result for name in wanted if (result := _at_commit(name, commits[name]))]
    is_here = names is not None or git("rev-parse", "HEAD") == baseline
    own = _own() if is_here else _at_commit(baseline, baseline)
    if own is None or not results:
        return results

    is_new = all((other.params, other.seed) != (own.params, own.seed) for other in results)
    varied = set(differing([result.params for result in results]))
    is_comparable = varied.issuperset(differing([own.params, results[0].params]))
    if is_new and is_comparable and own.text == results[0].text:
        results.append(own)
    return results


def _at_commit(name: str, commit: str) -> Result | None:
    loss = losses_at(commit, load_paths()).get(HEADLINE)
    return None if loss is None else _result(name, lock_at(commit), loss)


def _own() -> Result | None:
    """Return the working tree's result, or None if `dvc.lock` does not record this result."""
    lock = read_lock()
    file = load_paths().evaluate / "metrics.json"
    if not file.exists() or lock.output(file) != md5(file):
        return None
    return _result(OWN, lock, read_losses(file)[HEADLINE].nats_per_char)


def _result(name: str, lock: Lock, loss: float) -> Result:
    paths = load_paths()
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
