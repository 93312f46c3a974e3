"""Which errors a user can fix, and which systems are supported."""

import errno
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.run.stage import guarded, run
from tests.support.projects import ROOT, write_params


def raising(error: OSError) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


EDITS = {
    "write_params(FOLDER, {'sample.num_chars': 7})": None,
    "write_params(FOLDER, {'split.val_fraction': 0.2})": "split.val_fraction",
    "(FOLDER / 'charlstm/corpus/parts.py').write_text('MAX = 2')": "charlstm/corpus",
    "(FOLDER / 'Datasets/shakespear.txt').unlink()": "Datasets/shakespear.txt",
}


@pytest.mark.parametrize(("edit", "named"), EDITS.items())
def test_inputs_that_change_while_a_stage_runs_end_it(
    edit: str,
    named: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """DVC would record the changed ones. What the stage does not depend on may change."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    write_params(tmp_path, {})
    for name in ("charlstm/corpus/parts.py", "Datasets/shakespear.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("MAX = 1")
    (tmp_path / "split.py").write_text(
        f"from tests.support.projects import write_params\n\ndef run(*_):\n    {edit}\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("split", tmp_path / "split.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["FOLDER"] = tmp_path
    assert run(module.run, []) == (2 if named else 0)
    message = (
        f"{named} changed while stage split ran, so DVC records no outputs: run `dvc repro` again"
    )
    assert (message in caplog.text) == bool(named)


def test_an_error_without_a_number_is_a_defect() -> None:
    with pytest.raises(OSError, match="something else"):
        guarded(raising(OSError("something else")))


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (lambda: len(Path("no-such-file").read_text()), "no-such-file: No such file or directory"),
        (
            raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model")),
            "model: No space left on device",
        ),
        (
            raising(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x")),
            "x: Permission denied",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    work: Callable[[], int], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert guarded(work) == 2
    (said,) = [record.getMessage() for record in caplog.records]
    assert line in said
