"""A search on disk: Optuna draws the values of each trial and keeps what became of it. Several workers share it.

A search is a folder, `.charlstm/tune/<identity>`: Optuna's journal, and a folder for each trial. A trial runs while a
process holds its lock, which the system frees when that process dies. So a trial that the journal calls running, and
whose lock nobody holds, was interrupted. The next worker takes it before it draws another.
"""

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import optuna
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from charlstm.errors import LockedError, TrainingError
from charlstm.files.atomic import atomic_file
from charlstm.files.lock import exclusive, first_holder, holder_of
from pipeline.dvc.unfinished import CHECKOUT, WORKER
from pipeline.tune.space import Range, Space, Value

NO_SPACE = Space({}, {}, [])
SEED = 1  # of what is drawn; with the trial's number, so that a search that goes on draws nothing twice
SECONDS_TO_SAVE, SECONDS_BETWEEN_LOOKS = 20.0, 0.2
MAX_WORKERS = 1_000  # of a search, at once
MAX_DRAWS = 50  # of values that a trial had already
MIN_FOR_IMPORTANCE = 20  # trials
MAX_SHARES = 10_000  # parts of a training in which Optuna counts
MODEL, TRAINING, JOURNAL = "model", "train", "journal.log"  # in the folders of a trial and of a search
HOPELESS, REFUSED, REPEATED, KILLED = "hopeless", "refused", "repeated", "killed"  # attributes of trials
DONE, PRUNED, FAILED, RUNNING = (state.name for state in (
    TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING))  # fmt: skip


class Trial(NamedTuple):
    """A trial: the values that were drawn for it, and what became of it."""

    number: int
    values: Mapping[str, Value]
    state: str
    loss: float | None  # nats per character; the last one of a trial that was pruned
    seconds: float | None
    reason: str = ""  # why it failed


