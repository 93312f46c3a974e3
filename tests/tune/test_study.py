"""Trials on disk: who has which, what is drawn, and what is pruned."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import NoReturn

import pytest

from charlstm.errors import LockedError, TrainingError
from charlstm.files.lock import exclusive
from pipeline.dvc.unfinished import CHECKOUT
from pipeline.tune import study as study_module
from pipeline.tune.space import Range, Space, Value
from pipeline.tune.study import DONE, JOURNAL, PRUNED, RUNNING, Study

SPACE = Space({"rate": Range(low=0.0, high=1.0), "size": (1, 2, 3)}, {"rate": 0.9, "size": 3}, [])


def loss_of(values: dict[str, Value]) -> float:
    return float(values["rate"] or 0) ** 2 + float(values["size"] or 0)


def run(folder: Path, limit: int | None) -> None:
    study = Study(folder, SPACE)
    while True:
        with study.claim(limit) as trial:
            if trial is None:
                return
            study.end(trial.number, loss_of(dict(trial.values)))


def hold(folder: Path, ready: Path) -> None:
    """Claim a trial and never end it."""
    with Study(folder, SPACE).claim(None) as trial:
        assert trial is not None
        ready.write_text(str(trial.number))
        time.sleep(600)


def test_the_first_trial_is_what_is_there_and_the_search_finds_something_better(tmp_path: Path) -> None:
    run(tmp_path / "a", 25)
    trials = Study(tmp_path / "a", SPACE).trials()
    assert trials[0].values == SPACE.base and len(trials) == 25
    losses = [one.loss for one in trials.values() if one.loss is not None]
    assert min(losses) < 1.1 < losses[0]  # the least is 1
    assert len({str(one.values) for one in trials.values()}) == 25


def test_the_first_trials_change_one_parameter_each(tmp_path: Path) -> None:
    varied = {**SPACE.varied, "log": Range(low=0.01, high=1.0, log=True), "whole": Range(low=1, high=9)}
    base: dict[str, Value] = {**SPACE.base, "log": 0.1, "whole": 9}
    study = Study(tmp_path / "a", Space(varied, base, []))
    for name in (None, *varied):
        with study.claim(None) as trial:
            assert trial is not None
            assert [one for one in varied if trial.values[one] != base[one]] == ([name] if name else [])
            study.end(trial.number, 1.0)
    values = {name: study.trials()[number].values[name] for number, name in enumerate(varied, start=1)}
    assert values["rate"] in (0.45, 0.95) and values["size"] == 2
    assert values["log"] in (0.0316, 0.316) and values["whole"] == 5


def test_a_search_in_pieces_is_the_search_in_one_go(tmp_path: Path) -> None:
    run(tmp_path / "one", 14)
    for limit in (1, 5, 13, 14, 14):
        run(tmp_path / "pieces", limit)
    one, pieces = (
        [(trial.values, trial.loss) for trial in Study(tmp_path / name, SPACE).trials().values()]
        for name in ("one", "pieces")
    )
    assert one == pieces


def test_what_was_tried_is_not_tried_again(tmp_path: Path) -> None:
    space = Space({"size": (1, 2, 3)}, {"size": 2}, [])
    study, sizes = Study(tmp_path / "a", space), []
    for _ in range(5):
        with study.claim(None) as trial:
            if trial is not None:
                sizes.append(trial.values["size"])
                study.end(trial.number, 1.0)
    assert sizes[0] == 2 and sorted(map(str, sizes)) == ["1", "2", "3"]
    assert len(study.trials()) == 3


def test_workers_have_different_trials_and_one_that_was_killed_leaves_its_own(tmp_path: Path) -> None:
    folder, ready = tmp_path / "a", tmp_path / "ready"
    worker = multiprocessing.get_context("spawn").Process(target=hold, args=(folder, ready))
    worker.start()
    while not ready.exists():
        assert worker.is_alive()
        time.sleep(0.05)
    study = Study(folder, SPACE)
    with study.claim(2) as trial:
        assert ready.read_text() == "0" and trial is not None and trial.number == 1
        with Study(folder, SPACE).claim(2) as third:
            assert third is None
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    with study.claim(2) as resumed, Study(folder, SPACE).claim(2) as other:
        assert resumed is not None and (resumed.number, resumed.state) == (0, RUNNING)
        assert resumed.values == SPACE.base and other is not None and other.number == 1


def test_who_searches(tmp_path: Path) -> None:
    study, other = Study(tmp_path / "a", SPACE), Study(tmp_path / "a", SPACE)
    assert not study.is_worked_on()
    with other.at_work():
        with study.at_work():
            assert (tmp_path / "a/worker-1.holder").exists()
        assert study.is_worked_on()
    assert not study.is_worked_on() and not list((tmp_path / "a").glob("*.holder"))


def test_a_disk_that_gives_no_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, what: str) -> NoReturn:
        raise LockedError(f"{path}: no locks, for {what}")

    study = Study(tmp_path / "a", SPACE)
    monkeypatch.setattr(study_module, "exclusive", refuse)
    with pytest.raises(LockedError, match="or the disk gives no more locks"), study.at_work():
        pass


def test_a_trial_whose_training_still_saves_is_waited_for(tmp_path: Path) -> None:
    """Its worker was killed a moment ago, and the same command is given again."""
    study, has_begun = Study(tmp_path / "a", SPACE), threading.Event()
    with study.claim(None):
        pass

    def save() -> None:
        with exclusive(study.folder / "0" / CHECKOUT, "a training"):
            has_begun.set()
            time.sleep(0.5)

    training = threading.Thread(target=save)
    training.start()
    has_begun.wait()
    with study.claim(None) as resumed:
        assert resumed is not None and resumed.number == 0
    training.join()


def test_a_trial_whose_training_does_not_end_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "SECONDS_TO_SAVE", 0.0)
    study = Study(tmp_path / "a", SPACE)
    with study.claim(None):
        pass
    with exclusive(study.folder / "0" / CHECKOUT, "a training"), study.claim(None) as other:
        assert other is not None and other.number == 1
    with study.claim(None) as resumed:
        assert resumed is not None and resumed.number == 0


def test_a_trial_that_is_worse_than_most_is_pruned_but_not_the_first(tmp_path: Path) -> None:
    study = Study(tmp_path / "a", SPACE)
    with study.claim(None) as first:
        assert first is not None and not study.is_hopeless(first.number, 0.5, 1.1)
        study.end(first.number, 1.0)
    with study.claim(None) as good:
        assert good is not None and not study.is_hopeless(good.number, 0.4, 2.0), "half of it must be done first"
        assert not study.is_hopeless(good.number, 0.5, 1.05)
        study.end(good.number, 0.9)
    with study.claim(None) as bad:
        assert bad is not None and study.is_hopeless(bad.number, 0.5, 2.0)
    with study.claim(None) as after:  # whoever held it was killed before it could say so
        assert after is not None and after.number == bad.number + 1
    found = study.trials()[bad.number]
    assert (found.state, found.loss) == (PRUNED, 2.0)
    with study.claim(None) as last:
        assert last is not None and not study.is_hopeless(last.number, 1.0, 9.0), "it is over anyway"


def test_a_line_that_was_cut_is_removed(tmp_path: Path) -> None:
    run(tmp_path / "a", 2)
    journal = tmp_path / "a" / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')
    run(tmp_path / "a", 3)
    assert [one.state for one in Study(tmp_path / "a", SPACE).trials().values()] == [DONE] * 3
    assert b'"wor{' not in journal.read_bytes()


def test_a_refusal_is_forgotten_when_the_trial_goes_on(tmp_path: Path) -> None:
    """What was changed in the middle may be as it was."""
    study = Study(tmp_path / "a", SPACE)
    with study.claim(None):
        study.refuse(0, "something was changed")
    with study.claim(None) as again:
        assert again is not None and again.number == 0 and study.refusal(0) == ""
        study.refuse(0, "something was changed")
        study.end(0, 1.0)
    assert (study.trials()[0].state, study.trials()[0].reason) == (DONE, "")


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    run(tmp_path / "a", 2)
    journal = tmp_path / "a" / JOURNAL
    journal.write_bytes(b"garbage\n" + journal.read_bytes())
    with pytest.raises(TrainingError, match=f"{journal}: damaged"):
        Study(tmp_path / "a", SPACE)


@pytest.mark.parametrize(
    ("number", "names"), [(1, []), (6, ["history", "parallel"]), (20, ["history", "parallel", "importance"])]
)
def test_pictures_need_two_trials_and_one_of_them_twenty(tmp_path: Path, number: int, names: list[str]) -> None:
    run(tmp_path / "a", number)
    pictures = Study(tmp_path / "a", SPACE).draw_pictures()
    assert [file.name for file in pictures] == [f"{name}.png" for name in names]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in pictures)
