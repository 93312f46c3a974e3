"""What all stages share: load parameters and paths, run, and turn errors into one line and an exit code."""

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.errors import CharlstmError, Interrupted, ParamsError
from pipeline.run.interruption import stop_with_parent, without_ignored
from pipeline.run.project import PARAMS, check_settings, rank, store

if TYPE_CHECKING:  # commands that need no parameters start without pydantic and their schema
    from charlstm.params import Params
    from pipeline.run.dvc import Paths

EXIT_BAD_INPUT = 2
GO_BACK = (
    "git checkout HEAD . && dvc checkout dvc.yaml"  # without the name, DVC would remove other texts
)
MAX_NAMED = 3  # changed inputs in a message
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
SECONDS_TO_LET_THE_FIRST_REPORT = 3

UNWINDING = ("SIGTERM", "SIGHUP")
# Linux is what is tested. macOS has all that is needed, and has not been tried.
UNSUPPORTED = ("win32", "cygwin", "emscripten", "wasi")
PACKAGES = ("charlstm", "pipeline")  # a module of these that is missing is a defect
# Errors of the operating system that a user can fix: files, permissions, space, limits, broken disks.
USER_ERRORS = {
    errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV,
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK,
    errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EOPNOTSUPP,
}  # fmt: skip

Stage = Callable[["Params", "Paths"], None]


def run(stage: Stage, argv: Sequence[str] | None = None) -> int:
    """Run `stage` in the current folder; its exit code. A stage takes no options: `params.yaml` has them."""
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


def check_unchanged(stage: str, before: dict[str, object]) -> None:
    """Check that the inputs of a stage are what they were before it ran.

    DVC hashes inputs after a stage has ended, and would record the changed ones as the origin of its outputs.

    Raises:
        ParamsError: an input changed.
    """
    from pipeline.run.dvc import inputs_of

    now = inputs_of(stage, load()[0])
    if changed := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
        advice = "run `dvc repro` again"
        if stage == "train":
            advice = "restore what changed, and `dvc repro` finishes from the last checkpoint; else it trains anew"
        raise ParamsError(
            f"{', '.join(changed[:MAX_NAMED])} changed while stage {stage} ran, so DVC records no outputs: {advice}"
        )


def run_work(work: Callable[[], None]) -> int:
    """Run `work`, all that a stage does; its exit code."""

    def to_its_end() -> int:
        stop_with_parent()
        check_settings()
        store()  # a wrong address of MLflow ends the stage before its work, not after
        work()
        return 0

    return with_removed_outputs_named(lambda: guarded(to_its_end))


def with_removed_outputs_named(run: Callable[[], int]) -> int:
    """Return the exit code of `run`. If it fails, say how to restore the outputs that DVC removed before."""
    from pipeline.run.dvc import cached, recorded_outputs

    code, stage = None, os.environ.get("DVC_STAGE", "")  # `train`, or `sub/dvc.yaml:train`
    try:
        code = run()
    finally:
        with contextlib.suppress(OSError, CharlstmError):  # no record
            recorded = (
                recorded_outputs(stage.rpartition(":")[2]) if code != 0 and rank() == 0 else {}
            )
            if any(not path.exists() and cached(md5) for path, md5 in recorded.items()):
                advice = (
                    "DVC removed the outputs of %s before it ran: `%s` goes back to the last commit"
                )
                advice += ", and discards your changes"
                logging.getLogger("charlstm").warning(advice, stage, GO_BACK)
    return code


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`; or one line for what a user can fix, and an exit code that tells the kind.

    Anything else is a defect of ours and keeps its traceback.
    """
    os.environ["MPLBACKEND"] = (
        "agg"  # pictures are files; a notebook sets a backend that only its own process has
    )
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("charlstm").setLevel(logging.INFO)
    if sys.platform in UNSUPPORTED:
        return _fail(
            f"expected Linux or macOS, found {sys.platform}, which lacks the signals and the folder syncs that keep "
            "results safe: run it in the Windows Subsystem for Linux (WSL), or in a container",
            EXIT_BAD_INPUT,
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # what the terminal's encoding lacks is shown as `\\u2026`
            stream.reconfigure(errors="backslashreplace")
    # A polite kill unwinds the stack like Ctrl-C does: temporary files go, the tracked run ends.
    previous = {
        number: signal.signal(number, signal.default_int_handler)
        for number in without_ignored(UNWINDING)
    }
    try:
        return work()
    except BaseException as error:
        if (explanation := _explanation(error)) is None:
            raise
        return _fail(*explanation)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _explanation(error: BaseException) -> tuple[str, int] | None:
    """The one line and the exit code for an error; None for a defect."""
    match error:
        case CharlstmError():
            return str(error), EXIT_BAD_INPUT
        case OSError(errno=number) if number in USER_ERRORS:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}", EXIT_BAD_INPUT
        case ModuleNotFoundError() if (name := (error.name or "").partition(".")[0]) not in (
            "",
            *PACKAGES,
        ):
            advice = "`pip install --editable 'PATH/TO/THE/CHECKOUT[pipeline]'` brings what training needs"
            return f"{name} is not installed: {advice}", EXIT_BAD_INPUT
        case Interrupted():
            return (
                f"interrupted: the same command resumes from the last checkpoint ({error})",
                EXIT_INTERRUPTED,
            )
        case KeyboardInterrupt():
            return "interrupted", EXIT_INTERRUPTED
    return None


def load() -> tuple["Params", "Paths"]:
    """The parameters and paths in the files of the current folder."""
    from charlstm.params import load_params
    from pipeline.run.dvc import load_paths

    return load_params(PARAMS), load_paths()


def _fail(message: str, code: int) -> int:
    """Say what is wrong, once for all processes that a launcher started.

    The first process reports at once. The others wait: if it fails too, the launcher ends them before they repeat its
    line. If the problem is theirs alone, they report it.
    """
    if (number := rank()) > 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SECONDS_TO_LET_THE_FIRST_REPORT)
        message = f"process {number}: {message}"
    logging.getLogger("charlstm").error(" ".join(message.split("\n")))
    return code
