"""`charlstm sweep`: the runs of a queue, the best first, and what became of the others."""

import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from matplotlib.image import imread
from rich.console import Console
from stages import dvc, start_dvc

from benchmarks.projects import write_params
from charlstm.errors import CharlstmError, ParamsError
from charlstm.evaluation.difference import mean_and_deviation
from pipeline.commands.sweep import (
    Experiment,
    Row,
    _show_all,
    by_text,
    committed_result,
    is_same_value,
    missing_seeds,
    print_table,
    read_experiments,
    recipes_of,
    repeated_seeds,
    siblings,
    status_lines,
    sweep,
    varied_params,
    verdicts,
)
from pipeline.dvc import queue
from pipeline.dvc.queue import Queue, read_queue, run_dvc

LOSSES = {"0.01": 1.52, "0.3": 1.49, "1e-4": 1.61}
NO_COMMIT = "0" * 40


def test_names_and_losses_are_whole_in_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["muon.learning_rate", "learning_rate", "weight_decay", "dropout.between_layers", "dropout.output"]
    values, protocols = ["0.00551", "0.0017", "0.0876", "0.2314", "0.2717"], ["stateful", "windowed_100"]
    row, head = Row(["learned-scullions"], values, ["1.2434", "1.3023"]), Row(["experiment"], names, protocols)
    for width in (80, 300):
        print_table(Console(width=width), "losses", head, [row])
        shown = capsys.readouterr().out
        assert all(whole in shown for whole in [*row.names, *row.losses, *protocols])
        assert "\N{HORIZONTAL ELLIPSIS}" not in shown and "0.2717" in shown
        assert ("parameters" in shown) == (width == 80)


def made(rate: str, seed: int, loss: float, name: str = "one", **others: str) -> Experiment:
    params = {"train.learning_rate": rate, "train.seed": str(seed), "sample.seeds": "[1]"}
    return Experiment(name, params | others, {"stateful": loss}, NO_COMMIT)


def recipes(experiments: Sequence[Experiment]) -> list[list[Experiment]]:
    return recipes_of([one._replace(name=f"e{number}") for number, one in enumerate(experiments)])


@pytest.fixture
def project(copy: Path) -> Path:
    """With three experiments that began from its HEAD."""
    losses, head = copy / "artifacts/evaluate/metrics.json", head_of(copy)
    for number, (rate, loss) in enumerate(LOSSES.items()):
        write_params(copy, {"train.learning_rate": float(rate), "sample.seeds": [number]})
        losses.write_text(json.dumps({"stateful": {"nats_per_char": loss}, "test_stateful": {"nats_per_char": 1.0}}))
        dvc(copy, "git", "add", "-A")
        tree = dvc(copy, "git", "write-tree").strip()
        commit = dvc(copy, "git", "commit-tree", tree, "-p", "HEAD", "-m", "an experiment").strip()
        dvc(copy, "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/number-{number}", commit)
    dvc(copy, "git", "reset", "-q", "--hard")
    return copy


def test_whether_the_best_recipe_was_lucky_is_said(copy: Path) -> None:
    best = [made("0.3", seed, 1.49 + seed / 1000) for seed in (1, 2, 3)]
    near = [made("0.01", seed, 1.4905 + seed / 1000) for seed in (1, 2, 3)]
    far = [made("1e-4", seed, 1.61 + seed / 1000) for seed in (1, 2, 3)]
    found = verdicts(recipes([*best, *far, *near]))
    assert ["within what seeds explain" in one for one in found] == [True, False, False]
    assert "by stateful: learning_rate 0.3 is lower than learning_rate 0.01 by 0.0005" in found[0]
    assert "larger than seeds explain" in found[1] and "real" not in found[1]  # without blocks it never is
    assert found[2].startswith("Without the loss by blocks, no interval can be given.")
    assert "charlstm sweep --seeds 3" in verdicts(recipes([best[0], far[0]]))[0]
    assert verdicts(recipes(best)) == []


