"""`charlstm tune`: the loop with trainings of no time, and whole searches with tiny ones."""

import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.projects import write_params
from charlstm.errors import CharlstmError, Interrupted, ParamsError, TrainingError
from charlstm.evaluation.difference import Difference, Trained
from pipeline.commands import tune as command
from pipeline.dvc.paths import train_command
from pipeline.dvc.unfinished import SEARCHES
from pipeline.tune import search as loop
from pipeline.tune import trial as stage_trial
from pipeline.tune.search import MAX_FAILURES, Plan, Watch, name_of, read_plan, search
from pipeline.tune.study import DONE, FAILED, PRUNED, RUNNING, Study, Trial

TRAINING = """
import json, os, signal, sys, time
from pathlib import Path
from charlstm.params import load_params
from pipeline.tune.study import Study
study, number = Path(sys.argv[1]), int(sys.argv[2])
folder = study / str(number)
(study / "started").open("a").write(f"{number}\\n")
rate = load_params(folder / "params.yaml").train.learning_rate
loss = 1 + abs(rate - 0.02)
Study(study).is_hopeless(number, 0.4, loss)
__MORE__
(folder / "train").mkdir(exist_ok=True)
(folder / "train/metrics.json").write_text(json.dumps({"val_nats_per_char": loss}))
"""
PRUNE = """
if Study(study).is_hopeless(number, 0.5, loss):
    print("stopped as asked")
    sys.exit(75)
"""
# It waits for a request to stop.
WAIT = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
(study / "waits").touch()
time.sleep(600)
"""


@pytest.fixture
def plan(project: Path) -> Plan:
    return read_plan(project / "conf/tune.yaml")


Training = Callable[[str], None]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    """Puts a training of no time in the place of the real one; it runs some more lines, too."""

    def put(more: str) -> None:
        code = TRAINING.replace("__MORE__", more)
        monkeypatch.setattr(loop, "TRIAL", [sys.executable, "-c", code])

    return put


def run(plan: Plan, limit: int, must_stop: Callable[[], bool] = lambda: False, study: Study | None = None) -> Study:
    study = study or Study(Path(".charlstm/tune") / plan.identity(), plan.space)
    watch = Watch(lambda trial: None, lambda trial: None, lambda trial: None, must_stop)
    search(plan, study, limit, watch)
    return study


def started(study: Study) -> list[int]:
    return [int(line) for line in (study.folder / "started").read_text().split()]


def test_each_trial_has_its_own_parameters_and_the_first_those_of_the_project(plan: Plan, training: Training) -> None:
    training("")
    study = run(plan, 4)
    trials = study.trials()
    assert started(study) == list(trials) == [0, 1, 2, 3]
    assert (study.folder / "0/params.yaml").read_bytes() == Path("params.yaml").read_bytes()
    for number, trial in trials.items():
        text, params = plan.params_with(trial.values)
        assert (study.folder / str(number) / "params.yaml").read_text() == text
        assert trial.loss == 1 + abs(params.train.learning_rate - 0.02)
    rates, decays = ([trial.values[name] for trial in trials.values()] for name in plan.space.varied)
    assert rates[1] != rates[0] == rates[2] and decays[1] == decays[0] != decays[2]


def test_trials_are_pruned(plan: Plan, training: Training) -> None:
    training(PRUNE)
    trials = run(plan, 16).trials()
    done, pruned = ([one.loss or 0.0 for one in trials.values() if one.state == state] for state in (DONE, PRUNED))
    assert trials[0].state == DONE and pruned and min(pruned) > min(done)


def test_a_change_of_params_yaml_meanwhile_changes_nothing_but_one_of_the_text_ends_it(
    plan: Plan, project: Path, training: Training
) -> None:
    training("")
    study = run(plan, 1)
    write_params(project, {"train.learning_rate": 0.5})
    assert run(plan, 2).folder == study.folder
    assert "learning_rate: 0.5" not in (study.folder / "1/params.yaml").read_text()
    assert read_plan(project / "conf/tune.yaml").identity() != plan.identity()
    ids = project / "Datasets/encoded/train.npy"
    ids.write_bytes(ids.read_bytes()[:-1] + b"\0")
    with pytest.raises(ParamsError, match="the text or the code was changed"):
        run(plan, 3, study=study)


def test_what_training_refuses_fails_and_the_search_goes_on(plan: Plan, training: Training) -> None:
    training("if number == 1:\n    Study(study).refuse(number, 'it is not finite')\n    sys.exit(2)")
    trials = run(plan, 3).trials()
    assert [one.state for one in trials.values()] == [DONE, FAILED, DONE]
    assert trials[1].reason == "it is not finite"


@pytest.mark.parametrize(("error", "is_refused"), [(TrainingError, True), (CharlstmError, False)])
def test_only_what_values_decide_is_refused(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, error: type[CharlstmError], is_refused: bool
) -> None:
    """A checkpoint that cannot be read now says nothing of the values, and is not to be given up."""

    def fail(*_: object) -> None:
        raise error("no")

    study = Study(Path(".charlstm/tune") / plan.identity(), plan.space)
    with study.claim(None) as first, study.claim(None) as second:
        assert first is not None and second is not None
        folder = study.folder / str(second.number)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy("params.yaml", folder)
        monkeypatch.setattr("pipeline.train.run", fail)
        assert stage_trial.main([str(study.folder), str(second.number)]) == 2
        assert study.refusal(second.number) == ("no" if is_refused else "")


def test_it_ends_where_all_trials_fail(plan: Plan, training: Training) -> None:
    training("if number > 0:\n    Study(study).refuse(number, 'it is not finite')\n    sys.exit(2)")
    with pytest.raises(TrainingError, match=f"{MAX_FAILURES} trials failed one after the other.*it is not finite"):
        run(plan, 20)


@pytest.mark.parametrize(("lines", "code"), [("print('ERROR: no space left'); sys.exit(2)", 2), ("sys.exit(1)", 1)])
def test_another_failure_ends_it_and_loses_nothing(plan: Plan, training: Training, lines: str, code: int) -> None:
    training(f"if number == 1: {lines}")
    with pytest.raises(TrainingError, match=f"trial 1: .*exit code {code}; the same command goes on"):
        run(plan, 3)
    training("")
    study = run(plan, 3)
    assert started(study) == [0, 1, 1, 2] and {one.state for one in study.trials().values()} == {DONE}


def test_a_training_that_others_kill_ends_it_and_is_resumed(plan: Plan, training: Training) -> None:
    training("sys.exit(75)")
    with pytest.raises(Interrupted, match="trial 0: it said nothing"):
        run(plan, 3)
    training("")
    assert started(run(plan, 2)) == [0, 0, 1]


@pytest.mark.parametrize(("end", "code"), [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("sys.exit(75)", 75)])
def test_a_trial_that_is_killed_twice_fails(plan: Plan, training: Training, end: str, code: int) -> None:
    """As the system does where memory ends, and would do again."""
    training(f"if number == 1: {end}")
    with pytest.raises(Interrupted, match=rf"trial 1: it said nothing .* exit code {code}; the same command goes on"):
        run(plan, 3)
    trials = run(plan, 3).trials()
    assert [one.state for one in trials.values()] == [DONE, FAILED, DONE] and "killed twice" in trials[1].reason


def test_a_request_to_stop_may_come_before_the_training_listens(plan: Plan, training: Training) -> None:
    training("(study / 'waits').touch(); time.sleep(600)")  # SIGTERM ends it at once
    stop = Path(".charlstm/tune") / plan.identity() / "waits"
    study = run(plan, 3, must_stop=stop.exists)
    assert [one.state for one in study.trials().values()] == [RUNNING]


def test_a_request_to_stop_reaches_the_training_which_the_next_search_resumes(plan: Plan, training: Training) -> None:
    training(WAIT)
    stop = Path(".charlstm/tune") / plan.identity() / "waits"
    study = run(plan, 3, must_stop=stop.exists)
    assert [one.state for one in study.trials().values()] == [RUNNING]
    training("")
    assert started(run(plan, 2)) == [0, 0, 1]


def test_the_command_is_that_of_stage_train(project: Path) -> None:
    made = train_command("pipeline.tune.trial", "a", "3")
    assert made[1:] == [
        "-m",
        "pipeline.launch",
        "accelerate",
        "launch",
        "--quiet",
        "-m",
        "pipeline.tune.trial",
        "a",
        "3",
    ]
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("accelerate launch --quiet", "torchrun --nproc_per_node 2"))
    assert train_command("pipeline.tune.trial", "a", "3")[3:6] == ["torchrun", "--nproc_per_node", "2"]


DIFFERENCE = Difference(Trained("a", [1.0], [None]), Trained("b", [1.1], [None]), 0.1, 0.05, None)


def difference_of(plan: Plan, study: Study, winner: Trial, first: Trial) -> Difference:
    return DIFFERENCE._replace(best=DIFFERENCE.best._replace(name=name_of(winner)))


@pytest.fixture
def whole(plan: Plan, training: Training, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command, without DVC and MLflow; which runs it would have written."""
    training("")
    sent: list[str] = []
    monkeypatch.setattr(command, "_encode", lambda plan: None)
    monkeypatch.setattr(command, "difference_of", difference_of)  # these trainings make no models
    monkeypatch.setattr(command, "_send", lambda plan, study, label, *more, is_over: sent.append(label))
    return sent


