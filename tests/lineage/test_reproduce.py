"""`charlstm reproduce`: a training made again from its commit."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline import cli
from pipeline.commands.reproduce import _worktree
from pipeline.new.corpus import InitialModel
from tests.support.projects import CHARLSTM, captured, write_params
from tests.support.stages import commit_all, commit_of, dvc, run_stages


def charlstm(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return captured([*CHARLSTM, *arguments], project, 900)


def trace(project: Path, name: str) -> dict[str, Any]:
    done = charlstm(project, "trace", name, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["traces"]
    return dict(found)


def reproduced(project: Path, name: str) -> subprocess.CompletedProcess[str]:
    done = charlstm(project, "reproduce", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("identical: all 17 outputs of ") and done.stdout.count("\n") == 1
    assert "epoch 1/1" in done.stderr  # it really trained
    assert len(dvc(project, "git", "worktree", "list").splitlines()) == 1
    assert dvc(project, "git", "status", "--short") == ""
    return done


def test_a_worktree_is_gone_afterwards_also_after_ctrl_c(copy: Path) -> None:
    (copy / "text.txt").write_text("mine, uncommitted")
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), _worktree("HEAD") as folder:
            assert (folder / "dvc.yaml").exists() and not (folder / "artifacts/model").exists()
            assert (folder / "text.txt").read_text() != "mine, uncommitted"
            raise error
        assert not folder.exists()
    assert len(dvc(copy, "git", "worktree", "list").splitlines()) == 1
    assert (copy / "text.txt").read_text() == "mine, uncommitted"


def test_what_cannot_be_made_again_is_one_line(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> str:
        caplog.clear()
        assert cli.main(["reproduce", name]) == 2
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        return line

    assert fail("nothing").startswith("nothing: no MLflow run, output file or git revision")
    client = MlflowClient(f"sqlite:///{copy.resolve()}/mlflow.db")
    killed = client.create_run("1", run_name="killed").info.run_id
    advice = "outputs: commit dvc.lock, or train with `dvc exp run`"
    assert f"no commit has a dvc.lock that records this training's {advice}" in fail(killed)
    write_params(copy, {"train.seed": 2})
    run_stages(copy, "train")  # not by DVC, and not committed
    assert "a dvc.lock that records this training's outputs" in fail("artifacts/model")


@pytest.mark.slow
def test_a_model_is_made_again_and_nothing_else_changes(copy: Path) -> None:
    before = commit_of(copy) + (copy / "dvc.lock").read_text()
    reproduced(copy, "artifacts/model")
    assert before == commit_of(copy) + (copy / "dvc.lock").read_text()
    # Nobody tracks it.
    assert len(MlflowClient(f"sqlite:///{copy}/mlflow.db").search_runs(["1"])) == 1


@pytest.mark.slow
def test_an_experiment_and_the_model_that_another_began_from(copy: Path) -> None:
    dvc(copy, "exp", "run", "--temp", "-S", "train.seed=2", "-n", "second")
    found = trace(copy, "second")
    assert found["not as here"] == {"train.seed": "2"}
    assert found["experiment"] == "second"
    assert found["baseline"] == commit_of(copy)
    reproduced(copy, found["run"][:8])
    initial = InitialModel.load("artifacts/model", Path("artifacts/model"))
    initial.keep()
    write_params(copy, {"train.initial": str(initial.target), "train.seed": 3})
    dvc(copy, "repro")
    commit_all(copy, "begun from the first")
    assert trace(copy, "HEAD")["begun from"] == initial.trained.sha256
    shutil.rmtree(copy / initial.target)
    assert charlstm(copy, "reproduce", "HEAD").returncode == 0


@pytest.mark.slow
def test_what_differs_is_listed(copy: Path) -> None:
    lock = (copy / "dvc.lock").read_text()
    ((md5,),) = [
        line.split()[1:] for line in lock.splitlines() if ".dir" in line and "md5" in line
    ][-1:]
    (copy / "dvc.lock").write_text(lock.replace(md5, "0" * 32 + ".dir"))
    commit_all(copy, "samples by hand")
    done = charlstm(copy, "reproduce", "HEAD")
    assert done.returncode == 1, done.stderr
    assert f"different  artifacts/samples  {'0' * 32}.dir, now {md5}\n" in done.stdout
    assert "different: 1 of 17; the model was trained on " in done.stdout
