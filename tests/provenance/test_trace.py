"""From a run, a revision or a file to its training and all of its hashes."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML
from stages import dvc

from benchmarks.projects import ROOT
from pipeline import cli

Json = dict[str, Any]
Trace = Callable[..., Json]
LINKS = ["corpus", "split", "encoded", "model", "losses", "samples"]


@pytest.fixture
def trace(capsys: pytest.CaptureFixture[str]) -> Trace:
    """`charlstm trace ... --json` in the current folder."""

    def run(*arguments: str) -> Json:
        capsys.readouterr()
        assert cli.main(["trace", *arguments, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    return run


@pytest.fixture
def here(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the recorded project, which is only read."""
    monkeypatch.chdir(recorded)
    return recorded


def only(document: Json) -> Json:
    (one,) = document["traces"]
    return dict(one)


def run_id(document: Json) -> str:
    return str(only(document)["run"]["id"])


def sha256_by_path(trace: Json) -> dict[str, str]:
    return {row["path"]: row["sha256"] for link in trace["chain"] for row in link["files"]}


def fail(caplog: pytest.LogCaptureFixture, *arguments: str) -> str:
    """The one line of error."""
    caplog.clear()
    assert cli.main(["trace", *arguments]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return line


def test_a_run_is_found_by_its_id_the_beginning_of_it_and_its_name(here: Path, trace: Trace) -> None:
    first = only(trace("HEAD"))["run"]
    for name in (first["id"], first["id"][:8], first["name"]):
        assert run_id(trace(name)) == run_id(trace(name, "--as", "run")) == first["id"]


def test_a_revision_leads_to_the_run_of_its_outputs_and_a_commit_to_what_ran_from_it(here: Path, trace: Trace) -> None:
    commit = dvc(here, "git", "rev-parse", "HEAD").strip()
    code = dvc(here, "git", "rev-parse", "HEAD~1").strip()
    ids = {run_id(trace(name)) for name in ("HEAD", "main", "results", "an-experiment", commit, commit[:12])}
    assert len(ids) == 1
    assert {run_id(trace(name)) for name in ("HEAD~1", code)} == ids
    found = only(trace("an-experiment"))
    assert found["code"] == {"commit": code, "is_here": True, "dirty": "no"}
    (revision,) = found["dvc"]["revisions"]
    assert revision == {
        "commit": commit,
        "experiment": "an-experiment",
        "baseline": code,
        "names": ["main", "results"],
        "subject": "results",
    }


@pytest.mark.parametrize(
    "file",
    [
        "artifacts/samples/00-newline-temperature-0.8-seed-1.txt",
        "artifacts/samples",
        "artifacts/model",
        "artifacts/model/model.safetensors",
        "artifacts/evaluate/loss_curve.png",
        "Datasets/shakespear.txt",
    ],
)
def test_a_file_is_found_by_its_bytes_wherever_it_lies(here: Path, tmp_path: Path, trace: Trace, file: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (shutil.copytree if Path(file).is_dir() else shutil.copy)(file, elsewhere)
    assert run_id(trace(str(elsewhere))) == run_id(trace("HEAD"))
    assert only(trace(str(elsewhere)))["found_by"] == "the file's SHA-256"


def test_the_chain_has_every_hash_and_they_are_those_of_the_files_and_of_dvc(here: Path, trace: Trace) -> None:
    found = only(trace("HEAD"))
    assert [link["link"] for link in found["chain"]] == LINKS
    lock = YAML(typ="safe", pure=True).load((here / "dvc.lock").read_text())
    outputs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    rows = [row for link in found["chain"] for row in link["files"]]
    md5 = {row["path"]: row["dvc_md5"] for row in rows}
    folders = {link["dvc_folder_md5"] for link in found["chain"]} - {None}
    assert len(outputs) > 10 and len(rows) > 20
    assert {md5 for md5 in outputs.values() if md5.endswith(".dir")} == folders
    for path, digest in outputs.items():
        assert digest.endswith(".dir") or md5[path] == digest
    for path, digest in sha256_by_path(found).items():
        assert hashlib.sha256((here / path).read_bytes()).hexdigest() == digest
    assert found["dvc"]["train_md5"] == outputs["artifacts/train/SHA256SUMS"]


def test_a_trace_has_all_that_is_documented(here: Path, trace: Trace) -> None:
    document = trace("HEAD")
    assert set(document) == {"query", "traces", "more", "notes"}
    found = only(document)
    names = "found_by run chain recipe params losses code dvc versions hardware stages"
    assert set(found) == set(names.split())
    assert found["params"]["train.seed"] == "1" and len(found["params"]) > 40
    assert "stateful" in "".join(found["losses"])
    assert {"torch", "python", "dvc"} <= set(found["versions"])
    assert {"processor", "threads", "memory_gib"} <= set(found["hardware"])
    assert found["stages"] == {"train": {}, "evaluate": {}, "sample": {}}  # nothing ran elsewhere


def test_the_lines_say_the_same(here: Path, trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    found = only(trace("HEAD"))
    assert cli.main(["trace", "HEAD"]) == 0
    short = capsys.readouterr().out
    assert "as in params.yaml here" in short and "experiment an-experiment" in short
    assert len(short.splitlines()) <= 14 and found["hardware"]["processor"] in short
    assert "commit " in short and short.endswith(f"again      charlstm reproduce {found['run']['id'][:8]}\n")
    assert not [digest for digest in sha256_by_path(found).values() if digest in short]
    assert cli.main(["trace", "HEAD", "--files"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(short)
    for digest in sha256_by_path(found).values():
        assert digest in output
    for word in (
        found["run"]["id"],
        found["code"]["commit"],
        found["dvc"]["train_md5"],
        found["hardware"]["processor"],
    ):
        assert word in output


def test_of_many_trainings_the_newest_are_shown_in_full(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = MlflowClient("sqlite:///mlflow.db")
    corpus = hashlib.sha256(Path("Datasets/shakespear.txt").read_bytes()).hexdigest()
    for number in range(5):
        client.create_run("1", tags={"corpus_sha256": corpus}, run_name=f"failed-{number}")
    assert cli.main(["trace", "Datasets/shakespear.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("run ")] == ["failed-4", "failed-3", "failed-2"]
    assert len(lines[lines.index("and 3 more; `charlstm trace` with one of these shows it in full:") :]) == 4
    assert cli.main(["trace", "failed-1"]) == 0
    assert "no commit recorded" in (output := capsys.readouterr().out) and "charlstm reproduce" not in output


def test_without_a_name_all_trainings_are_listed_the_newest_first(
    copy: Path, trace: Trace, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    known = only(trace("HEAD"))["run"]
    client = MlflowClient(f"sqlite:///{copy.resolve()}/mlflow.db")
    run = client.create_run("1", start_time=round(time.time() * 1000), run_name="killed")
    client.log_param(run.info.run_id, "train.seed", 1)
    client.create_run("1", run_name="above a sweep")
    capsys.readouterr()
    assert cli.main(["trace"]) == 0
    killed, first = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[0-9a-f]{32}  \d{4}-\d\d-\d\d \d\d:\d\d  killed  RUNNING", killed)
    assert first.startswith(known["id"]) and first.endswith(f"{known['name']}  FINISHED")
    assert [(row["name"], row["status"]) for row in trace()["trainings"]] == [
        ("killed", "RUNNING"),
        (known["name"], "FINISHED"),
    ]
    assert "need a RUN, FILE or REV" in fail(caplog, "--files")
    for run in client.search_runs(["1"]):
        client.delete_run(run.info.run_id)
    assert "no training is in MLflow yet" in fail(caplog)
    Path("mlflow.db").unlink()
    assert "no such MLflow database" in fail(caplog)


def test_without_mlflow_git_and_dvc_still_know(copy: Path, trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    before = only(trace("HEAD"))
    shutil.rmtree("mlartifacts")
    Path("mlflow.db").unlink()
    sample = shutil.copy("artifacts/samples/00-newline-temperature-0.8-seed-1.txt", "mine.txt")
    for name in ("HEAD", "an-experiment", str(sample), "artifacts/model", "artifacts/train/metrics.json"):
        document = trace(name)
        found = only(document)
        assert "no such MLflow database" in document["notes"][0]
        assert found["run"] is None and found["hardware"] == {}
        assert found["params"] == before["params"]
        known = {path: digest for path, digest in sha256_by_path(found).items() if digest}
        assert known.items() <= sha256_by_path(before).items()
        assert "artifacts/model/model.safetensors" in known and len(known) > 15
    assert "abc: expected a run, found none of that name; runs cannot be" in fail(caplog, "abc", "--as", "run")
    assert not Path("mlflow.db").exists()


def test_without_git_mlflow_still_knows(copy: Path, trace: Trace) -> None:
    before = only(trace("artifacts/model"))
    shutil.rmtree(".git")
    found = only(trace("artifacts/model"))
    assert found["dvc"]["revisions"] == [] and found["code"]["is_here"] is False
    assert sha256_by_path(found) == sha256_by_path(before)


def test_several_commits_with_a_lock_are_one_training(
    copy: Path, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the record of the run no longer has the file, as after samples were drawn again."""
    monkeypatch.setattr("pipeline.lineage.search._runs_with", lambda digests, reader: [])
    lock = Path("dvc.lock").read_bytes()
    for content, message in ((b"", "nothing is locked"), (lock, "locked again")):
        Path("dvc.lock").write_bytes(content)
        dvc(copy, "git", "commit", "-qam", message)
    found = trace("artifacts/train/metrics.json")
    assert run_id(found) == run_id(trace("an-experiment")) and only(found)["found_by"] == "the file's MD5 in dvc.lock"


def test_artifacts_that_only_a_server_has_are_one_line(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the runs were made through a server, and its database is read directly."""
    with closing(sqlite3.connect("mlflow.db")) as store:
        store.execute("update runs set artifact_uri = 'mlflow-artifacts:/1/' || run_uuid || '/artifacts'")
        store.commit()
    assert fail(caplog, "HEAD").startswith("MLflow at sqlite:///")


def test_a_run_with_a_name_of_several_folders_is_shown(copy: Path, trace: Trace) -> None:
    """A server has what anybody wrote."""
    with closing(sqlite3.connect("mlflow.db")) as store:
        assert store.execute("update params set value = 'a/b' where key = 'download.name'").rowcount == 1
        store.commit()
    assert only(trace("HEAD"))["params"]["download.name"] == "a/b"


@pytest.mark.parametrize(
    "arguments",
    [["trace", "HEAD"], ["trace", "dvc.yaml"], ["review", "HEAD"], ["sweep", "HEAD"], ["reproduce", "HEAD"]],
)
def test_a_checkout_of_another_user_is_named_as_the_cause(
    here: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    assert cli.main(arguments) == 2
    assert "git does not work here: fatal: detected dubious ownership" in caplog.text


def test_a_moved_checkout_finds_its_own_records(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    """The run names the folder that artifacts were in; they are below the store's own."""
    before = only(trace("HEAD"))
    shutil.rmtree(tmp_path / "project", ignore_errors=True)
    with closing(sqlite3.connect("mlflow.db")) as store:  # as if the first folder were gone
        store.execute("update runs set artifact_uri = replace(artifact_uri, '/project/', '/gone/')")
        store.commit()
    sample = "artifacts/samples/00-newline-temperature-0.8-seed-1.txt"
    assert only(trace(sample)) | {"found_by": ""} == before | {"found_by": ""}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: expected a run, a file or a revision, found none of that name"),
        (["nothing", "--as", "run"], "nothing: expected a run, found none of that name"),
        (["nothing", "--as", "rev"], "nothing: expected a revision, found none of that name"),
        (["nothing", "--as", "file"], "nothing: expected a file, found none"),
        (["0" * 32], "expected a run, a file or a revision"),
        (["--end-of-options"], "No such option"),
        (["a'b\"c"], "expected a run, a file or a revision"),
        (["text.txt;"], "expected a run, a file or a revision"),
        ([os.fsdecode(b"caf\xe9.txt")], "expected a run, a file or a revision"),
        (["dvc.yaml"], "expected bytes of a training, found no run with them"),
        (["pipeline"], "files): expected bytes of a training"),
    ],
)
def test_what_leads_nowhere_is_one_line(
    here: Path, caplog: pytest.LogCaptureFixture, arguments: list[str], message: str
) -> None:
    assert message in fail(caplog, *arguments)


def test_a_server_that_does_not_answer_is_a_note(here: Path, trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    document = trace("HEAD")
    assert only(document)["run"] is None
    assert "MLflow at http://127.0.0.1:9" in document["notes"][0] and "hunter2" not in str(document)


def test_tracing_needs_neither_torch_nor_pandas_nor_mlflow_to_start() -> None:
    heavy = {"torch", "pandas", "mlflow", "matplotlib"}
    code = "import sys, pipeline.commands.trace, pipeline.commands.reproduce, pipeline.commands.review; "
    code += f"print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
