"""What DVC has recorded: `dvc.lock` is read by one reader, which says if it is damaged."""

from pathlib import Path

import pytest

from benchmarks.projects import ROOT
from charlstm.errors import CharlstmError
from pipeline.download import is_of_these_parameters
from pipeline.dvc.record import Lock, md5, parse_lock, read_lock, recorded_outputs

DAMAGED = (
    "",
    "no record",
    "stages: 1\n",
    "stages: {split: {outs: 5}}\n",
    "stages: {split: {params: {params.yaml: 7}}}\n",
    "<<<<<<< HEAD\nstages: {}\n=======\nstages: {}\n>>>>>>> other\n",
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_lock_is_one_line_that_says_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(text)
    assert parse_lock(text) is None
    with pytest.raises(CharlstmError, match=r"^dvc\.lock: damaged, .*`git checkout HEAD dvc\.lock` [^\n]*$"):
        recorded_outputs("split")


def test_without_a_lock_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_lock() is None and recorded_outputs("split") == {}


def test_the_record_of_this_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lock = read_lock()
    assert lock is not None and len(lock.stages) == 6
    for kind in ("outs", "deps"):
        by_stage = [lock.files(kind, stage) for stage in lock.stages]
        assert all(by_stage) and lock.files(kind) == {path: md5 for files in by_stage for path, md5 in files.items()}
    assert recorded_outputs("split") == {Path("Datasets/split"): lock.files("outs")["Datasets/split"]}
    assert recorded_outputs("another") == {}
    assert set(lock.params("encode")) == {"encode", "split.document_separator"} < set(lock.params())


def test_files_and_folders_have_the_names_that_dvc_gives_them(copy: Path) -> None:
    (copy / "charlstm/model/__pycache__").mkdir(exist_ok=True)
    (copy / "charlstm/model/__pycache__/gates.pyc").write_bytes(b"other times")
    lock = parse_lock((copy / "dvc.lock").read_text())
    assert lock is not None
    recorded = lock.files("deps") | lock.files("outs")
    assert {path: md5(copy / path) for path in recorded} == recorded and "charlstm/model" in recorded


def test_parameters_are_compared_but_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("split: {a: 1, b: 2}\n")
    assert is_of_these_parameters("split")
    Path("dvc.lock").write_text("stages: {split: {params: {params.yaml: {split: {a: 1, b: 2}}}}}")
    for now, is_same, is_same_but_b in (
        ("{a: 1, b: 2}", True, True),
        ("{a: 1, b: 3}", False, True),
        ("{a: 2}", False, False),
    ):
        Path("params.yaml").write_text(f"split: {now}\nencode: {{c: 1}}\n")
        assert is_of_these_parameters("split") is is_same
        assert is_of_these_parameters("split", but="b") is is_same_but_b
        assert not is_of_these_parameters("split", "encode", but="b")  # encode has no record


def test_what_has_no_md5_is_no_damage() -> None:
    """DVC writes an ETag of a URL instead."""
    lock = parse_lock("stages: {download: {deps: [{path: https://a/b, etag: x}, {path: c, md5: d}]}}")
    assert isinstance(lock, Lock) and lock.files("deps") == {"https://a/b": "", "c": "d"}
