"""What `charlstm doctor` says of the mirror and of DVC's remote."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from stages import dvc, start_dvc

from benchmarks.projects import make_project
from pipeline.doctor.stores import check_stores
from pipeline.stage.settings import MIRROR


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make_project(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def said(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    start_dvc(project)
    monkeypatch.chdir(project)

    def check() -> list[str]:
        findings = list(check_stores())
        assert not any(finding.is_error for finding in findings), "training waits for none of them"
        return [finding.text for finding in findings]

    return check


def test_who_shares_nothing_needs_nothing(said: Callable[[], list[str]]) -> None:
    assert said() == []


def test_stores_that_work(
    said: Callable[[], list[str]], tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mirror", "remote"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(MIRROR, (tmp_path / "mirror").as_uri())
    dvc(project, "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    (unverified,) = said()
    assert "`dvc remote modify storage verify true` makes it compare their hashes" in unverified
    dvc(project, "remote", "modify", "storage", "verify", "true")
    assert said() == []
    assert not [file for name in ("mirror", "remote") for file in (tmp_path / name).iterdir()], "nothing is left there"


def test_stores_that_cannot_be_written(
    said: Callable[[], list[str]], tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mirror", "remote"):
        (tmp_path / name).write_text("a file in its place")
    monkeypatch.setenv(MIRROR, (tmp_path / "mirror").as_uri())
    dvc(project, "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    mirror, remote = said()
    assert mirror.startswith("mirror: ") and mirror.endswith(f"({(tmp_path / 'mirror').as_uri()})")
    assert remote.startswith("DVC's remote: ") and remote.endswith(f"({tmp_path / 'remote'})")
    assert "\n" not in mirror + remote and "Traceback" not in mirror + remote


def test_a_folder_that_is_not_there_may_be_a_disk_that_is_not_mounted(
    said: Callable[[], list[str]], tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR, (tmp_path / "mirror").as_uri())
    dvc(project, "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    assert all("there is no such folder yet: make it, or mount its disk" in line for line in said())
    assert not (tmp_path / "mirror").exists() and not (tmp_path / "remote").exists()


def test_a_remote_that_nobody_has_described_hides_nothing(
    said: Callable[[], list[str]], tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").write_text("a file in its place")
    monkeypatch.setenv(MIRROR, (tmp_path / "mirror").as_uri())
    dvc(project, "config", "core.remote", "team")
    mirror, remote = said()
    assert mirror.startswith("mirror: ")
    assert remote.startswith("DVC's remote: ") and "team" in remote


def test_a_store_that_says_nothing_is_left(said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR, "s3://bucket/prefix")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("CHARLSTM_CHECKPOINT_MIRROR_SECONDS", "3")
    with socket.socket() as server:  # it takes connections, and that is all
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert said() == ["stores: the mirror or DVC's remote did not answer within 3 s"]
