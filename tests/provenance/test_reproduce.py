"""A run made again from its record, and compared."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from stages import dvc, run_stages

from benchmarks.projects import write_params
from charlstm.errors import CharlstmError
from charlstm.tracking.reader import Reader
from pipeline import cli
from pipeline.commands.reproduce import Row, check_is_of, compare, find_run, first_difference, likely_cause
from pipeline.dvc.paths import Paths
from pipeline.lineage.document import read_records
from pipeline.lineage.revisions import WORKTREES, worktree
from pipeline.stage.tracking_store import store

PATHS = Paths.model_validate({name: f"x/{name}" for name in Paths.model_fields})
HARDWARE = {"hardware.processor": "A", "hardware.threads": "2", "versions.torch": "1", "hardware.cores": "8"}


def the_run(project: Path) -> str:
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        ((run_id,),) = store.execute("select run_uuid from runs").fetchall()
    return str(run_id)


def change(project: Path, statement: str) -> None:
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        assert store.execute(statement).rowcount > 0
        store.commit()


def charlstm(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)


def test_files_are_compared_in_the_order_of_the_chain(tmp_path: Path) -> None:
    files = {"x/samples/a": "1", "x/model/m": "2", "x/corpus": "3", "x/evaluate/e": "4", "elsewhere": "5"}
    rows = compare(files, tmp_path, PATHS)
    assert [row.path for row in rows] == ["x/corpus", "x/model/m", "x/evaluate/e", "x/samples/a"]
    assert all(str(row).endswith(f"{row.path}  now missing") for row in rows)
    assert first_difference(rows) == rows[0]


@pytest.mark.parametrize(
    ("link", "here", "cause"),
    [
        ("corpus", {}, "the corpus no longer has these bytes: its source was edited or replaced since"),
        ("model", {"hardware.processor": "B"}, "processor A (here B)"),
        ("model", {"versions.torch": "2", "hardware.gpu": "C"}, "torch 1 (here 2), gpu not recorded (here C)"),
        ("model", {"hardware.cores": "2"}, "are the same: other code before training, kernels that do not repeat"),
    ],
)
def test_the_likely_cause_is_what_differs(link: str, here: dict[str, str], cause: str) -> None:
    assert cause in likely_cause(Row(link, "x", "1", "2"), HARDWARE, HARDWARE | here)


def test_worktrees_of_the_user_stay_where_their_disk_is_not_mounted(copy: Path, tmp_path: Path) -> None:
    own, killed = tmp_path / "own", tmp_path / f"{WORKTREES}killed/project"
    for folder in (own, killed):
        dvc(copy, "git", "worktree", "add", "-q", "--detach", str(folder))
        folder.rename(tmp_path / folder.name[::-1])
    with worktree("HEAD"):
        pass
    (tmp_path / "nwo").rename(own)
    assert dvc(own, "git", "status", "--short") == ""
    assert str(killed) not in dvc(copy, "git", "worktree", "list")


def test_a_worktree_is_gone_afterwards_also_after_ctrl_c(copy: Path) -> None:
    (copy / "text.txt").write_text("mine, uncommitted")
    with worktree("HEAD") as folder:
        assert (folder / "dvc.yaml").exists() and not (folder / "artifacts/model").exists()
        assert (folder / "text.txt").read_text() != "mine, uncommitted"
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), worktree("HEAD") as folder:
        raise KeyboardInterrupt
    assert not folder.exists()
    assert len(dvc(copy, "git", "worktree", "list").splitlines()) == 1
    assert (copy / "text.txt").read_text() == "mine, uncommitted"


def test_all_that_trace_takes_names_a_run(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    names = ("HEAD", "HEAD~1", "results", "an-experiment", "artifacts/model", "artifacts/samples", the_run(copy)[:8])
    assert {find_run(name, Reader(store()))[0].run_id for name in names} == {the_run(copy)}


def test_another_model_that_ran_from_a_commit_is_not_its_own(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    change(copy, "update tags set value = 'other' where key = 'dvc_train_md5'")
    with pytest.raises(CharlstmError, match=r"^HEAD: the model that its dvc.lock names has no run here: `dvc pull`"):
        find_run("HEAD", Reader(store()))


def test_a_commit_whose_model_was_evaluated_again_is_not_made_by_its_run(copy: Path) -> None:
    reader = Reader(store())
    run, commit = find_run("HEAD", reader)
    assert commit is not None and find_run(run.run_id, reader) == (run, None)
    records = read_records(reader, run)
    check_is_of(commit, records, "HEAD", run.run_id)
    outputs = dict.fromkeys(records[-1].outputs, "0" * 32)
    with pytest.raises(CharlstmError, match=f"HEAD: its dvc.lock has another .* reproduce {run.run_id}` makes"):
        check_is_of(commit, [records[0], records[-1]._replace(outputs=outputs)], "HEAD", run.run_id)


def test_what_cannot_be_made_again_is_one_line(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(run: str) -> str:
        caplog.clear()
        assert cli.main(["reproduce", run]) == 2
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        return line

    run_id = the_run(copy)
    folder = copy / "mlartifacts" / run_id / "artifacts/lineage"
    change(copy, f"update runs set artifact_uri = '{folder.parent.as_uri()}'")
    assert "nothing: expected a run, a file or a revision, found none of that name" in fail("nothing")
    for stage in ("evaluate", "sample"):
        shutil.rmtree(folder / stage)
    origin = (folder / "train/origin.json").read_text().replace('"git_dirty": "no"', '"git_dirty": "yes"')
    (folder / "train/origin.json").write_text(origin)
    params = (folder / "train/params.yaml").read_text()
    (folder / "train/params.yaml").write_text("train: [")
    fail(run_id)
    assert "the run's working tree had uncommitted changes: the commit's code runs, with the run's" in caplog.text
    (folder / "train/params.yaml").write_text(params)
    commit = dvc(copy, "git", "rev-parse", "HEAD~1").strip()
    (folder / "train/origin.json").write_text(origin.replace(commit, "c0ffee" * 6 + "c0ff"))
    assert "is not in this repository: git fetch" in fail(run_id[:8])
    (folder / "train/origin.json").write_text("{}")
    assert "trained outside a git repository" in fail(run_id)
    shutil.rmtree(folder)
    assert "expected its record in the artifacts lineage/, found none" in fail(run_id)
    change(copy, "update tags set key = 'other' where key = 'model_sha256'")
    assert "expected a finished training, found one that is FINISHED: no model" in fail(run_id)
    (copy / "mlflow.db").unlink()
    assert "there is no such MLflow database" in fail(run_id)


@pytest.mark.slow
def test_a_run_is_made_again_to_the_byte_and_nobody_tracks_it(copy: Path) -> None:
    (copy / "text.txt").write_text("edited since, but DVC has the corpus")
    done = charlstm(copy, "reproduce", the_run(copy))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("identical: all ") and len(lines) > 20
    assert all(line.startswith("identical") for line in lines)
    assert "epoch 1/1" in done.stderr  # it really trained
    the_run(copy)  # still the only one
    assert len(dvc(copy, "git", "worktree", "list").splitlines()) == 1


@pytest.mark.slow
def test_of_an_edited_corpus_it_says_so(copy: Path, tmp_path: Path) -> None:
    """And nothing is trained, which would only cost time. DVC did not run these stages, so its cache has no copy."""
    (copy / "mlflow.db").unlink()
    mine = tmp_path / "mine.txt"
    mine.write_text((copy / "text.txt").read_text())
    write_params(copy, {"download.source": str(mine), "train.seed": 2})
    with (copy / ".dvc/config").open("a") as file:
        file.write(f"[cache]\n    dir = {tmp_path / 'empty'}\n")
    run_stages(copy, "download", "split", "encode", "train")
    mine.write_text(mine.read_text().replace("e", "E"))
    done = charlstm(copy, "reproduce", the_run(copy))
    assert done.returncode == 1, done.stdout + done.stderr
    cause = "the corpus no longer has these bytes: its source was edited or replaced since"
    verdict = f"different: first in corpus, Datasets/shakespear.txt; likely cause: {cause}"
    assert done.stdout.splitlines()[-1] == verdict
    assert "epoch 1/1" not in done.stderr
