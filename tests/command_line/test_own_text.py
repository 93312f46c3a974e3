"""A user's only copy of a text is never lost, through real `dvc repro`."""

import hashlib
import shutil
from pathlib import Path

import pytest

from charlstm.files.checksums import write_sums
from tests.support.projects import ROOT, make_project, write_params
from tests.support.stages import dvc, run_dvc, run_here, start_dvc

CORPUS = "Datasets/shakespear.txt"
NOWHERE = "gopher://127.0.0.1/text.txt"  # an unsupported protocol, so that no server is asked
OWN = "my only copy, " * 50


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project under git and DVC in which no stage has run."""
    folder = tmp_path / "project"
    make_project(folder)
    start_dvc(folder)
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    return folder


def assert_refused(project: Path, reason: str) -> None:
    done = run_dvc(project, "repro", "download")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert [reason in line for line in errors].count(True) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_where_the_corpus_goes_survives(project: Path) -> None:
    """A file of checksums that looks like the stage's own changes nothing."""
    (project / "Datasets").mkdir()
    (project / CORPUS).write_text(OWN)
    write_sums(project / f"{CORPUS}.sha256", [Path(CORPUS).name])
    before = (project / f"{CORPUS}.sha256").read_bytes()
    assert_refused(project, "the download will not overwrite this file")
    assert (project / CORPUS).read_text() == OWN
    assert (project / f"{CORPUS}.sha256").read_bytes() == before
    (project / CORPUS).rename(project / "own.txt")  # as the message says
    write_params(project, {"download.source": "own.txt", "sample.prompts": "auto"})
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_text() == (project / "own.txt").read_text() == OWN


@pytest.mark.slow
def test_a_text_comes_back_from_the_cache_by_a_commit(project: Path) -> None:
    """This holds after another text, without the source, and after a bare `dvc checkout`."""
    content = (project / "text.txt").read_bytes()
    by_url = {"download.source": NOWHERE, "download.sha256": hashlib.sha256(content).hexdigest()}
    write_params(project, {**by_url, "download.watch": "text.txt"})
    (project / "mirror").mkdir()
    (project / "mirror/shakespear.txt").write_bytes(content)
    dvc(project, "repro", "download", CHARLSTM_MIRROR="mirror")
    dvc(project, "git", "add", "dvc.lock")
    dvc(project, "git", "commit", "-qm", "the text")
    (project / "other.txt").write_text("another text, " * 50)
    other = {"download.name": "other", "download.source": "other.txt"}
    write_params(project, {**other, "download.watch": "other.txt", "sample.prompts": "auto"})
    dvc(project, "repro", "download")
    run_dvc(project, "checkout", "dvc.yaml")
    assert (project / CORPUS).read_bytes() == content, "the documented command removes nothing"
    run_dvc(project, "checkout")
    assert not (project / CORPUS).exists()
    write_params(project, {**by_url, "download.watch": "text.txt"})
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_bytes() == content


def test_without_a_record_only_the_same_text_is_written_again(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The stage was run by hand, or DVC was killed before it recorded the outputs."""
    assert [run_here(project, "download") for _ in range(2)] == [0, 0]
    first = (project / CORPUS).read_text()
    (project / "text.txt").write_text(first + "corrected")
    assert run_here(project, "download") == 2
    assert "the download will not overwrite this file" in caplog.text
    assert (project / CORPUS).read_text() == first


def test_a_corpus_that_was_downloaded_is_replaced_and_another_text_in_its_place_is_not(
    project: Path,
) -> None:
    first = (project / "text.txt").read_text()
    dvc(project, "repro", "download")
    assert (project / CORPUS).read_text() == first
    (project / "text.txt").write_text(first + "corrected")
    # DVC notices the change, because `download.watch` names the file.
    dvc(project, "repro", "split")
    assert (project / CORPUS).read_text() == first + "corrected"
    assert (project / "Datasets/split/val.txt").read_text().endswith("corrected")
    (project / CORPUS).unlink()
    (project / CORPUS).write_text(OWN)
    assert_refused(project, "the download will not overwrite this file")
    write_params(project, {"download.source": CORPUS})
    assert run_here(project, "download") == 2
    assert (project / CORPUS).read_text() == OWN
