"""Which errors a user can fix, and which systems are supported."""

import errno
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.projects import ROOT
from pipeline.run.stage import guarded, run


def raising(error: OSError) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_parameters_that_change_while_a_stage_runs_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """DVC would record the new ones. What the stage does not depend on may change."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    code = "from benchmarks.projects import write_params\n\ndef run(*_):\n    write_params(FOLDER, CHANGES)\n"
    (tmp_path / "split.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("split", tmp_path / "split.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for changes, expected in (({"sample.num_chars": 7}, 0), ({"split.val_fraction": 0.2}, 2)):
        vars(module).update(FOLDER=tmp_path, CHANGES=changes)
        assert run(module.run, []) == expected
    assert "params.yaml: split.val_fraction was changed while stage split ran, so what it made" in caplog.text


def test_an_error_without_a_number_is_a_defect() -> None:
    with pytest.raises(OSError, match="something else"):
        guarded(raising(OSError("something else")))


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (lambda: len(Path("no-such-file").read_text()), "no-such-file: No such file or directory"),
        (raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model")), "model: No space left on device"),
        (raising(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x")), "x: Permission denied"),
    ],
)
def test_what_a_user_can_mend_is_one_line(work: Callable[[], int], line: str, caplog: pytest.LogCaptureFixture) -> None:
    assert guarded(work) == 2
    (said,) = [record.getMessage() for record in caplog.records]
    assert line in said
