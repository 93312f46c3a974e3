"""What DVC has recorded: `dvc.lock` is read by one reader, which says if it is damaged."""

from pathlib import Path

import pytest

from charlstm.errors import CharlstmError
from pipeline.run.dvc import md5, parse_lock, recorded_outputs


@pytest.mark.parametrize("text", ["", "stages: {split: {outs: 5}}\n", "<<<<<<< HEAD\nstages: {}\n=======\n"])
def test_a_damaged_lock_is_one_line_that_says_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(text)
    assert parse_lock(text) is None
    with pytest.raises(CharlstmError, match=r"^dvc\.lock: damaged, .*`git checkout HEAD dvc\.lock` [^\n]*$"):
        recorded_outputs("split")


def test_files_and_folders_have_the_names_that_dvc_gives_them(copy: Path) -> None:
    (copy / "charlstm/model/__pycache__").mkdir(exist_ok=True)
    (copy / "charlstm/model/__pycache__/gates.pyc").write_bytes(b"other times")
    lock = parse_lock((copy / "dvc.lock").read_text())
    assert lock is not None
    recorded = lock.files("deps") | lock.files("outs")
    assert {path: md5(copy / path) for path in recorded} == recorded and "charlstm/model" in recorded
