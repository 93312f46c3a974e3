"""`charlstm sweep`: its trainings, its comparison, and how it resumes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from charlstm.errors import ParamsError
from charlstm.evaluation.difference import Blocks
from charlstm.files.documents import load_yaml
from charlstm.files.lock import exclusive
from pipeline.commands.sweep import show
from pipeline.lineage.git import experiments
from pipeline.sweep.results import RECORD, Result, results_of
from pipeline.sweep.run import plan
from tests.support.commands import Run
from tests.support.projects import CHARLSTM, kill, start, write_params
from tests.support.stages import IDENTITY, commit_of, dvc

LOSSES = {0.02: 1.52, 0.3: 1.49, 1e-4: 1.61}
RATES = "train.learning_rate=0.003,0.03"
METRICS = "artifacts/evaluate/metrics.json"


def add_experiment(project: Path, name: str, loss: float, **train: object) -> None:
    """Add an experiment that began from HEAD."""
    lock = load_yaml(project / "dvc.lock")
    for stage in lock["stages"].values():
        for sections in stage.get("params", {}).values():
            sections.get("train", {}).update(train)
    (project / "dvc.lock").write_text(json.dumps(lock))
    metrics = {"stateful": {"nats_per_char": loss}}
    (project / METRICS).write_text(json.dumps(metrics))
    dvc(project, "git", "add", "-A")
    tree = dvc(project, "git", "write-tree").strip()
    commit = dvc(project, "git", "commit-tree", tree, "-p", "HEAD", "-m", "an experiment").strip()
    baseline = commit_of(project)
    dvc(project, "git", "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", commit)
    dvc(project, "git", "reset", "-q", "--hard")


@pytest.fixture
def project(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with three experiments that began from its HEAD."""
    monkeypatch.setenv("COLUMNS", "150")
    for number, (rate, loss) in enumerate(LOSSES.items()):
        add_experiment(copy, f"number-{number}", loss, learning_rate=rate)
    return copy


def result(rate: float, seed: int, loss: float = 1.5, name: str = "one") -> Result:
    blocks = Blocks(np.arange(30) * 500, np.full(30, 500), np.full(30, 500 * loss))
    return Result(name, {"train.learning_rate": rate}, seed, ("text",), loss, blocks)


def rows_of(out: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in out.splitlines()
        if line.startswith("│")
    ]


def test_values_are_checked_and_named_before_anything_runs(copy: Path) -> None:
    trials = plan(["train.muon.learning_rate=0.02,6e-2", "model.hidden_size=8"], 2)
    assert [trial.name for trial in trials] == [
        f"muon.learning_rate={rate},hidden_size=8,seed={seed}"
        for rate in (0.02, 0.06)
        for seed in (1, 2)
    ]
    values = {"train.muon.learning_rate": 0.02, "model.hidden_size": 8, "train.seed": 1}
    assert trials[0].values == values
    assert len(plan(["evaluate.window_lens=[10,20],[30]", "train.micro_batch_size=null,2"])) == 4
    for words, message in {
        ("train.epoch=2",): "train.epoch is not a parameter, did you mean train.epochs?",
        ("train.epochs=",): "train.epochs=: expected train.epochs=VALUE,VALUE,...",
        ("train.epochs=1,-1",): "train.epochs should be greater than 0, got -1",
        ("train.epochs=[1",): "not valid YAML",
        ("train.epochs=1,1",): "expected distinct values, got a value twice",
    }.items():
        with pytest.raises(ParamsError, match=re.escape(message)):
            plan(words)
    (odd, _) = plan(["sample.prompts=[..a.],[b:~^?]", f"download.source={'x' * 300}"])
    dvc(copy, "git", "check-ref-format", f"refs/exps/aa/{odd.name}")


def test_a_sweep_is_a_table_with_the_best_first(project: Path, run: Run) -> None:
    code, out, _ = run("sweep", "HEAD")
    rows = rows_of(out)
    assert code == 0 and [row[:3] for row in rows[:3]] == [
        ["learning_rate 0.3", "1", "1.4900"],
        ["learning_rate 0.02", "1", "1.5200"],
        ["learning_rate 0.0001", "1", "1.6100"],
    ]
    # The differences from the best have intervals.
    assert [row[3].split(" ")[0] for row in rows[1:3]] == ["0.0300", "0.1200"]
    assert "keep the best: charlstm sweep --keep number-1" in out
    record = {"baseline": commit_of(project), "names": ["number-2", "number-1", "gone"]}
    (project / ".charlstm" / RECORD).write_text(json.dumps(record))
    dvc(project, "git", "commit", "-q", "--allow-empty", "-m", "later")
    assert [row[2] for row in rows_of(run("sweep")[1])][:2] == ["1.4900", "1.6100"]
    add_experiment(project, "number-3", 1.4, learning_rate=0.1, weight_decay=0.5)
    assert [one.name for one in results_of(commit_of(project), ["number-3"])] == ["number-3"]


