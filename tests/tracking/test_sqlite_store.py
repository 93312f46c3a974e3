"""URIs of MLflow databases for any checkout's path, and wrong addresses."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from charlstm.tracking.client import Reader, sqlite_file, sqlite_uri
from pipeline.commands.doctor import check_tracker, findings
from pipeline.run.store import store
from tests.support.commands import Run
from tests.support.stores import of_model, send

PRINTABLE = "".join(chr(code) for code in range(32, 127) if chr(code) != "/") + "é漢😀"


def test_a_plain_path_is_as_it_was() -> None:
    uri = "sqlite:////home/me/my project/mlflow.db"
    assert sqlite_uri(Path("/home/me/my project/mlflow.db")) == uri
    assert sqlite_file("sqlite:///mlflow.db?timeout=5") == Path("mlflow.db")
    for uri in ("http://x/y", "sqlite:///:memory:", "sqlite://", "postgresql:///x"):
        assert sqlite_file(uri) is None


def test_a_checkout_of_that_name_has_its_own_runs(
    tmp_path: Path, blank_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / PRINTABLE
    project.mkdir()
    shutil.copy(blank_store, project / "mlflow.db")
    monkeypatch.chdir(project)
    assert list(check_tracker()) == []
    sent = send(store(), replace(of_model("a"), texts={"texts/some.txt": "+a\r\n+b\n"}))
    assert sent.info.artifact_uri.startswith((project / "mlartifacts").as_uri())
    reader = Reader(store())
    (found,) = reader.by_tag("model_sha256", "a")
    assert reader.text(found, "texts/some.txt") == "+a\r\n+b\n"
    assert [one.name for one in tmp_path.iterdir()] == [project.name]


def test_a_relative_database_is_the_project_s_also_in_a_copy_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC trains queued experiments in a temporary folder, which it removes afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    absolute = f"sqlite:///{tmp_path}/its.db"
    for address, file in {"sqlite:///mlflow.db": "project/mlflow.db", absolute: "its.db"}.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert store().uri == f"sqlite:///{tmp_path}/{file}"
        assert store().artifact_root == (tmp_path / file).with_name("mlartifacts").as_uri()


@pytest.mark.parametrize(
    ("address", "is_here"),
    [("postgresql+psycopg2://me@host/runs", True), ("http://127.0.0.1:5000", False)],
)
def test_artifacts_beside_no_file_are_the_project_s_or_the_server_s(
    address: str, is_here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert store().artifact_root == ((tmp_path / "mlartifacts").as_uri() if is_here else None)


@pytest.mark.parametrize(
    "address",
    [
        *("http://[::1", "https://", "http://me:hunter2@h:x"),
    ],
)
def test_an_address_that_is_none_is_one_line(
    address: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    code, _, errors = run("sync")
    assert code == 2 and errors.count("\n") == 1 and "hunter2" not in errors
    assert errors.startswith("ERROR: MLFLOW_TRACKING_URI: expected an address")
    (line,) = findings(check_tracker)
    assert line.startswith("ERROR: MLFLOW_TRACKING_URI: expected an address")
