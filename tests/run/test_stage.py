"""Errors that a user can fix, and inputs that change while a stage runs."""

import errno
import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.run.stage import guarded, run
from tests.support.commands import only_error
from tests.support.projects import ROOT, write_params


def raising(error: OSError) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


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
    monkeypatch.setattr(inspect, "getfile", lambda _: "split.py")  # where `run` finds the name

    def stage(*_: object) -> None:
        EDITS[named]()

    assert run(stage, []) == (2 if named else 0)
    message = f"{named} changed while stage split ran, so DVC records no outputs: run `dvc repro`"
    assert (message in caplog.text) == bool(named)


def test_an_error_without_a_number_is_a_defect() -> None:
    with pytest.raises(OSError, match="something else"):
        guarded(raising(OSError("something else")))


FAULTS = {
    "no-such-file: No such file or directory": lambda: len(Path("no-such-file").read_text()),
    "model: No space left on device": raising(OSError(errno.ENOSPC, os.strerror(28), "model")),
    "x: Permission denied": raising(PermissionError(errno.EACCES, os.strerror(13), "x")),
}


@pytest.mark.parametrize("line", FAULTS)
def test_what_a_user_can_mend_is_one_line(line: str, caplog: pytest.LogCaptureFixture) -> None:
    assert guarded(FAULTS[line]) == 2
    assert line in only_error(caplog)
