"""The plan of a sweep: the experiments, with their names and values."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from charlstm.errors import ParamsError
from charlstm.files.documents import did_you_mean, parse_yaml
from charlstm.parameter_names import SEED, short_name, shown
from pipeline import recipes

MAX_NAME_CHARS = 100  # git uses the name as a file name, which has a maximum length


class Trial(NamedTuple):
    """A planned experiment: its name, the changed values, and the resulting `params.yaml`."""

    name: str
    values: dict[str, object]
    params: str


def plan(words: Sequence[str], num_seeds: int | None = None) -> list[Trial]:
    """Return a trial for each combination of values and each seed from 1 to `num_seeds`.

    Args:
        words: `NAME=VALUE,VALUE,...`, with the dotted name of a parameter.
        num_seeds: number of seeds; None means the current seed.

    Raises:
        ParamsError: a name is not a parameter, or a value is invalid or repeated.
    """
    grid = dict(map(_parse, words))
    if num_seeds:
        grid[SEED] = list(range(1, num_seeds + 1))
    trials = []
    for combination in itertools.product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        trials.append(Trial(_name_of(values), values, recipes.params_with(values)[0]))
    if len({trial.name for trial in trials}) < len(trials):
        raise ParamsError(f"expected distinct values, got a value twice: {' '.join(words)}")
    return trials


def _parse(word: str) -> tuple[str, list[object]]:
    name, _, text = word.partition("=")
    if name not in recipes.PARAMETERS:
        raise ParamsError(f"{name} is not a parameter{did_you_mean(name, recipes.PARAMETERS)}")
    try:
        values = parse_yaml(f"[{text}]")
    except ValueError as error:
        raise ParamsError(f"{word}: {error}") from None
    if not values:
        raise ParamsError(f"{word}: expected {name}=VALUE,VALUE,...")
    return name, values


def _name_of(values: dict[str, object]) -> str:
    """Return an experiment name that git accepts, e.g. `muon.learning_rate=0.06,seed=2`."""
    words = (f"{short_name(name)}={shown(value)}" for name, value in values.items())
    name = re.sub(r"[^\w.+=,-]+|\.(?=\.|$)", "_", ",".join(words))
    if len(name) > MAX_NAME_CHARS:
        digest = hashlib.sha256(repr(values).encode()).hexdigest()
        name = f"{name[:MAX_NAME_CHARS]}-{digest[:8]}"
    return name
