"""A user's own text, through real `dvc repro`: whatever the parameters say, its only copy is never lost."""

import shutil
from pathlib import Path

import pytest
from stages import dvc, run_dvc

from benchmarks.projects import ROOT, make_project, write_params

CORPUS = "Datasets/shakespear.txt"
OWN = "my only copy, " * 50


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project under git and DVC in which nothing has run."""
    folder = tmp_path / "project"
    make_project(folder)
    dvc(folder, "git", "init", "-q")
    dvc(folder, "init", "-q")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    return folder


def assert_refused(project: Path, reason: str) -> None:
    done = run_dvc(project, "repro", "download")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ") and reason in line]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("source", [CORPUS, "text.txt"])
@pytest.mark.parametrize("has_run", [False, True])
def test_a_file_where_the_corpus_goes_survives(project: Path, source: str, has_run: bool) -> None:
    if has_run:
        dvc(project, "repro", "download")
    (project / "Datasets").mkdir(exist_ok=True)
    (project / CORPUS).unlink(missing_ok=True)
    (project / CORPUS).write_text(OWN)
    write_params(project, {"download.source": source})
    assert_refused(project, "outside of what the pipeline writes" if source == CORPUS else "left as it is: move it")
    assert (project / CORPUS).read_text() == OWN
    (project / CORPUS).rename(project / "own.txt")  # what the message says
    write_params(project, {"download.source": "own.txt"})
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_text() == (project / "own.txt").read_text() == OWN


def test_a_corpus_that_was_downloaded_is_replaced(project: Path) -> None:
    first = (project / "text.txt").read_text()
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_text() == first
    assert "up to date" in dvc(project, "repro", "download")
    (project / "text.txt").write_text(first + "corrected")
    dvc(project, "repro", "--force", "download")
    assert (project / CORPUS).read_text() == first + "corrected"
    shutil.rmtree(project / "Datasets")
    dvc(project, "checkout", "download")
    assert (project / CORPUS).read_text() == first + "corrected"
