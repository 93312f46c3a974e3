"""A sweep: planned experiments, run one after another, each with `dvc exp run --temp`."""

import hashlib
import itertools
import json
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tqdm import tqdm

from charlstm.errors import CharlstmError, Interrupted, ParamsError
from charlstm.files.documents import did_you_mean, parse_yaml
from charlstm.files.lock import exclusive
from charlstm.parameter_names import SEED, short_name, shown
from charlstm.tracking.client import EXPERIMENT_TAG
from charlstm.tracking.sync import METRICS, ORIGIN, read_rows
from pipeline import recipes
from pipeline.lineage.git import check_git, experiments, git
from pipeline.lineage.provenance import flat_in
from pipeline.run.dvc import run_dvc
from pipeline.run.project import project_root, state_root
from pipeline.run.terminal import plain_console
from pipeline.sweep.results import Sweep

MIN_AGE_SECONDS = 60  # DVC may still be writing a younger copy
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


def run_all(trials: Sequence[Trial]) -> list[str]:
    """Run the experiments that are not finished yet. Return a line for each failed experiment.

    Raises:
        Interrupted: the user pressed Ctrl-C. Finished experiments are kept.
        LockedError: another sweep is running in this checkout.
        ParamsError: an existing experiment has the name of a planned one, but other parameters.
    """
    check_git()
    baseline = git("rev-parse", "HEAD")
    if baseline is None:
        raise CharlstmError(
            "a sweep needs a git repository with at least one commit, from which DVC's experiments "
            "start: commit the project first"
        )
    with exclusive(state_root() / "sweep", "a sweep in this checkout"):
        _remove_abandoned_copies()
        finished = _finished(trials, baseline)
        Sweep(baseline, [trial.name for trial in trials]).write()
        left = [trial for trial in trials if trial.name not in finished]
        console = plain_console(stderr=True)
        console.print(f"{len(trials)} trainings, {len(finished)} done", soft_wrap=True)

        failures: list[str] = []
        layout = "{percentage:3.0f} % {bar} {desc}  {remaining} left"
        with tqdm(total=len(left), bar_format=layout, disable=None, leave=False) as bar:
            for number, trial in enumerate(left):
                try:
                    reason = _run_one(trial, bar)
                except KeyboardInterrupt:
                    num_finished = len(finished) + number - len(failures)
                    raise Interrupted(f"{num_finished} of {len(trials)} are finished") from None
                line = f"done {number + 1} of {len(left)}: {trial.name}"
                if reason:
                    line = f"{trial.name} failed: {reason}"
                    failures.append(line)
                bar.write(line, sys.stderr)
                bar.update()
    return failures


def _finished(trials: Sequence[Trial], baseline: str) -> set[str]:
    """Return the names of planned trials that already exist as experiments.

    Raises:
        ParamsError: an experiment has different parameters from its trial.
    """
    commits = {name: commit for commit, (name, base) in experiments().items() if base == baseline}
    finished = set()
    for trial in trials:
        if commit := commits.get(trial.name):
            if flat_in(git("show", f"{commit}:./params.yaml")) != flat_in(trial.params):
                raise ParamsError(
                    f"{trial.name}: an experiment with this name exists, but has different "
                    f"parameters: commit params.yaml, or run `dvc exp remove {trial.name}`"
                )
            finished.add(trial.name)
    return finished


def _remove_abandoned_copies() -> None:
    """Remove the temporary copies that stopped experiments left, if no process works in them."""
    folders = {process.info["cwd"] or "" for process in psutil.process_iter(["cwd"])}
    for copy in project_root().glob(".dvc/tmp/exps/standalone/tmp*"):
        is_old = time.time() - copy.stat().st_mtime > MIN_AGE_SECONDS
        if is_old and not any(Path(folder).is_relative_to(copy) for folder in folders):
            shutil.rmtree(copy, ignore_errors=True)


def _last_loss(experiment: str) -> str:
    """Return the last training loss of a running experiment, or "?" before its first loss."""
    for file in state_root().glob(f"*/{ORIGIN}"):
        if json.loads(file.read_text())["tags"].get(EXPERIMENT_TAG) == experiment:
            # The row of an epoch follows the row of its last step.
            for row in read_rows(file.with_name(METRICS))[-2:]:
                if loss := row.metrics.get("loss/training"):
                    return f"{loss:.3f} at step {row.step}"
    return "?"


def _run_one(trial: Trial, bar: "tqdm[Any]") -> str:
    """Run an experiment. Return the reason if the experiment failed, or "" if it succeeded."""
    log = state_root() / "sweep-logs" / f"{trial.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)

    def show() -> None:
        bar.set_description_str(f"{trial.name}  training loss {_last_loss(trial.name)}")

    changes = []
    for name, value in trial.values.items():
        changes += ["-S", f"{name}={json.dumps(value)}"]
    with log.open("w") as output:
        command = ("exp", "run", "--temp", "--name", trial.name, *changes)
        code = run_dvc(*command, stdout=output, stderr=output, watch=show)
    if code == 0:
        log.unlink()
        return ""
    # The first error comes from the stage. DVC then adds that it failed to reproduce the stage.
    error = re.search(r"^ERROR: (.*)", log.read_text(errors="replace"), re.MULTILINE)
    return f"{error[1] if error else f'dvc exited with code {code}'} ({log})"
