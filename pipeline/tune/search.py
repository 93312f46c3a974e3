"""The loop of a search: it claims one trial after the other, and has each trained as stage train is."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import Interrupted, ParamsError, TrainingError
from charlstm.evaluation.blocks import blocks_of
from charlstm.evaluation.difference import Difference, Trained, compare
from charlstm.files.atomic import write_text
from charlstm.files.documents import read_json
from charlstm.params import Params, load_params
from charlstm.text.encoded import load_encoded
from pipeline.dvc import unfinished
from pipeline.dvc.paths import Paths, load_paths
from pipeline.stage.interruption import LAUNCHER
from pipeline.stage.params_file import params_with
from pipeline.stage.project import PARAMS
from pipeline.stage.stage import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from pipeline.tune.space import Space, Value, read_space
from pipeline.tune.study import MODEL, TRAINING, Study, Trial

TRIAL = [sys.executable, "-m", "pipeline.tune.trial"]
LOG = "log.txt"
MAX_FAILURES = 5  # one after the other
SECONDS_BETWEEN_LOOKS = 0.2
AGAIN = "the same command goes on"


class Plan(NamedTuple):
    """What is searched: around the parameters that `params.yaml` had at the start, whatever it says meanwhile."""

    text: str  # of params.yaml
    params: Params
    paths: Paths
    space: Space

    def identity(self) -> str:
        """The same for the same parameters, space, data and code: only then losses can be compared."""
        parts = [unfinished.fingerprint(self.params, self.paths), self.space.identity()]
        return sha256("\n".join(parts).encode()).hexdigest()[:16]

    def params_with(self, values: Mapping[str, Value]) -> tuple[str, Params]:
        """The parameters with others in their place, and the text of their file.

        Raises:
            ParamsError: they do not go together.
        """
        return params_with(self.changes(values), self.text)

    def changes(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Those that differ from `params.yaml`."""
        return {name: value for name, value in values.items() if value != self.space.base[name]}


def read_plan(space: Path) -> Plan:
    """The plan of a search around `params.yaml`.

    Raises:
        ParamsError: `params.yaml` or the file of the space has a mistake.
    """
    params = load_params(PARAMS)
    return Plan(PARAMS.read_text(encoding="utf-8"), params, load_paths(), read_space(space, params))


class Watch(NamedTuple):
    """Those who look on: `begin` and `end` are told of each trial, `wait` while it trains, and `must_stop` is asked."""

    begin: Callable[[Trial], None]
    end: Callable[[Trial], None]
    wait: Callable[[Trial], None]
    must_stop: Callable[[], bool]


def search(plan: Plan, study: Study, limit: int | None, watch: Watch) -> Trial | None:
    """Train trials until there are `limit` of them or it must stop; the one that was stopped, which can be resumed.

    Raises:
        ParamsError: data or code are others than when the search began.
        TrainingError: the parameters as they are cannot be trained, or many others one after the other.
        Interrupted: a training was killed by others.
    """
    failures = 0
    while not watch.must_stop():
        if plan.identity() != study.folder.name:
            raise ParamsError(
                "the text or the code was changed, so losses cannot be compared: with the former ones back in place "
                f"(git stash), {AGAIN}; as they are now, it begins anew"
            )
        with study.claim(limit) as trial:
            if trial is None:
                return None
            watch.begin(trial)
            if not _train(plan, study, trial, watch):
                return trial
            ended = study.trials()[trial.number]
        watch.end(ended)
        failures = failures + 1 if ended.reason else 0
        if failures == MAX_FAILURES:
            raise TrainingError(f"{failures} trials failed one after the other, the last one because: {ended.reason}")
    return None


def _train(plan: Plan, study: Study, trial: Trial, watch: Watch) -> bool:
    """Train a trial, and keep what became of it; false if it was stopped before its end."""
    number, folder = trial.number, study.folder / str(trial.number)
    try:
        text, params = plan.params_with(trial.values)
    except ParamsError as error:
        study.fail(number, str(error))
        return True
    write_text(folder / PARAMS, text)
    command = [*TRIAL, str(study.folder), str(number)]
    code, is_stopped = _run(command, folder / LOG, lambda: watch.wait(trial), watch.must_stop)
    if code == 0:
        study.end(number, read_json(folder / TRAINING / "metrics.json")["val_nats_per_char"])
        _, best = plan.params_with(study.done()[0].values)
        unfinished.mark_used(unfinished.fingerprint(best, plan.paths))  # so `dvc repro` of the winner takes seconds
        return True
    last = f"trial {number}: {_last_line(folder / LOG)} ({folder / LOG} has all it said)"
    is_interrupted = code == EXIT_INTERRUPTED or code < 0  # as it was asked to, or by a signal
    if code == EXIT_INTERRUPTED and study.is_pruned(number):
        study.prune(number)
    elif is_interrupted and (is_stopped or watch.must_stop()):
        return False
    elif is_interrupted and number > 0 and study.is_killed_again(number):
        study.fail(number, "it was killed twice: is there too little memory for it?")
    elif is_interrupted:
        raise Interrupted(f"{last}, exit code {code}; {AGAIN}")
    elif code == EXIT_BAD_INPUT and number > 0 and plan.identity() == study.folder.name and study.refusal(number):
        study.fail(number, study.refusal(number))
    else:
        raise TrainingError(f"{last}, exit code {code}; {AGAIN}")
    unfinished.give_up(unfinished.fingerprint(params, plan.paths))
    return True


def difference_of(plan: Plan, study: Study, first: Trial, second: Trial) -> Difference:
    """What the difference of two trials that are done is worth, by `windowed_C`.

    Trials are chosen by that measure, too, unless `train.validation` is `sliding`, which counts characters many times.
    """
    return compare([_measured(plan, study, trial) for trial in (first, second)])[0]


def _measured(plan: Plan, study: Study, trial: Trial) -> Trained:
    """A trial with its loss by blocks."""
    from charlstm.evaluation.protocols import windowed_nats  # torch, which a worker that only waits does not need
    from charlstm.model.model_folder import load_model

    trained = load_model(study.folder / str(trial.number) / MODEL, plan.params.model.implementation)
    val = load_encoded(plan.paths.encoded / "val.npy", trained.vocab, plan.params.split.document_separator)
    text = val.first(plan.params.train.validation_chars)
    blocks = blocks_of(windowed_nats(trained.model, text, plan.params.train.validation_context_len), text)
    return Trained(name_of(trial), [blocks.nats_per_char], [blocks])


def name_of(trial: Trial) -> str:
    """As a person calls it."""
    return f"trial {trial.number}"


def _run(command: list[str], log: Path, wait: Callable[[], None], must_stop: Callable[[], bool]) -> tuple[int, bool]:
    """The exit code of a command, and whether it was asked to stop; what it says goes to `log`."""
    is_stopped = False
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while process.poll() is None:
            wait()
            if not is_stopped and must_stop():
                is_stopped = True
                process.terminate()
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        if process.poll() is None:  # a second Ctrl-C, or a defect
            process.terminate()
    return process.returncode, is_stopped


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
