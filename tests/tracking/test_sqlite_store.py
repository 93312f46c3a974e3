"""A checkout's path in the URI of its MLflow database, paths that no database can have, and addresses that are none."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from commands import Run as Command
from outboxes import open_store
from sqlalchemy.engine import make_url
from stages import run_stage

from charlstm.errors import TrackingError
from charlstm.tracking.client import (
    Store,
    create_run,
    follow_artifacts,
    log_artifacts,
    sqlite_file,
    sqlite_uri,
)
from charlstm.tracking.reader import Reader
from pipeline.commands.doctor import check_tracker, findings
from pipeline.stage.tracking_store import store

PRINTABLE = "".join(chr(code) for code in range(32, 127) if chr(code) != "/") + "é漢😀"


@pytest.fixture
def command(
    capfdbinary: pytest.CaptureFixture[bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Command:
    return Command(capfdbinary, caplog, monkeypatch)


def test_each_character_leads_to_its_own_file() -> None:
    files = [Path(f"/checkout/a{one}41b/mlflow.db") for one in [*PRINTABLE, "\n", "\t", PRINTABLE]]
    assert len({sqlite_uri(file) for file in files}) == len(files) > 95
    for file in files:
        assert make_url(sqlite_uri(file)).database == str(file) == str(sqlite_file(sqlite_uri(file)))


def test_a_plain_path_is_as_it_was() -> None:
    assert sqlite_uri(Path("/home/me/my project/mlflow.db")) == "sqlite:////home/me/my project/mlflow.db"
    assert sqlite_file("sqlite:///mlflow.db?timeout=5") == Path("mlflow.db")
    assert [sqlite_file(uri) for uri in ("http://x/y", "sqlite:///:memory:", "sqlite://", "postgresql:///x")] == [
        None
    ] * 4


def test_a_checkout_of_that_name_has_its_runs_and_its_neighbour_none(
    tmp_path: Path, blank_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, moved = tmp_path / PRINTABLE, tmp_path / f"moved {PRINTABLE}"
    project.mkdir()
    shutil.copy(blank_store, project / "mlflow.db")
    (project / "some.txt").write_text("some text")
    monkeypatch.chdir(project)
    assert list(check_tracker()) == []
    client, experiment_id = open_store(store())
    run_id = create_run(client, experiment_id, {"training_id": "a"}, 1)
    log_artifacts(client, run_id, [project / "some.txt"], "texts")
    project.rename(moved)
    monkeypatch.chdir(moved)
    client, _ = open_store(store())
    assert client.get_run(run_id).info.artifact_uri.startswith((moved / "mlartifacts").as_uri())
    reader = Reader(store())
    (run,) = reader.by_tag("training_id", "a")
    assert reader.text(run, "texts/some.txt") == "some text"
    assert sorted(one.name for one in tmp_path.iterdir()) == [moved.name]


def test_a_moved_checkout_leaves_the_paths_of_others(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        for table, columns in {
            "runs": "artifact_uri",
            "logged_models": "artifact_location",
            "model_versions": "source, storage_location",
            "experiments": "artifact_location",
        }.items():
            database.execute(f"create table {table} ({columns})")
        names = ["file:///a%20b_c/1", "file:///aXX20b_c/1", "file:///a%20bXc/1", "file:///a%20b_c", "file:///a%20b_cd"]
        database.executemany("insert into runs values (?)", [[name] for name in names])
    follow_artifacts(sqlite_uri(tmp_path / "mlflow.db"), "file:///a%20b_c", "file:///new")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        found = [row[0] for row in database.execute("select artifact_uri from runs")]
    assert found == ["file:///new/1", *names[1:3], "file:///new", names[4]]


def test_a_folder_that_is_none_is_one_line_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for file in (
        tmp_path / "file/mlflow.db",
        tmp_path,
        tmp_path / ("x" * 200) / ("x" * 200) / ("x" * 200) / "mlflow.db",
    ):
        with pytest.raises(TrackingError, match="no database can be opened: |: expected a database, found"):
            open_store(Store(sqlite_uri(file), "tests", None))


def test_a_relative_database_is_the_project_s_also_in_a_copy_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC trains queued experiments in a temporary folder, which is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    for address, file in (("sqlite:///mlflow.db", "project/mlflow.db"), (f"sqlite:///{tmp_path}/its.db", "its.db")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert store().uri == f"sqlite:///{tmp_path}/{file}"
        assert store().artifact_root == (tmp_path / file).with_name("mlartifacts").as_uri()


@pytest.mark.parametrize(
    ("address", "is_here"), [("postgresql+psycopg2://me@host/runs", True), ("http://127.0.0.1:5000", False)]
)
def test_artifacts_beside_no_file_are_the_project_s_or_the_server_s(
    address: str, is_here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert store().artifact_root == ((tmp_path / "mlartifacts").as_uri() if is_here else None)


def test_artifacts_that_lie_elsewhere_stay_there(tmp_path: Path, blank_store: Path) -> None:
    """As where an older version, or a server, has put them."""
    shutil.copy(blank_store, tmp_path / "mlflow.db")
    elsewhere = (tmp_path / "mlruns/1").as_uri()
    client, experiment_id = open_store(Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", elsewhere))
    run_id = create_run(client, experiment_id, {"training_id": "a"}, 1)
    here = (tmp_path / "mlartifacts").as_uri()
    client, _ = open_store(Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", here))
    assert client.get_run(run_id).info.artifact_uri.startswith(elsewhere)


def test_artifacts_stay_where_a_copied_database_has_none_beside_it(tmp_path: Path, blank_store: Path) -> None:
    shutil.copy(blank_store, tmp_path / "mlflow.db")
    before, here = tmp_path / "before/mlartifacts", tmp_path / "mlartifacts"
    client, experiment_id = open_store(Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", before.as_uri()))
    run_id = create_run(client, experiment_id, {"training_id": "a"}, 1)
    for folder in (before, here):  # the second time, they are there
        client, _ = open_store(Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", here.as_uri()))
        assert client.get_run(run_id).info.artifact_uri.startswith(folder.as_uri())
        here.mkdir(exist_ok=True)


def test_a_deleted_experiment_is_a_line_that_says_how_to_restore_it(tmp_path: Path, blank_store: Path) -> None:
    shutil.copy(blank_store, tmp_path / "mlflow.db")
    of = Store(f"sqlite:///{tmp_path}/mlflow.db", "tests", None)
    client, experiment_id = open_store(of)
    client.delete_experiment(experiment_id)
    with pytest.raises(
        TrackingError, match=f"the experiment tests was deleted there: .* --experiment-id {experiment_id}"
    ):
        open_store(of)


@pytest.mark.parametrize(
    "address",
    ["http://[::1", "http://:5000", "https://", "http://host:port", "http://h:99999", "http://me:hunter2@h:x"],
)
def test_an_address_that_is_none_is_one_line(address: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for words in (["sync"], ["ui"], ["info", "models:/charlstm@champion"]):
        code, _, errors = command(*words)
        assert code == 2 and errors.count("\n") == 1 and "hunter2" not in errors
        assert errors.startswith("ERROR: MLFLOW_TRACKING_URI: expected an address like http://127.0.0.1:5000 or ")
    (line,) = findings(check_tracker)
    assert line.startswith("ERROR: MLFLOW_TRACKING_URI: expected an address")


def test_a_stage_says_so_before_its_work(encoded: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(encoded, tmp_path / "project"))
    done = run_stage(project, "train", MLFLOW_TRACKING_URI="http://[::1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "MLFLOW_TRACKING_URI: expected an address" in done.stderr
    assert not (project / "artifacts").exists()
