"""Errors that a user can fix, and inputs that change while a stage runs."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.run.stage import errors_reported, main
from tests.support.commands import only_error
from tests.support.projects import ROOT, write_params

EDITS: dict[str | None, Callable[[], object]] = {
    None: lambda: write_params(Path(), {"sample.num_chars": 7}),
    "split.val_fraction": lambda: write_params(Path(), {"split.val_fraction": 0.2}),
    "charlstm/corpus": lambda: Path("charlstm/corpus/parts.py").write_text("MAX = 2"),
    "Datasets/shakespear.txt": lambda: Path("Datasets/shakespear.txt").unlink(),
}


@pytest.mark.parametrize("named", EDITS)
def test_inputs_that_change_while_a_stage_runs_end_it(
    named: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """DVC would record the changed inputs. Inputs of other stages may change."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    write_params(tmp_path, {})
    for name in ("charlstm/corpus/parts.py", "Datasets/shakespear.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("MAX = 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.split.run", lambda _: EDITS[named]())

    assert main(["split"]) == (2 if named else 0)
    message = f"{named} changed while stage split ran, so DVC records no outputs: run `dvc repro`"
    assert (message in caplog.text) == bool(named)


def test_code_that_changed_after_the_start_of_the_process_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python may have imported the code before the edit. Data is read later."""
    monkeypatch.chdir(project)
    started = time.time()
    for name in ("Datasets/shakespear.txt", "pipeline/train.py"):
        Path(name).write_bytes(Path(name).read_bytes())
        assert main(["split"], started) == 0
    Path("charlstm/corpus/parts.py").touch()
    assert main(["split"], started) == 2
    assert "charlstm/corpus changed while stage split ran" in only_error(caplog)


def test_an_error_without_a_number_is_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    with errors_reported() as outcome:
        raise OSError("something else")
    assert outcome.code == 1
    assert "Traceback" in capsys.readouterr().err


FAULTS = {
    "no-such-file: No such file or directory": FileNotFoundError(2, os.strerror(2), "no-such-file"),
    "model: No space left on device": OSError(errno.ENOSPC, os.strerror(28), "model"),
    "x: Permission denied": PermissionError(errno.EACCES, os.strerror(13), "x"),
}


@pytest.mark.parametrize("line", FAULTS)
def test_what_a_user_can_mend_is_one_line(line: str, caplog: pytest.LogCaptureFixture) -> None:
    with errors_reported() as outcome:
        raise FAULTS[line]
    assert outcome.code == 2
    assert line in only_error(caplog)