def test_seeds_of_one_recipe_are_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    results = [result(0.3, seed, 1.49 + seed / 1000, f"a{seed}") for seed in (3, 1, 2)]
    results += [result(0.01, seed, 1.4905 + seed / 1000, f"b{seed}") for seed in (1, 2, 3)]
    results += [result(1e-4, seed, 1.61 + seed / 1000, f"c{seed}") for seed in (1, 2, 3)]
    results.append(result(0.7, 1, 1.2, "of another text")._replace(text=("other",)))
    show(results)
    out = capsys.readouterr().out
    assert [row[1:3] for row in rows_of(out)] == [
        ["1, 2, 3", f"{loss} ± 0.0010"] for loss in ("1.4920", "1.4925", "1.6120")
    ]
    assert "learning_rate: the best value, 0.3, is at the grid's edge" in out


def test_a_second_sweep_in_a_checkout_is_refused(copy: Path, run: Run) -> None:
    with exclusive(copy / ".charlstm/sweep", "a sweep in this checkout"):
        assert "ERROR: a sweep in this checkout is already running" in run("sweep", RATES)[2]


def test_an_experiment_is_not_applied_over_uncommitted_changes(project: Path, run: Run) -> None:
    (project / "params.yaml").write_text("# mine\n" + (project / "params.yaml").read_text())
    before = (project / "params.yaml").read_bytes()
    code, _, err = run("sweep", "--keep", "number-1")
    assert code == 2 and "would replace uncommitted changes in params.yaml: commit them" in err
    assert (project / "params.yaml").read_bytes() == before
    assert run("sweep", "--keep", "number-1", "--force")[0] == 0
    assert b"# mine" not in (project / "params.yaml").read_bytes()


def test_copies_of_stopped_experiments_are_removed(
    copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy in which a process works stays, and so does a copy that is still written."""
    copies = copy / ".dvc/tmp/exps/standalone"
    for name in ("tmpleft", "tmpused", "tmpnew"):
        (copies / name).mkdir(parents=True)
    for name in ("tmpleft", "tmpused"):
        os.utime(copies / name, (0, 0))
    add_experiment(copy, "learning_rate=0.003", 1.4, learning_rate=0.003)
    with subprocess.Popen(["sleep", "60"], cwd=copies / "tmpused") as process:
        assert "has different parameters" in run("sweep", RATES)[2]
        process.kill()
    assert sorted(folder.name for folder in copies.iterdir()) == ["tmpnew", "tmpused"]


def test_sigterm_to_all_processes_of_a_sweep_is_an_interruption(copy: Path) -> None:
    code = """
from pipeline.run.dvc import run_dvc
from pipeline.run.stage import errors_reported
with errors_reported() as outcome:
    run_dvc("stage", "add", "--run", "--name", "sleep", "echo $$ > started; sleep 60")
raise SystemExit(outcome.code)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (copy / "started").exists():
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 75 and "Traceback" not in err
    assert err.endswith("ERROR: interrupted\n")


@pytest.mark.slow
def test_a_sweep_resumes_where_it_was(
    copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep survives Ctrl-C, SIGKILL and a value that cannot be trained."""
    monkeypatch.setenv("COLUMNS", "150")
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    command = [*CHARLSTM, "sweep", RATES, "--seeds", "2"]
    log = copy / "log"
    for number in (signal.SIGINT, signal.SIGKILL):
        process = start(copy, command, log)
        deadline = time.monotonic() + 200
        # Not `results_of`, because DVC writes params.yaml when it begins an experiment.
        before = len(experiments())
        while len(experiments()) == before or not list(copy.glob(".charlstm/sweep-logs/*")):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        everyone = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.wait(timeout=60)
        _, alive = psutil.wait_procs(everyone, timeout=60)
        kill(process)
        assert not alive
    code, out, err = run("sweep", RATES, "--seeds", "2")
    assert code == 0 and "4 trainings, " in err and "4 trainings, 0 done" not in err
    assert sorted(row[1] for row in rows_of(out))[-1] == "1, 2"
    assert "4 trainings, 4 done" in run("sweep", RATES, "--seeds", "2")[2]

    code, out, err = run("sweep", "train.learning_rate=1e30,0.004")
    assert code == 2 and "learning_rate=1e+30 failed: " in out and "is not finite" in out
    assert "│ learning_rate=0.004 │" in out
    code, out, err = run("sweep", "--keep", "learning_rate=0.03,seed=2")
    assert code == 0, out + err
    assert load_yaml(copy / "params.yaml")["train"]["learning_rate"] == 0.03
    write_params(copy, {})
