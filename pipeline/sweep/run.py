"""Runs the experiments of a sweep one after the other, by `dvc exp run --temp`, and remembers which they are."""

import json
import re
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from tqdm import tqdm

from charlstm.errors import CharlstmError, Interrupted, ParamsError
from charlstm.files.documents import parse_yaml, validate
from charlstm.files.lock import exclusive
from charlstm.parameter_names import SEED
from charlstm.params import Params
from charlstm.text.vocabulary_file import VOCAB, load_vocab
from charlstm.training.sizes import steps_per_epoch
from pipeline.lineage.git import check_git, experiments, git
from pipeline.lineage.provenance import flat_in
from pipeline.run.dvc import load_paths, run_dvc
from pipeline.run.project import PARAMS, state_root
from pipeline.run.terminal import plain_console
from pipeline.sweep.plan import Trial
from pipeline.sweep.record import Sweep
from pipeline.timing import step_seconds

SECONDS_BESIDES = 20  # evaluation, samples and DVC
MAX_TIMED = 5  # recipes
STEP = re.compile(
    r"(?:step |epoch )(\d+)/(\d+) .*?(?:loss|val) ([\d.]+)"
)  # a line of training's console


def seconds_of_training(trials: Sequence[Trial]) -> float | None:
    """Time a few steps of each recipe. Return the mean seconds of a training; None before the text is encoded."""
    encoded = load_paths().encoded
    try:
        num_ids = len(np.load(encoded / "train.npy", mmap_mode="r"))
        vocab_size = len(load_vocab(encoded / VOCAB))
    except (OSError, ValueError, CharlstmError):
        return None
    recipes = {repr({**trial.values, SEED: None}): trial for trial in trials}
    seconds = []
    for trial in list(recipes.values())[:MAX_TIMED]:
        params = validate(Params, parse_yaml(trial.params), PARAMS)
        num_steps = params.train.epochs * steps_per_epoch(num_ids, params.train, params.encode.unit)
        seconds.append(num_steps * step_seconds(params, vocab_size) + SECONDS_BESIDES)
    return fmean(seconds)


def run_all(trials: Sequence[Trial], seconds: float | None) -> list[str]:
    """Train what is not trained yet. Return a line for each failure.

    Args:
        seconds: that one training takes, about; None if unknown.

    Raises:
        LockedError: another sweep is under way.
        ParamsError: an experiment of that name has other parameters.
    """
    check_git()
    if (baseline := git("rev-parse", "HEAD")) is None:
        raise CharlstmError(
            "a sweep needs a git repository with a commit: DVC's experiments begin from it"
        )
    with exclusive(state_root() / "sweep", "a sweep in this checkout"):
        done = _done(trials, baseline)
        Sweep(baseline, [trial.name for trial in trials]).write()
        left = [trial for trial in trials if trial.name not in done]
        about = f", about {max(1, round(seconds * len(left) / 60))} min" if seconds and left else ""
        console = plain_console(stderr=True)
        console.print(
            f"{len(trials)} trainings, {len(trials) - len(left)} done{about}", soft_wrap=True
        )
        failures: list[str] = []
        with tqdm(
            total=len(left),
            bar_format="{percentage:3.0f} % {bar} {desc}",
            disable=None,
            leave=False,
        ) as bar:
            for number, trial in enumerate(left):
                try:
                    reason = _run_one(trial, bar, number)
                except KeyboardInterrupt:
                    num_done = len(trials) - len(left) + number - len(failures)
                    raise Interrupted(f"{num_done} of {len(trials)} are finished") from None
                if reason:
                    failures.append(f"{trial.name} failed: {reason}")
                bar.write(
                    failures[-1] if reason else f"done {number + 1} of {len(left)}: {trial.name}",
                    sys.stderr,
                )
    return failures


def _done(trials: Sequence[Trial], baseline: str) -> set[str]:
    """Return the names of trials that are experiments already.

    Raises:
        ParamsError: one has other parameters than planned.
    """
    commits = {name: commit for commit, (name, base) in experiments().items() if base == baseline}
    done = set()
    for trial in trials:
        if commit := commits.get(trial.name):
            if flat_in(git("show", f"{commit}:./params.yaml")) != flat_in(trial.params):
                raise ParamsError(
                    f"{trial.name}: there is an experiment of this name with other parameters: commit params.yaml, or "
                    f"`dvc exp remove {trial.name}`"
                )
            done.add(trial.name)
    return done


def _run_one(trial: Trial, bar: "tqdm[Any]", num_before: int) -> str:
    """Run an experiment. Return why it failed; empty if it did not."""
    log = state_root() / "sweep-logs" / f"{trial.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    changes = [
        word
        for name, value in trial.values.items()
        for word in ("-S", f"{name}={json.dumps(value)}")
    ]

    def show() -> None:
        found = STEP.findall(log.read_text(errors="replace"))
        step, num_steps, loss = found[-1] if found else (0, 1, "?")
        bar.n = num_before + int(step) / int(num_steps)
        left = ""
        if bar.n:
            left = (
                f"{tqdm.format_interval(bar.format_dict['elapsed'] * (bar.total / bar.n - 1))} left"
            )
        bar.set_description_str(f"{trial.name}  training loss {loss}  {left}")

    with log.open("w") as output:
        command = ("exp", "run", "--temp", "--name", trial.name, *changes)
        code = run_dvc(*command, stdout=output, stderr=output, watch=show)
    if code == 0:
        log.unlink()
        return ""
    errors = [
        line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR: ")
    ]
    reason = next(
        (line for line in errors if "failed to reproduce" not in line),
        f"ERROR: dvc ends with {code}",
    )
    return f"{reason.removeprefix('ERROR: ')} ({log})"
