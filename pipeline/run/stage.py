"""The frame of a stage: it loads parameters and turns errors into one line and an exit code."""

import argparse
import contextlib
import errno
import inspect
import io
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from charlstm.errors import CharlstmError, Interrupted, ParamsError
from pipeline.run.interruption import handled_signals, stop_with_parent
from pipeline.run.project import PARAMS, check_settings, rank, store

# Commands that need no parameters start faster without these imports.
if TYPE_CHECKING:
    from charlstm.params import Params
    from pipeline.run.dvc import Paths

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL in sysexits.h: try again
# Without the argument `dvc.yaml`, `dvc checkout` would also remove the other recipes' texts.
GO_BACK = "git checkout HEAD . && dvc checkout dvc.yaml"
MAX_NAMED = 3  # number of changed inputs that an error message lists
SECONDS_TO_LET_THE_FIRST_REPORT = 3

UNWINDING = ("SIGTERM", "SIGHUP")
# Linux is tested. macOS has everything that this code needs, but is untested.
SUPPORTED = ("linux", "darwin")
PACKAGES = ("charlstm", "pipeline")
# Operating-system errors that only a defect in this program can cause.
# Users can fix all other errors: files, permissions, disk space, limits and broken disks.
DEFECTS = (errno.EBADF, errno.ECHILD, errno.EINVAL, errno.EPIPE, errno.ESRCH)

log = logging.getLogger("charlstm")

Stage = Callable[["Params", "Paths"], None]


def run(stage: Stage, argv: Sequence[str] | None = None) -> int:
    """Run `stage` in the current folder. Return its exit code.

    A stage has no options, because `params.yaml` has all its parameters.
    """
    argparse.ArgumentParser(description=stage.__doc__).parse_args(argv)
    name = Path(inspect.getfile(stage)).stem

    def work() -> None:
        from pipeline.run.dvc import inputs_of

        params, paths = load()
        before = inputs_of(name, params)
        stage(params, paths)
        if rank() == 0:
            check_unchanged(name, before)

    return run_work(work)


def load() -> tuple["Params", "Paths"]:
    """Return the parameters and paths of the project in the current folder."""
    from charlstm.params import load_params
    from pipeline.run.dvc import load_paths

    return load_params(PARAMS), load_paths()


def check_unchanged(stage: str, before: dict[str, object]) -> None:
    """Check that a stage's inputs did not change while the stage ran.

    DVC hashes inputs after a stage. It would record changed inputs as the origin of the outputs.

    Raises:
        ParamsError: an input changed.
    """
    from pipeline.run.dvc import inputs_of

    now = inputs_of(stage, load()[0])
    if changed := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
        advice = "run `dvc repro` again"
        if stage == "train":
            advice = (
                "restore the changed inputs, and `dvc repro` finishes from the last checkpoint; "
                "otherwise `dvc repro` trains from the start"
            )
        raise ParamsError(
            f"{', '.join(changed[:MAX_NAMED])} changed while stage {stage} ran, so DVC records no "
            f"outputs: {advice}"
        )


def run_work(work: Callable[[], None]) -> int:
    """Run a stage's work, after the checks that all stages share. Return its exit code."""

    def checked_work() -> int:
        stop_with_parent()
        check_settings()
        # An invalid MLflow address must end the stage before its work, not after its work.
        store()
        work()
        return 0

    return with_removed_outputs_named(lambda: guarded(checked_work))


def with_removed_outputs_named(run: Callable[[], int]) -> int:
    """Call `run` and return its exit code. On failure, log how to restore removed outputs."""
    code = 1
    try:
        code = run()
    finally:
        # A damaged or missing `dvc.lock` must not hide the first error.
        with contextlib.suppress(OSError, CharlstmError):
            if code != 0 and rank() == 0:
                _name_removed_outputs()
    return code


def _name_removed_outputs() -> None:
    from pipeline.run.dvc import cached, read_lock

    stage = os.environ.get("DVC_STAGE", "")  # for example `train` or `sub/dvc.yaml:train`
    recorded = read_lock().files("outs", stage.rpartition(":")[2])
    if any(cached(md5) for path, md5 in recorded.items() if not Path(path).exists()):
        log.warning(
            "DVC removed the outputs of %s before it ran: `%s` goes back to the last commit and "
            "discards your changes",
            stage,
            GO_BACK,
        )


def guarded(work: Callable[[], int]) -> int:
    """Call `work` and return its exit code. Turn a user-fixable error into a one-line message.

    Any other error is a defect of this program and keeps its traceback.
    """
    # A notebook may set a Matplotlib backend that exists only in the notebook's own process.
    os.environ["MPLBACKEND"] = "agg"
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    if sys.platform not in SUPPORTED:
        return _fail(
            f"expected Linux or macOS, found {sys.platform}, which lacks the signals and the "
            "folder syncs that keep results safe: run it in the Windows Subsystem for Linux (WSL), "
            "or in a container",
            EXIT_BAD_INPUT,
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Write characters that the terminal's encoding lacks as escapes, such as `\u2026`.
            stream.reconfigure(errors="backslashreplace")
    # Let these signals unwind the stack, as Ctrl-C does.
    # Unwinding removes temporary files and ends the tracked run.
    with handled_signals(UNWINDING, signal.default_int_handler):
        try:
            return work()
        except BaseException as error:
            if (explanation := _explanation(error)) is None:
                raise
            return _fail(*explanation)


def end_process(work: Callable[[], int]) -> NoReturn:
    """Run `work`, then end this process at once, with the exit code of `work`.

    A regular exit would wait for threads of MLflow: 0.14 s after `charlstm generate`. If another
    training process was lost, torch's destructors may abort a regular exit, or wait forever.
    """
    code = 1
    try:
        code = work()
    except Exception:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        # The stream may be closed (None), or its reader may have ended.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _explanation(error: BaseException) -> tuple[str, int] | None:
    """Return an error's one-line message and exit code, or None for a defect of this program."""
    match error:
        case CharlstmError():
            return str(error), EXIT_BAD_INPUT
        case OSError(errno=int(number)) if number not in DEFECTS:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}", EXIT_BAD_INPUT
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] not in PACKAGES:
            return (
                f"{name.partition('.')[0]} is not installed: `pip install --editable "
                "'PATH/TO/THE/CHECKOUT[pipeline]'` installs all packages that training needs",
                EXIT_BAD_INPUT,
            )
        case Interrupted():
            return (
                f"interrupted: the same command resumes from the last checkpoint ({error})",
                EXIT_INTERRUPTED,
            )
        case KeyboardInterrupt():
            return "interrupted", EXIT_INTERRUPTED
    return None


def _fail(message: str, code: int) -> int:
    """Log an error message only once, however many processes were launched. Return `code`.

    The first process reports at once. The others wait: if the first fails, too, the launcher ends
    them before they repeat its line. If only they have the problem, they report it.
    """
    if (number := rank()) > 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SECONDS_TO_LET_THE_FIRST_REPORT)
        message = f"process {number}: {message}"
    log.error(" ".join(message.split("\n")))
    return code