@pytest.fixture
def searched(whole: list[str], plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same after twelve trials, which are made once."""
    kept, folder = tmp_path_factory.getbasetemp() / "twelve-trials", Path(".charlstm/tune") / plan.identity()
    if not kept.exists():
        run(plan, 12)
        shutil.copytree(folder, kept)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return whole


def test_the_winner_becomes_a_recipe(whole: list[str], project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.tune(trials=12, name="mine") == 0
    out = capsys.readouterr().out
    recipe = (project / "conf/recipe/mine.yaml").read_text()
    assert re.search(r"Found by `charlstm tune`, search \w+, trial \d+: 1\.\d{4} nats/char, 1\.0100 before\.", recipe)
    assert (
        "builds_on: quick" in recipe
        and "to train the winner at once: charlstm recipe mine --force && dvc repro\n" in out
    )
    assert "charlstm sweep --seeds 3 && charlstm recipe mine --force && charlstm sweep --seeds 3\n" in out
    assert "trial 0: 1.0100 · as params.yaml says" in out and "12 trials" in out
    page = (project / "tune.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", "") and "://" not in page
    assert len(whole) == 2 and all(label.startswith("quick") for label in whole)
    assert command.tune(trials=13, name="mine") == 0, "its own recipe is written over"
    assert "13 trials" in capsys.readouterr().out


def test_the_run_of_a_search_is_over_when_its_last_worker_ends(
    searched: list[str], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []
    monkeypatch.setattr(command, "_send", lambda *some, is_over: said.append(is_over))
    with Study(SEARCHES / plan.identity(), plan.space).at_work():  # between two trials
        assert command.tune(trials=12) == 0
    assert command.tune(trials=13) == 0 and said == [False, True]


def test_a_winner_that_may_be_luck_is_not_recommended(
    searched: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "difference_of", lambda *_: DIFFERENCE._replace(by_text=0.2))
    assert command.tune(trials=12, name="mine") == 0
    out = capsys.readouterr().out
    assert "That is within what this text can tell." in out and "next:" not in out
    assert "to train the winner all the same: charlstm recipe mine --force && dvc repro\n" in out


def test_a_text_that_is_too_short_to_tell_is_named(
    searched: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "difference_of", lambda *_: DIFFERENCE._replace(by_text=None))
    assert command.tune(trials=12, name="mine") == 0
    out = capsys.readouterr().out
    assert (
        "the validation part is shorter than 10,000 characters, too short to tell: keep what params.yaml says; to"
        in out
    )


def test_a_winner_that_another_measure_finds_worse_is_not_recommended(
    searched: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `windowed_C` may, where trials are chosen by `sliding_C`."""
    monkeypatch.setattr(command, "difference_of", lambda *_: DIFFERENCE)
    assert command.tune(trials=12, name="mine") == 0
    out = capsys.readouterr().out
    assert "next:" not in out and "to train the winner all the same: charlstm recipe mine" in out


def test_its_own_recipe_stays_where_it_was_edited(searched: list[str], project: Path) -> None:
    recipe = project / "conf/recipe/mine.yaml"
    assert command.tune(trials=12, name="mine") == 0
    edited = f"{recipe.read_text()}# More epochs, one day.\n"
    recipe.write_text(edited)
    with pytest.raises(ParamsError, match=r"mine\.yaml: it was edited, and stays"):
        command.tune(trials=13, name="mine")
    assert recipe.read_text() == edited


def test_a_recipe_of_others_is_not_written_over(whole: list[str], project: Path) -> None:
    other = project / "conf/recipe/mine.yaml"
    other.write_text("# Mine.\nbuilds_on: quick\n")
    with pytest.raises(ParamsError, match=r"conf/recipe/mine\.yaml is there already, and not of this search"):
        command.tune(trials=2, name="mine")
    assert other.read_text() == "# Mine.\nbuilds_on: quick\n" and not list(project.glob(".charlstm/tune/*/0"))


@pytest.mark.parametrize("name", ["quick", "save", "A", "../x"])
def test_a_recipe_needs_a_name_of_its_own(whole: list[str], name: str) -> None:
    with pytest.raises(ParamsError):
        command.tune(trials=1, name=name)


def test_without_a_winner_nothing_is_written(
    whole: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(project, {"train.learning_rate": 0.02})
    assert command.tune(trials=4) == 0
    assert (
        "no trial has a lower loss than what params.yaml says, 1.0000: no recipe is written" in capsys.readouterr().out
    )
    assert not (project / "conf/recipe/tuned.yaml").exists()


def test_a_search_too_short_for_all_single_changes_says_so(
    whole: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.tune(trials=2) == 0
    assert "tried: 1 of the 2 single changes that come first; the same command goes on\n" in capsys.readouterr().out
    assert command.tune(trials=3) == 0
    assert "tried:" not in capsys.readouterr().out


def test_what_was_found_before_a_kill_is_shown_and_kept(
    searched: list[str], project: Path, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    training("if number == 12: os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(Interrupted):
        command.tune(trials=14, name="mine")
    assert "to train the winner at once: charlstm recipe mine --force && dvc repro\n" in capsys.readouterr().out
    assert (project / "conf/recipe/mine.yaml").exists()


def test_changes_made_during_a_search_are_not_given_up(
    searched: list[str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show = command._show_result

    def edit_and_show(*known: Any) -> None:  # noqa: ANN401
        write_params(project, {"train.epochs": 7})
        show(*known)

    monkeypatch.setattr(command, "_show_result", edit_and_show)
    assert command.tune(trials=12, name="mine") == 0
    assert "to train the winner at once: charlstm recipe mine && dvc repro\n" in capsys.readouterr().out


def test_without_time_nothing_is_compared(whole: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.tune(minutes=0) == 0
    assert "trial 0, what params.yaml says, has not ended: there is nothing to compare with" in capsys.readouterr().out


def test_the_end_of_the_minutes_stops_a_trial(
    whole: list[str],
    plan: Plan,
    training: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training(WAIT)
    now = time.monotonic()
    screens = [command.Screen(Console(), plan, Study(tmp_path, plan.space), None, now + late) for late in (-1, 600)]
    assert [screen.is_late() for screen in screens] == [True, False]
    monkeypatch.setattr(command.Screen, "is_late", lambda screen: (screen._study.folder / "waits").exists())
    assert command.tune(minutes=600) == 0
    assert "trial 0 was stopped; the next `charlstm tune` goes on with it" in capsys.readouterr().out
