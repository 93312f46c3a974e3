"""Running a sweep: one experiment after another, each with `dvc exp run --temp`."""

import json
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from charlstm.errors import CharlstmError, Interrupted, ParamsError
from charlstm.files.documents import parse_yaml, validate
from charlstm.files.lock import exclusive
from charlstm.parameter_names import SEED
from charlstm.params import Params
from charlstm.text.vocabulary import VOCAB, load_vocab
from charlstm.tracking.client import EXPERIMENT_TAG
from charlstm.tracking.sync import METRICS, ORIGIN, read_rows
from charlstm.training.sizes import steps_per_epoch
from pipeline.lineage.git import check_git, experiments, git
from pipeline.lineage.provenance import flat_in
from pipeline.new.training_time import step_seconds
from pipeline.run.dvc import load_paths, run_dvc
from pipeline.run.project import PARAMS, project_root, state_root
from pipeline.run.terminal import plain_console
from pipeline.sweep.plan import Trial
from pipeline.sweep.results import Sweep

OTHER_SECONDS = 20  # time for evaluation, samples and DVC
MAX_TIMED = 5  # recipes
MIN_AGE_SECONDS = 60  # DVC may still be writing a younger copy


def seconds_of_training(trials: Sequence[Trial]) -> float | None:
    """Estimate the mean duration of a training in seconds, by timing a few steps of each recipe.

    Return None if the text is not yet encoded.
    """
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
        seconds.append(num_steps * step_seconds(params, vocab_size) + OTHER_SECONDS)
    return fmean(seconds)


def run_all(trials: Sequence[Trial], seconds: float | None) -> list[str]:
    """Run the experiments that are not finished yet. Return a line for each failed experiment.

    Args:
        trials: the planned experiments.
        seconds: estimated seconds of one training; None if unknown.

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
        about = f", about {max(1, round(seconds * len(left) / 60))} min" if seconds and left else ""
        console = plain_console(stderr=True)
        console.print(f"{len(trials)} trainings, {len(finished)} done{about}", soft_wrap=True)

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
