"""Traces from a run, a revision or a file to the origin of its training."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline import cli
from tests.support.commands import only_error
from tests.support.projects import stand_in, write_params
from tests.support.stages import commit_all, commit_of, dvc

Json = dict[str, Any]
Trace = Callable[[str], Json]


@pytest.fixture
def trace(capsys: pytest.CaptureFixture[str]) -> Trace:
    """Return a function that runs `charlstm trace NAME --json` and returns the only training."""

    def run(name: str) -> Json:
        capsys.readouterr()
        assert cli.main(["trace", name, "--json"]) == 0
        (one,) = json.loads(capsys.readouterr().out)["traces"]
        return dict(one)

    return run


@pytest.fixture
def here(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the recorded project, which tests only read. It is the current folder."""
    monkeypatch.chdir(recorded)
    return recorded


def fail(caplog: pytest.LogCaptureFixture, *arguments: str) -> str:
    """Run a command that fails. Return its error."""
    caplog.clear()
    assert cli.main([*arguments]) == 2
    return only_error(caplog)


def test_all_that_names_a_training_leads_to_its_run(
    here: Path, trace: Trace, tmp_path: Path
) -> None:
    (run,) = MlflowClient(f"sqlite:///{here}/mlflow.db").search_runs(["1"])
    run_id = run.info.run_id
    model = run.data.tags["model_sha256"]
    of_runs = [run_id, run_id[:8], str(run.info.run_name), model, model[:12]]
    commit = commit_of(here)
    revisions = ["HEAD", "main", "results", "an-experiment", commit, commit[:12], "HEAD~1"]
    copied = shutil.copytree("artifacts/model", tmp_path / "copied")
    (copied / "card.json").write_text("{}")
    files = ["artifacts/model", "artifacts/model/model.safetensors", "artifacts/train/metrics.json"]
    for name in (*of_runs, *revisions, *files, "Datasets/shakespear.txt", str(copied)):
        assert str(trace(name)["run"]).startswith(f"{run_id}  {run.info.run_name}  FINISHED"), name


def test_a_trace_says_what_the_training_was_made_of(
    copy: Path, trace: Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(copy, {"train.epochs": 77})
    found = trace("HEAD")
    code = commit_of(copy, "HEAD~1")
    assert (found["code"], found["uncommitted then"]) == (code, "no")
    assert found["params"]["train.seed"] == "1" and len(found["params"]) > 40
    assert found["not as here"] == {"train.epochs": "1"}
    assert set(found["losses"]) == {"windowed_20", "stateful"}
    assert {"torch", "python", "dvc"} <= set(found["versions"])
    assert {"processor", "threads", "memory_gib"} <= set(found["hardware"])
    assert cli.main(["trace", "HEAD"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 15 and "not as here       train.epochs 1" in lines
    stateful = f"stateful {found['losses']['stateful']}"
    for word in (code, found["model SHA-256"], found["hardware"]["processor"], stateful):
        assert word in "\n".join(lines)


def test_without_mlflow_git_and_dvc_say_the_same(
    copy: Path, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """A colleague's clone after `dvc pull` has the files, but no runs."""
    before = trace("HEAD")
    Path("mlflow.db").unlink()
    for name in ("HEAD", "an-experiment", "artifacts/model", "artifacts/train/metrics.json"):
        found = trace(name)
        assert caplog.text == ""  # a missing database is not a fault
        assert found["run"] is None and found["hardware"] == {}
        assert found["experiment"] == "an-experiment" and found["baseline"] == before["code"]
        for key in ("params", "losses", "recipe", "text", "not as here", "in git"):
            assert found[key] == before[key]
        assert found["model SHA-256"] == before["model SHA-256"]
        assert found["text SHA-256"] == before["text SHA-256"]
    assert not Path("mlflow.db").exists()


def test_without_a_name_all_trainings_are_listed_the_newest_first(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(f"sqlite:///{copy.resolve()}/mlflow.db")
    run = client.create_run("1", start_time=round(time.time() * 1000), run_name="killed")
    client.log_param(run.info.run_id, "train.seed", 1)
    client.create_run("1", run_name="above a sweep")
    capsys.readouterr()
    assert cli.main(["trace"]) == 0
    killed, first = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[0-9a-f]{32}  \d{4}-\d\d-\d\d \d\d:\d\d  killed  RUNNING", killed)
    assert first.endswith("  FINISHED")


def test_without_git_mlflow_still_knows(copy: Path, trace: Trace) -> None:
    before = trace("artifacts/model")
    shutil.rmtree(".git")
    assert trace("artifacts/model") == {**before, "in git": []}


def test_what_leads_nowhere_is_one_line(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad_name = os.fsdecode(b"caf\xe9.txt")
    for name in ("nothing", "0" * 32, "a'b\"c", bad_name, "dvc.yaml", "pipeline"):
        error = fail(caplog, "trace", name)
        assert "no MLflow run, output file or git revision of a training matches" in error


def test_a_text_that_stands_in_is_said_to_be_one(
    copy: Path, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mlflow.db").unlink()
    stand_in(copy, monkeypatch)
    dvc(copy, "commit", "--force")
    commit_all(copy, "with a fallback")
    assert trace("HEAD")["text"] == "FALLBACK package==1"