@pytest.mark.parametrize("name", ["split.val_fraction", "encode.min_count", "download.sha256", "download.source"])
def test_losses_of_different_texts_are_in_different_tables(
    copy: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    here = {"download.name": "moby", name: "1"}
    measured = [made("0.3", seed, 1.49, f"e{seed}", **here) for seed in (1, 2)]
    measured += [made("0.3", 1, 1.2, "elsewhere", **(here | {name: "2"}))]
    groups = by_text(measured)
    assert [[one.name for one in group] for group in groups.values()] == [["e1", "e2"], ["elsewhere"]]
    _show_all(measured, copy / "sweep.png")
    tables = capsys.readouterr().out.split("1 experiment on ")
    assert "2 experiments on moby" in tables[0] and "e1" in tables[0] and "elsewhere" not in tables[0]
    assert "elsewhere" in tables[1] and "lower" not in "".join(tables) and (copy / "sweep.png").is_file()


def test_a_parameter_may_be_written_in_two_ways() -> None:
    assert is_same_value("0", "0.0") and is_same_value('["\\u0420"]', '["\u0420"]') and is_same_value("a", "a")
    assert not is_same_value("0", "0.1") and not is_same_value("a", None) and not is_same_value("a", "0")


def test_a_whole_number_for_a_fraction_is_the_same_parameter(project: Path) -> None:
    for file in ("params.yaml", "dvc.lock"):
        text = (project / file).read_text()
        (project / file).write_text(re.sub(r"(weight_decay): [\d.]+", r"\1: 0", text))
    dvc(project, "git", "commit", "-qam", "as `-S train.weight_decay=0` has it")
    assert len(committed_result("HEAD")) == 1


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git and DVC whose one stage does what its parameter says."""
    folder = tmp_path / "small"
    folder.mkdir()
    start_dvc(folder)
    (folder / "stage.py").write_text(
        "import pathlib, sys, time\n"
        "value, above = pathlib.Path('params.yaml').read_text().split()[1], pathlib.Path(sys.argv[1])\n"
        "if value == 'held':\n"
        "    (above / 'begun').touch()\n"
        "    end = time.monotonic() + 120\n"
        "    while not (above / 'released').exists() and time.monotonic() < end: time.sleep(0.05)\n"
        "sys.exit(value == 'bad')\n"
    )
    stage = f"{{cmd: \"'{sys.executable}' stage.py {tmp_path}\", params: [value]}}"
    (folder / "dvc.yaml").write_text(f"stages: {{one: {stage}}}\n")
    (folder / "params.yaml").write_text("value: none\n")
    dvc(folder, "git", "add", "-A")
    dvc(folder, "git", "commit", "-qm", "a stage")
    monkeypatch.chdir(folder)
    return folder


def head_of(folder: Path) -> str:
    return dvc(folder, "git", "rev-parse", "HEAD").strip()


def rows_of(out: str, name: str) -> list[list[str]]:
    """The rows of a table that have `name` in them."""
    return [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line and name in line
    ]


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.05)


def test_the_best_is_first_and_only_what_differs_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiments = read_experiments(head_of(project))
    assert varied_params([one.params for one in experiments]) == ["train.learning_rate"]
    sweep("HEAD", project / "sweep.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"from {head_of(project)[:7]} (results): 3 done, 0 running, 0 waiting, 0 failed"
    assert rows_of("\n".join(lines), "number-") == [
        ["number-1", "0.3", "1.4900"], ["number-0", "0.01", "1.5200"], ["number-2", "0.0001", "1.6100"]
    ]  # fmt: skip
    height, width, _ = imread(project / "sweep.png").shape
    assert height > 200 and width > 200


def test_what_differs_in_the_seed_alone_is_one_recipe() -> None:
    experiments = [made("0.01", 1, 1.5), made("0.03", 1, 1.4), made("0.01", 2, 1.7), made("0.01", 2, 1.7)]
    experiments += [made("0.01", 3, 1.6, **{"sample.seeds": "[2]"}), made("0.01", 4, 1.0, **{"download.name": "other"})]
    experiments += [made("0.01", 5, 1.6, **{"evaluate.window_lens": "[9]"})]
    experiments += [made("0.01", 6, 1.0, **{"evaluate.max_chars": "9"})]
    found = [[one.losses["stateful"] for one in recipe] for recipe in recipes(experiments)]
    assert found == [[1.5, 1.7, 1.6, 1.6], [1.4], [1.0], [1.0]]
    assert mean_and_deviation([1.5, 1.7, 1.6]) == "1.6000 ± 0.1000"
    assert mean_and_deviation([1.4]) == "1.4000"


def test_the_same_seed_with_another_loss_is_no_second_training(copy: Path) -> None:
    """Changed code made the other one, as `charlstm review` says, too."""
    found = recipes([made("0.01", 1, 1.5), made("0.01", 1, 1.4), made("0.01", 2, 1.7)])
    assert [[one.name for one in recipe] for recipe in found] == [["e0"], ["e1"], ["e2"]]
    assert verdicts(found)[0].startswith("by stateful: e1 is lower than e0 by 0.1000")
    (why,) = repeated_seeds(found)
    assert why.startswith("e0 and e1 have the same parameters and seed, and other losses. The code or")
    assert repeated_seeds(recipes([made("0.01", 1, 1.5), made("0.01", 2, 1.4), made("0.03", 1, 1.5)])) == []


def test_the_seeds_that_are_missing() -> None:
    there = [made("0.01", seed, 1.0).params for seed in (2, 4, 7)] + [made("0.03", 1, 1.0).params]
    assert missing_seeds(5, made("0.01", 9, 1.0).params, there) == [1, 3, 5]
    assert missing_seeds(2, made("0.01", 9, 1.0, **{"download.name": "other"}).params, there) == [1, 2]
    assert missing_seeds(1, made("0.03", 9, 1.0).params, there) == []


def test_a_result_in_a_commit_stands_beside_its_other_seeds_only() -> None:
    committed = [made("0.01", 1, 1.0)]
    assert siblings(committed, [made("0.01", 2, 1.0).params, made("0.03", 1, 1.0).params]) == committed
    assert siblings(committed, [made("0.03", 2, 1.0).params]) == []  # another recipe
    assert siblings(committed, [made("0.01", seed, 1.0).params for seed in (1, 2)]) == []  # it is there already


def test_a_second_table_has_means_over_seeds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = head_of(project)
    losses, number = project / "artifacts/evaluate/metrics.json", len(LOSSES)
    for loss in (1.50, 1.53):
        number += 1
        write_params(project, {"train.learning_rate": 0.3, "train.seed": number})
        losses.write_text(json.dumps({"stateful": {"nats_per_char": loss}}))
        dvc(project, "git", "add", "-A")
        tree = dvc(project, "git", "write-tree").strip()
        commit = dvc(project, "git", "commit-tree", tree, "-p", "HEAD", "-m", "a seed").strip()
        dvc(project, "git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/seed-{number}", commit)
    dvc(project, "git", "reset", "-q", "--hard")
    sweep("HEAD", project / "sweep.png")
    out = capsys.readouterr().out.partition("the same over seeds")[2]
    assert rows_of(out, "1.") == [["0.3", "3", "1.5067 ± 0.0208"], ["0.01", "1", "1.5200"], ["0.0001", "1", "1.6100"]]


def test_a_commit_has_a_result_only_of_what_its_parameters_say(project: Path) -> None:
    (own,) = committed_result("HEAD")
    assert head_of(project).startswith(own.name) and own.params["train.seed"] == "1" and set(own.losses) > {"stateful"}
    assert committed_result("HEAD~1") == []  # without losses
    write_params(project, {"train.seed": 2})
    dvc(project, "git", "commit", "-qam", "parameters that nothing was trained by")
    assert committed_result("HEAD") == []
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("name: shakespear", "name: 2024-01-01"))  # to YAML, a date
    dvc(project, "git", "commit", "-qam", "a slip")
    assert committed_result("HEAD") == []


def test_seeds_of_what_cannot_be_trained(project: Path) -> None:
    with pytest.raises(CharlstmError, match="^HEAD~1: expected HEAD, from which --seeds trains"):
        sweep("HEAD~1", project / "none.png", 2)
    write_params(project, {"train.epochs": 0})
    with pytest.raises(ParamsError, match="epochs"):
        sweep("HEAD", project / "none.png", 2)
    write_params(project, {"train.initial": "mine"})
    (project / "mine.dvc").write_text("outs: []\n")
    with pytest.raises(CharlstmError, match=r"^mine.dvc: training needs it, .*: `git add` it"):
        sweep("HEAD", project / "none.png", 2)
    assert not (project / ".dvc/tmp/exps/celery").exists()


@pytest.mark.slow
def test_only_seeds_that_are_missing_are_trained(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, experiments in ((1, 0), (2, 1), (2, 1)):  # the commit itself has seed 1
        assert sweep("HEAD", copy / "sweep.png", number) == 0
        out = capsys.readouterr().out
        done = read_experiments(head_of(copy))
        assert len(done) == experiments
    (one,) = done
    assert one.params["train.seed"] == "2" and ": 1 done, 0 running, 0 waiting, 0 failed\n" in out
    short = head_of(copy)[:7]
    ours, theirs = committed_result("HEAD")[0].losses["stateful"], one.losses["stateful"]
    assert sorted(row[:3] for row in rows_of(out, ".") if len(row) > 3) == sorted([
        [short, "1", f"{ours:.4f}"], [one.name, "2", f"{theirs:.4f}"]
    ])  # fmt: skip
    assert mean_and_deviation([ours, theirs]) in out

    write_params(copy, {"train.learning_rate": 1e30})  # not committed
    assert sweep("HEAD", copy / "sweep.png", 1) == 255
    out = capsys.readouterr().out
    assert ": 1 done, 0 running, 0 waiting, 1 failed\n" in out and "seed 1, learning_rate 1e+30 (`dvc queue logs" in out


def test_experiments_without_losses_and_names_of_nothing(project: Path) -> None:
    with pytest.raises(CharlstmError, match="nothing: expected a commit"):
        sweep("nothing", project / "none.png")
    first = dvc(project, "git", "rev-parse", "HEAD~1").strip()
    dvc(project, "git", "update-ref", f"refs/exps/{first[:2]}/{first[2:]}/an-experiment", "HEAD~1")
    with pytest.raises(CharlstmError, match="HEAD~1: expected experiments with losses, found 1 without"):
        sweep("HEAD~1", project / "none.png")
    assert not (project / "none.png").exists()


def test_dvc_is_not_asked_where_nothing_was_queued(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Path(".dvc/tmp/exps/celery").exists()
    monkeypatch.setattr(sys, "executable", "/nonexistent")  # whoever asks fails
    assert read_queue() == Queue([], has_worker=False)


@pytest.mark.slow
def test_what_waits_is_counted_beside_what_is_done(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dvc(project, "exp", "run", "--queue", "--name", "more", "-S", "train.seed=7,8")
    sweep("HEAD", project / "sweep.png")
    out = capsys.readouterr().out
    assert ": 3 done, 0 running, 2 waiting, 0 failed\n" in out and "1.4900" in out
    assert "no worker takes what waits: `dvc queue start` starts one\n" in out
    tasks = sorted(read_queue().tasks)
    head, done = head_of(project), [Experiment("more-2", {}, {}, NO_COMMIT)]
    assert [(one.name, one.state, one.baseline) for one in tasks] == [
        ("more-1", "Queued", head), ("more-2", "Queued", head)
    ]  # fmt: skip
    running = Queue([tasks[0]._replace(state="Running"), tasks[1]._replace(state="Failed")], has_worker=True)
    assert status_lines(head, running, [])[1:] == [
        "running: more-1 \N{MIDDLE DOT} seed 7",
        "failed: more-2 \N{MIDDLE DOT} seed 8 (`dvc queue logs NAME` says why)",
    ]
    own = {tasks[0].revision: {"train.seed": "7", "train.foo": "1"}, tasks[1].revision: {"train.seed": "8"}}
    with pytest.MonkeyPatch.context() as patch:  # as `dvc exp run --queue -S +train.foo=1` leaves it
        patch.setattr("pipeline.commands.sweep._params_at", lambda commit: own.get(commit, {}))
        assert [line.split(" \N{MIDDLE DOT} ")[1] for line in status_lines(head, running, [])[1:]] == [
            "seed 7, foo 1",
            "seed 8 (`dvc queue logs NAME` says why)",
        ]
    (lost,) = status_lines(head, running._replace(has_worker=False), done)[1:]
    assert "more-1" in lost and "no worker answers" in lost and "dvc queue kill" in lost


def test_after_a_commit_it_says_where_the_former_ones_are(project: Path) -> None:
    head, first = head_of(project), dvc(project, "git", "rev-parse", "HEAD~1").strip()
    dvc(project, "git", "commit", "-q", "--allow-empty", "-m", "another")
    with pytest.raises(CharlstmError) as caught:
        sweep("HEAD", project / "none.png")
    assert str(caught.value).splitlines() == [
        f"HEAD: no experiment began from {head_of(project)[:7]} (another); others have some (newest first):",
        f"  charlstm sweep {head[:7]}  # 3 experiments from: results",
        f"  charlstm sweep {first[:7]}  # 1 experiment from: code",
    ]
    sweep(head[:7], project / "former.png")
    assert (project / "former.png").exists() and not (project / "none.png").exists()

    shutil.rmtree(project / ".git/refs/exps")
    with pytest.raises(CharlstmError, match=r"nor from any other commit; `dvc exp run --queue -S NAME=VALUE,VALUE`"):
        sweep("HEAD", project / "none.png")


def test_a_queue_that_dvc_cannot_tell_of_costs_a_warning(
    small: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small / ".dvc/tmp/exps/celery").mkdir(parents=True)
    (small / ".dvc/config").write_text("no section\n")
    assert read_queue() == Queue([], has_worker=False)
    monkeypatch.setattr(queue, "SECONDS_TO_ANSWER", 0.01)
    assert read_queue() == Queue([], has_worker=False)
    broken, slow = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert slow == "what runs, waits and failed is unknown: DVC's queue: no answer in 0.01 seconds"
    assert "config" in broken


@pytest.mark.slow
def test_the_states_of_a_queue_that_works(small: Path, tmp_path: Path) -> None:
    for name in ("good", "bad", "held", "last"):  # one worker takes them in this order
        dvc(small, "exp", "run", "--queue", "--name", name, "-S", f"value={name}")
    with ThreadPoolExecutor() as threads:
        threads.submit(dvc, small, "queue", "start")  # its worker holds our pipe, so it returns when that has ended
        try:
            wait_for(tmp_path / "begun")
            queue = read_queue()
        finally:
            dvc(small, "queue", "remove", "--queued")
            (tmp_path / "released").touch()
            dvc(small, "queue", "stop")
    assert {one.name: one.state for one in queue.tasks} == {"bad": "Failed", "held": "Running", "last": "Queued"}
    assert {one.baseline for one in queue.tasks} == {head_of(small)} and queue.has_worker


def test_a_request_to_stop_reaches_dvc_and_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a terminal does so by itself, SIGTERM does not."""
    dvc = tmp_path / "dvc"
    training = f"while kill -0 $0 2> /dev/null; do sleep 0.1; done; sleep 1; echo saved > {tmp_path}/end"
    dvc.write_text(f"#!/bin/sh\nsh -c '{training}' $$ &\ntouch {tmp_path}/begun\nwait\n")
    dvc.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(dvc))

    def stop() -> None:
        wait_for(tmp_path / "begun")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        run_dvc("repro")
    assert (tmp_path / "end").read_text() == "saved\n", "the command ends after the training, not before"
