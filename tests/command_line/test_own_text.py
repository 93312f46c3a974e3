"""A user's own text, through real `dvc repro`: whatever the parameters say, its only copy is never lost."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.projects import ROOT, make_project, write_params
from tests.support.stages import dvc, run_dvc, run_here, start_dvc

CORPUS = "Datasets/shakespear.txt"
NOWHERE = "gopher://127.0.0.1/text.txt"  # no protocol of ours, so nothing is asked
OWN = "my only copy, " * 50


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project under git and DVC in which nothing has run."""
    folder = tmp_path / "project"
    make_project(folder)
    start_dvc(folder)
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    return folder


def assert_refused(project: Path, reason: str) -> None:
    done = run_dvc(project, "repro", "download")
    assert done.returncode != 0
    errors = [
        line for line in done.stderr.splitlines() if line.startswith("ERROR: ") and reason in line
    ]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_where_the_corpus_goes_survives(project: Path) -> None:
    """Also one with a file of checksums, which looks like the stage's own."""
    (project / "Datasets").mkdir()
    (project / CORPUS).write_text(OWN)
    with (project / f"{CORPUS}.sha256").open("w") as sums:
        subprocess.run(
            ["sha256sum", Path(CORPUS).name], cwd=project / "Datasets", stdout=sums, check=True
        )
    before = (project / f"{CORPUS}.sha256").read_bytes()
    assert_refused(project, "left as it is: move it")
    assert (project / CORPUS).read_text() == OWN
    assert (project / f"{CORPUS}.sha256").read_bytes() == before
    (project / CORPUS).rename(project / "own.txt")  # what the message says
    write_params(project, {"download.source": "own.txt"})
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_text() == (project / "own.txt").read_text() == OWN


def test_a_text_comes_back_from_the_cache_by_a_commit(project: Path) -> None:
    """After another text, where the source does not answer, and even if a bare `dvc checkout` has removed it."""
    content = (project / "text.txt").read_bytes()
    by_url = {"download.source": NOWHERE, "download.sha256": hashlib.sha256(content).hexdigest()}
    write_params(project, {**by_url, "download.watch": "text.txt"})
    (project / "mirror").mkdir()
    (project / "mirror/shakespear.txt").write_bytes(content)
    dvc(project, "repro", "download", CHARLSTM_MIRROR="mirror")
    dvc(project, "git", "add", "dvc.lock")
    dvc(project, "git", "commit", "-qm", "the text")
    (project / "other.txt").write_text("another text, " * 50)
    write_params(
        project,
        {"download.name": "other", "download.source": "other.txt", "download.watch": "other.txt"},
    )
    dvc(project, "repro", "download")
    run_dvc(project, "checkout", "dvc.yaml")
    assert (project / CORPUS).read_bytes() == content, (
        "what the documents recommend removes nothing"
    )
    run_dvc(project, "checkout")
    assert not (project / CORPUS).exists()
    write_params(project, {**by_url, "download.watch": "text.txt"})
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_bytes() == content


def test_without_a_record_only_the_same_text_is_written_again(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the stage is run by hand, or DVC is killed before it notes what the stage made."""
    assert [run_here(project, "download") for _ in range(2)] == [0, 0]
    first = (project / CORPUS).read_text()
    (project / "text.txt").write_text(first + "corrected")
    assert run_here(project, "download") == 2 and "left as it is: move it" in caplog.text
    assert (project / CORPUS).read_text() == first


def test_a_corpus_that_was_downloaded_is_replaced_and_another_text_in_its_place_is_not(
    project: Path,
) -> None:
    first = (project / "text.txt").read_text()
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_text() == first
    (project / "text.txt").write_text(first + "corrected")
    dvc(project, "repro", "split")  # DVC notices it, since `download.watch` names the file
    assert (project / CORPUS).read_text() == first + "corrected"
    assert (project / "Datasets/split/val.txt").read_text().endswith("corrected")
    shutil.rmtree(project / "Datasets")
    dvc(project, "checkout", "download")
    assert (project / CORPUS).read_text() == first + "corrected"
    (project / CORPUS).unlink()
    (project / CORPUS).write_text(OWN)
    assert_refused(project, "left as it is: move it")
    write_params(project, {"download.source": CORPUS})
    assert run_here(project, "download") == 2
    assert (project / CORPUS).read_text() == OWN
