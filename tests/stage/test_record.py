"""What DVC has recorded: `dvc.lock` is read by one reader, which says if it is damaged."""

from pathlib import Path

import pytest

from benchmarks.projects import ROOT
from charlstm.errors import CharlstmError
from charlstm.params import load_params
from pipeline.dvc.paths import load_paths
from pipeline.dvc.record import (
    Lock,
    is_of_these_parameters,
    parse_lock,
    read_lock,
    recorded_inputs,
    recorded_outputs,
)
from pipeline.lineage.rebuilding import rebuild

PARAMS, PATHS = load_params(ROOT / "params.yaml"), load_paths(ROOT / "dvc.yaml")
DAMAGED = (
    "",
    "no record",
    "schema: '2.0'\n",
    "stages: 1\n",
    "stages: {split: }\n",
    "stages: {split: {outs: 5}}\n",
    "stages: {split: {outs: [{md5: 00}]}}\n",
    "stages: {split: {deps: [a, b]}}\n",
    "stages: {split: {params: {params.yaml: 7}}}\n",
    "<<<<<<< HEAD\nstages: {}\n=======\nstages: {}\n>>>>>>> other\n",
    "stages: {split: [\n",
    "stages: \x00\n",
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_lock_is_one_line_that_says_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(text)
    assert parse_lock(text) is None
    for read in (
        lambda: recorded_outputs("split"),
        lambda: recorded_inputs("split"),
        lambda: is_of_these_parameters("split"),
        lambda: rebuild(PARAMS, PATHS),  # `charlstm sync --files`
    ):
        with pytest.raises(CharlstmError, match=r"^dvc\.lock: damaged, .*`git checkout HEAD dvc\.lock` [^\n]*$"):
            read()


def test_without_a_lock_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_lock() is None and recorded_outputs("split") == recorded_inputs("split") == {}
    assert is_of_these_parameters("split")
    with pytest.raises(CharlstmError, match=r"^dvc\.lock: .* found none"):
        rebuild(PARAMS, PATHS)


def test_the_record_of_this_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lock = read_lock()
    assert lock is not None and len(lock.stages) == 6
    for kind in ("outs", "deps"):
        by_stage = [lock.files(kind, stage) for stage in lock.stages]
        assert all(by_stage) and lock.files(kind) == {path: md5 for files in by_stage for path, md5 in files.items()}
    assert recorded_outputs("split") == {Path("Datasets/split"): lock.files("outs")["Datasets/split"]}
    assert Path("Datasets/split") in recorded_inputs("encode") and recorded_outputs("another") == {}
    assert set(lock.params("encode")) == {"encode", "split.document_separator"} < set(lock.params())


def test_parameters_are_compared_but_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text("stages: {split: {params: {params.yaml: {split: {a: 1, b: 2}}}}}")
    for now, is_same, is_same_but_b in (
        ("{a: 1, b: 2}", True, True),
        ("{a: 1, b: 3}", False, True),
        ("{a: 2}", False, False),
    ):
        Path("params.yaml").write_text(f"split: {now}\nencode: {{}}\n")
        assert is_of_these_parameters("split") is is_same
        assert is_of_these_parameters("split", but="b") is is_same_but_b
        assert not is_of_these_parameters("split", "encode", but="b")  # encode has no record


def test_what_has_no_md5_is_no_damage() -> None:
    """DVC writes an ETag of a URL instead."""
    lock = parse_lock("stages: {download: {deps: [{path: https://a/b, etag: x}, {path: c, md5: d}]}}")
    assert isinstance(lock, Lock) and lock.files("deps") == {"https://a/b": "", "c": "d"}