class _JournalLock(JournalFileOpenLock):
    """One writer at a time. Optuna's own locks outlive a process that is killed; the system frees this one.

    A line that a killed process or a full disk has cut is removed before another is written.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._lock = journal, FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        os.truncate(self._journal, self._journal.read_bytes().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()


class Study:
    """The search of a space in a folder, which is made if it is not there. Who draws nothing needs no space."""

    def __init__(self, folder: Path, space: Space = NO_SPACE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.space, journal = folder, space, folder / JOURNAL
        try:
            self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), _JournalLock(journal)))
        except ValueError as error:  # of JSON, or of UTF-8
            raise TrainingError(f"{journal}: damaged: {error}; remove {folder} to begin this search anew") from None
        self._pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=MAX_SHARES // 2)
        self._study = optuna.create_study(
            storage=self._storage, study_name=folder.name, pruner=self._pruner, load_if_exists=True
        )

    def trials(self) -> dict[int, Trial]:
        """All trials that have begun, by number."""
        return {one.number: _trial(one, self.space) for one in self._begun()}

    def done(self) -> list[Trial]:
        """The trials that are done, the best first; of equal ones the earliest."""
        return sorted((one for one in self.trials().values() if one.state == DONE), key=lambda one: one.loss or 0.0)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Be one of the search's workers while in the context."""
        with ExitStack() as held:
            for number in range(MAX_WORKERS):
                with suppress(LockedError):  # another worker has that number
                    held.enter_context(exclusive(self.folder / f"{WORKER}{number}", "this search"))
                    break
            else:
                raise LockedError(f"{self.folder}: {MAX_WORKERS:,} workers are there, or the disk gives no more locks")
            yield

    def is_worked_on(self) -> bool:
        """Whether it has a worker."""
        return first_holder(self.folder, f"{WORKER}*") is not None

    @contextmanager
    def claim(self, limit: int | None) -> Iterator[Trial | None]:
        """The next trial, for this process alone while in the context: an interrupted one, else a new one.

        None if all of `limit` trials have begun and nobody has left one, or if the space has nothing new.
        """
        with ExitStack() as held:
            with FileLock(self.folder / "claim.lock"):
                number = self._claim_interrupted(held)
                if number is None and (limit is None or len(self._begun()) < limit):
                    number = self._draw()
                    if number is not None:
                        held.enter_context(exclusive(self.folder / str(number), "this trial"))
            yield None if number is None else self.trials()[number]

    def end(self, number: int, loss: float) -> None:
        """The trial is done."""
        self._study.tell(number, loss)

    def prune(self, number: int) -> None:
        """The trial was stopped, since its loss was worse than that of most at the same time."""
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """The trial's values do not work."""
        self.refuse(number, reason)
        self._study.tell(number, state=TrialState.FAIL)

    def refuse(self, number: int, reason: str) -> None:
        """Note that training refuses the trial's values."""
        self._storage.set_trial_user_attr(self._id(number), REFUSED, reason)

    def refusal(self, number: int) -> str:
        """Why training refused the trial's values; empty if it did not."""
        return str(self._study.trials[number].user_attrs.get(REFUSED, ""))

    def is_killed_again(self, number: int) -> bool:
        """Note that the trial was killed from outside; whether it was before."""
        is_first = KILLED not in self._study.trials[number].user_attrs
        self._storage.set_trial_user_attr(self._id(number), KILLED, True)
        return not is_first

    def is_pruned(self, number: int) -> bool:
        """Whether the trial was found hopeless."""
        return HOPELESS in self._study.trials[number].user_attrs

    def is_hopeless(self, number: int, share: float, loss: float) -> bool:
        """Keep the loss of a running trial after a share of its training; whether it is to be stopped.

        The first trial is what the others are compared with, and always goes on.
        """
        trial_id = self._id(number)
        self._storage.set_trial_intermediate_value(trial_id, round(share * MAX_SHARES), loss)
        if number == 0 or share >= 1 or not self._pruner.prune(self._study, self._storage.get_trial(trial_id)):
            return False
        self._storage.set_trial_user_attr(trial_id, HOPELESS, True)
        return True

    def draw_pictures(self) -> list[Path]:
        """Pictures of the trials, as files in the folder; none where fewer than two are done.

        Which parameter matters is guessed from all trials together: of few, that would be nonsense.
        """
        num_done = sum(trial.state == DONE for trial in self.trials().values())
        if num_done < 2:
            return []
        from optuna.visualization import matplotlib as pictures

        with warnings.catch_warnings():  # that this is an experiment of Optuna's, and that few trials tell little
            warnings.simplefilter("ignore")
            drawn = {
                "history": pictures.plot_optimization_history(self._study, target_name="nats per character"),
                "parallel": pictures.plot_parallel_coordinate(self._study, target_name="nats per character"),
            }
            if num_done >= MIN_FOR_IMPORTANCE:
                drawn["importance"] = pictures.plot_param_importances(self._study, target_name="nats per character")
        return [_save(axes.figure, self.folder / f"{name}.png") for name, axes in drawn.items()]

    def _claim_interrupted(self, held: ExitStack) -> int | None:
        """The first trial that runs nowhere, locked; a hopeless one among them is pruned."""
        for trial in self._begun():
            if trial.state != TrialState.RUNNING:
                continue
            folder = self.folder / str(trial.number)
            try:
                lock = ExitStack()
                lock.enter_context(exclusive(folder, "this trial"))
            except LockedError:
                continue
            if not _is_left(folder / CHECKOUT):
                lock.close()
            elif self.is_pruned(trial.number):
                self.prune(trial.number)
                lock.close()
            else:
                held.push(lock)
                self.refuse(trial.number, "")  # what was changed may be as it was
                _suggest(optuna.Trial(self._study, trial._trial_id), self.space)  # it may have been killed in between
                return trial.number
        return None

    def _draw(self) -> int | None:
        """A new trial whose values no other has.

        The first one has what params.yaml has, and the next ones change one parameter each: parameters that are chosen
        with care are seldom made better by changing all of them at once. Then Optuna knows where to go on.
        """
        number, names = len(self._begun()), list(self.space.varied)
        if number <= len(names):
            change = {name: self.space.beside(name, Random(SEED + number)) for name in names[:number][-1:]}
            self._study.enqueue_trial({**self.space.base, **change})
        for draw in range(MAX_DRAWS):
            known, seed = [trial.values for trial in self.trials().values()], SEED + len(self._study.trials)
            # In a small space, the estimator draws the same again and again.
            samplers = optuna.samplers
            self._study.sampler = (
                samplers.RandomSampler(seed) if draw else samplers.TPESampler(n_startup_trials=len(names), seed=seed)
            )
            trial = self._study.ask()
            _suggest(trial, self.space)
            if self.space.values(trial.params) not in known:
                return trial.number
            trial.set_user_attr(REPEATED, True)
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _begun(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return [one for one in trials if one.state != TrialState.WAITING and REPEATED not in one.user_attrs]

    def _id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self.folder.name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _is_left(checkout: Path) -> bool:
    """Whether no training is under way there: one whose worker is gone notices that, and saves."""
    deadline = time.monotonic() + SECONDS_TO_SAVE
    while holder_of(checkout) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def _suggest(trial: optuna.Trial, space: Space) -> None:
    """Draw what the trial has not yet."""
    for name, within in space.varied.items():
        if not isinstance(within, Range):
            trial.suggest_categorical(name, within)
        elif isinstance(space.base[name], int):
            trial.suggest_int(name, int(within.low), int(within.high), log=within.log)
        else:
            trial.suggest_float(name, within.low, within.high, log=within.log)


def _trial(found: FrozenTrial, space: Space) -> Trial:
    seconds = found.duration.total_seconds() if found.duration else None
    losses = found.intermediate_values
    loss = found.value if found.value is not None else losses[max(losses)] if losses else None
    reason = found.user_attrs.get(REFUSED, "") if found.state == TrialState.FAIL else ""
    return Trial(found.number, space.values(found.params), found.state.name, loss, seconds, reason)


def _save(figure: Any, file: Path) -> Path:  # noqa: ANN401  # of matplotlib
    figure.set_size_inches(10, 4.5)
    with atomic_file(file) as temporary:
        figure.savefig(temporary, dpi=100, format="png", bbox_inches="tight")
    return file
