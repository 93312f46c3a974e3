"""Which errors a user can fix, and which systems are supported."""

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.projects import ROOT
from pipeline.stage.stage import guarded, run
from pipeline.stage.terminal import reason_of


def raising(error: OSError) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def read_a_closed_file() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return len(os.read(descriptor, 1))


def seek_in_a_pipe() -> int:
    reading, writing = os.pipe()
    try:
        return os.lseek(reading, 0, os.SEEK_SET)
    finally:
        os.close(reading)
        os.close(writing)


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


@pytest.mark.parametrize("work", [read_a_closed_file, seek_in_a_pipe])
def test_a_defect_keeps_its_traceback(
    work: Callable[[], int],
) -> None:
    with pytest.raises(OSError, match="Bad file descriptor|Illegal seek"):
        guarded(work)


def test_an_error_without_a_number_is_a_defect() -> None:
    with pytest.raises(OSError, match="something else"):
        guarded(raising(OSError("something else")))


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (lambda: len(Path("no-such-file").read_text()), "no-such-file: No such file or directory"),
        (lambda: len(Path("/").read_text()), "/: Is a directory"),
        (lambda: len(Path("/dev/null/x").read_text()), "/dev/null/x: Not a directory"),
        (lambda: len(Path("x" * 300).read_text()), "File name too long"),
        (raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model")), "model: No space left on device"),
        (raising(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "model")), "model: Disk quota exceeded"),
        (raising(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x")), "x: Permission denied"),
        (raising(OSError(errno.EROFS, os.strerror(errno.EROFS), "x")), "x: Read-only file system"),
        (raising(OSError(errno.EMFILE, os.strerror(errno.EMFILE))), "Too many open files"),
    ],
)
def test_what_a_user_can_mend_is_one_line(work: Callable[[], int], line: str, caplog: pytest.LogCaptureFixture) -> None:
    assert guarded(work) == 2
    (said,) = [record.getMessage() for record in caplog.records]
    assert line in said


WINDOWS = """
import signal, sys
import pipeline.evaluate, pipeline.train  # what these import themselves asks for the platform, too
for name in [name for name in sys.modules if name.startswith("pipeline")]:
    del sys.modules[name]
for name in ("SIGUSR1", "SIGHUP"):
    delattr(signal, name)
sys.platform = "win32"
from pipeline import launch, split, train
from pipeline.stage import stage
assert stage.run(train.run, []) == stage.run(split.run, []) == launch.main(["echo", "started"]) == 2
"""


def test_windows_is_refused_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    refusals = done.stderr.splitlines()
    assert len(refusals) == 3
    assert all(line.startswith("ERROR: expected Linux or macOS, found win32") for line in refusals)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("exit(3)", "exit code 3"),
        ("exit('first\\n  last\\n \\n')", "  last"),
        ("raise ValueError('bad')", "ValueError: bad"),
    ],
)
def test_why_a_program_failed_is_its_last_line_or_its_exit_code(code: str, reason: str) -> None:
    assert reason_of(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)) == reason
